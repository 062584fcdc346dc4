import {
  NetworkPeer,
  type Network,
  type NetworkEndpoint,
  type NetworkService,
  type NetworkTable,
} from '../../proto/index.ts';

/** Changes of one network that are remembered; agents further behind get its table whole. */
const JOURNAL_MAX = 8192;

/** What a change of a table was about; nothing: the network or its nodes. */
export interface Noted {
  task?: string;
  service?: string;
}

/** What an agent was sent last of a network. Members are shared with the index. */
export interface TableBase {
  version: number;
  network: Network | null;
  peers: NetworkPeer[];
}

/** What was touched since a version. */
export interface TableNews {
  tasks: ReadonlySet<string>;
  services: ReadonlySet<string>;
}

/** A network's table as of now, by id. */
export interface TableParts {
  version: number;
  network: Network;
  endpoints: ReadonlyMap<string, NetworkEndpoint>;
  services: ReadonlyMap<string, NetworkService>;
  peers: NetworkPeer[];
}

/** Which versions of one network's table changed what, so that agents can be sent what is new to them. */
export class TableJournal {
  #noted: ({ version: number } & Noted)[] = [];
  /** All changes after this version are noted; undefined before the first. */
  #since: number | undefined;
  /** Deltas to the version of now, by base. */
  readonly #deltas = new Map<number, { base: TableBase; delta: NetworkTable }[]>();

  note(version: number, { task, service }: Noted): void {
    this.#deltas.clear();
    // What was there before the first change was noted is known of no version.
    this.#since ??= version;
    if (task === undefined && service === undefined) return;
    this.#noted.push({
      version,
      ...(task === undefined ? {} : { task }),
      ...(service === undefined ? {} : { service }),
    });
    if (this.#noted.length < 2 * JOURNAL_MAX) return;
    const dropped = this.#noted.splice(0, JOURNAL_MAX);
    this.#since = Math.max(this.#since, dropped.at(-1)?.version ?? 0);
  }

  /** What was touched after `version`; undefined when that is not known any more. */
  since(version: number): TableNews | undefined {
    if (this.#since === undefined || version < this.#since) return undefined;
    const tasks = new Set<string>();
    const services = new Set<string>();
    for (let at = this.#noted.length - 1; at >= 0; at--) {
      const entry = this.#noted[at];
      if (entry === undefined || entry.version <= version) break;
      if (entry.task !== undefined) tasks.add(entry.task);
      if (entry.service !== undefined) services.add(entry.service);
    }
    return { tasks, services };
  }

  /** The message for agents that have `base`; the same object for all of them, so that it is encoded once. */
  delta(base: TableBase, news: TableNews, networkId: string, now: TableParts): NetworkTable {
    const known = this.#deltas.get(base.version) ?? [];
    const alike = known.find(({ base: { network, peers } }) => network === base.network && peers === base.peers);
    if (alike !== undefined && alike.delta.version === now.version) return alike.delta;
    const old = new Map(base.peers.map((peer) => [peer.node_id, peer]));
    const peers =
      now.peers === base.peers ? [] : now.peers.filter((one) => !NetworkPeer.equal(old.get(one.node_id), one));
    const left = now.peers === base.peers ? [] : [...old.keys()];
    const here = new Set(now.peers.map((peer) => peer.node_id));
    const delta: NetworkTable = {
      network_id: networkId,
      version: now.version,
      network: now.network === base.network ? null : now.network,
      endpoints: present(news.tasks, now.endpoints),
      services: present(news.services, now.services),
      peers,
      base_version: base.version,
      removed_task_ids: [...news.tasks].filter((id) => !now.endpoints.has(id)),
      removed_service_ids: [...news.services].filter((id) => !now.services.has(id)),
      removed_node_ids: left.filter((id) => !here.has(id)),
    };
    this.#deltas.set(base.version, [...known, { base, delta }]);
    return delta;
  }
}

function present<T>(ids: ReadonlySet<string>, members: ReadonlyMap<string, T>): T[] {
  return [...ids].flatMap((id) => members.get(id) ?? []);
}
