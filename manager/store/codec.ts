import { sha256 } from '@noble/hashes/sha2.js';
import { bytesToHex } from '@noble/hashes/utils.js';
import {
  Cluster,
  Config,
  InternalRaftRequest,
  Network,
  Node,
  Secret,
  Service,
  ServiceRevision,
  Snapshot,
  Snapshot_Version,
  StoreAction,
  StoreActionKind,
  Task,
  type MessageType,
  type Partially,
  type StoreSnapshot,
} from '../../proto/index.ts';
import { KINDS, TableSet } from './tables.ts';
import type { Kind, Tables } from './types.ts';

/** The codec of each kind. */
export const TYPES: { readonly [K in Kind]: MessageType<Tables[K]> } = {
  cluster: Cluster,
  node: Node,
  service: Service,
  network: Network,
  task: Task,
  secret: Secret,
  config: Config,
  revision: ServiceRevision,
};

/** A deep copy of an object that may then be changed. */
export function cloneObject<K extends Kind>(kind: K, object: Tables[K]): Tables[K] {
  return (TYPES[kind] as MessageType<Tables[K]>).clone(object);
}

/** The encoded action that brings an object to its new state. `baseVersion` is the version its proposer saw. */
export function encodeAction<K extends Kind>(
  kind: K,
  action: StoreActionKind,
  object: Tables[K],
  baseVersion: number,
): Uint8Array {
  const versioned =
    action === StoreActionKind.STORE_ACTION_REMOVE
      ? { id: object.id, meta: { version: { index: baseVersion } } }
      : { ...object, meta: { ...object.meta, version: { index: baseVersion } } };
  return StoreAction.encode({ action, [kind]: versioned });
}

/** Tag of `InternalRaftRequest.action`: field 2, length-delimited. */
const ACTION_TAG = 0x12;

function writeVarint(target: Uint8Array, at: number, value: number): number {
  let rest = value;
  let position = at;
  while (rest > 127) {
    target[position++] = (rest % 128) | 0x80;
    rest = Math.floor(rest / 128);
  }
  target[position++] = rest;
  return position;
}

/** A log entry's data from actions that are encoded already, so that no object is encoded twice. */
export function encodeRequest(id: number, actions: readonly Uint8Array[]): Uint8Array {
  const head = InternalRaftRequest.encode({ id });
  const room = actions.reduce((sum, action) => sum + action.length + 6, head.length);
  const out = new Uint8Array(room);
  out.set(head, 0);
  let position = head.length;
  for (const action of actions) {
    out[position++] = ACTION_TAG;
    position = writeVarint(out, position, action.length);
    out.set(action, position);
    position += action.length;
  }
  return out.subarray(0, position);
}

function sorted<K extends Kind>(tables: TableSet, kind: K): Tables[K][] {
  return tables.list(kind).toSorted((a, b) => (a.id < b.id ? -1 : 1));
}

/** The whole state as a `Snapshot` message, objects in the order of their ids. */
export function encodeSnapshot(tables: TableSet): Uint8Array {
  const store: Partially<StoreSnapshot> = {
    nodes: sorted(tables, 'node'),
    services: sorted(tables, 'service'),
    networks: sorted(tables, 'network'),
    tasks: sorted(tables, 'task'),
    clusters: sorted(tables, 'cluster'),
    secrets: sorted(tables, 'secret'),
    configs: sorted(tables, 'config'),
    revisions: sorted(tables, 'revision'),
  };
  return Snapshot.encode({ version: Snapshot_Version.V0, store });
}

/** Tables from the bytes of `encodeSnapshot`. @throws Error when they are no snapshot. */
export function decodeSnapshot(data: Uint8Array): TableSet {
  const tables = new TableSet();
  const store = Snapshot.decode(data).store;
  if (store === null) return tables;
  for (const node of store.nodes) tables.put('node', node);
  for (const service of store.services) tables.put('service', service);
  for (const network of store.networks) tables.put('network', network);
  for (const task of store.tasks) tables.put('task', task);
  for (const cluster of store.clusters) tables.put('cluster', cluster);
  for (const secret of store.secrets) tables.put('secret', secret);
  for (const config of store.configs) tables.put('config', config);
  for (const revision of store.revisions) tables.put('revision', revision);
  return tables;
}

/** SHA-256 (hex) over every object in the order of kind and id; equal exactly when two replicas hold the same. */
export function hashTables(tables: TableSet): string {
  const hash = sha256.create();
  for (const kind of KINDS) {
    for (const object of sorted(tables, kind)) {
      const bytes = (TYPES[kind] as MessageType<Tables[Kind]>).encode(object);
      hash.update(new TextEncoder().encode(`${kind}/${object.id}/${bytes.length}\n`));
      hash.update(bytes);
    }
  }
  return bytesToHex(hash.digest());
}
