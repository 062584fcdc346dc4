import {
  fieldTag,
  joinParts,
  Network,
  NetworkEndpoint,
  NetworkPeer,
  NetworkService,
  NetworkTable,
  type EncodedPart,
  type MessageType,
} from '../../proto/index.ts';

const NETWORK_TAG = fieldTag(3);
const ENDPOINTS_TAG = fieldTag(4);
const SERVICES_TAG = fieldTag(5);
const PEERS_TAG = fieldTag(6);

/** Encodings by object; they go with it. Objects are replaced when they change, see network-index.ts. */
class Kept<T extends object> {
  readonly #bytes = new WeakMap<T, Uint8Array>();
  readonly #type: MessageType<T>;

  constructor(type: MessageType<T>) {
    this.#type = type;
  }

  get(value: T): Uint8Array {
    let bytes = this.#bytes.get(value);
    if (bytes === undefined) this.#bytes.set(value, (bytes = this.#type.encode(value as never)));
    return bytes;
  }
}

/**
 * Encodes network tables as `NetworkTable` does. A version of a table is encoded once for all agents that get it, and
 * of its parts only those that the version before did not have: a change costs what changed, and a copy of the rest.
 */
export class TableCodec {
  readonly #tables = new WeakMap<NetworkTable, Uint8Array>();
  readonly #networks = new Kept(Network);
  readonly #endpoints = new Kept(NetworkEndpoint);
  readonly #services = new Kept(NetworkService);
  readonly #peers = new Kept(NetworkPeer);

  /** Shared: do not change it. */
  encode(table: NetworkTable): Uint8Array {
    let bytes = this.#tables.get(table);
    if (bytes === undefined) this.#tables.set(table, (bytes = this.#encode(table)));
    return bytes;
  }

  #encode(table: NetworkTable): Uint8Array {
    const { network_id, version, network } = table;
    const parts: EncodedPart[] = [NetworkTable.encode({ network_id, version })];
    if (network !== null) parts.push({ tag: NETWORK_TAG, bytes: this.#networks.get(network) });
    for (const one of table.endpoints) parts.push({ tag: ENDPOINTS_TAG, bytes: this.#endpoints.get(one) });
    for (const one of table.services) parts.push({ tag: SERVICES_TAG, bytes: this.#services.get(one) });
    for (const one of table.peers) parts.push({ tag: PEERS_TAG, bytes: this.#peers.get(one) });
    if (table.base_version !== 0) parts.push(deltaFields(table));
    return joinParts(parts);
  }
}

/** What only deltas have. */
function deltaFields(table: NetworkTable): Uint8Array {
  const { base_version, removed_task_ids, removed_service_ids, removed_node_ids } = table;
  return NetworkTable.encode({ base_version, removed_task_ids, removed_service_ids, removed_node_ids });
}
