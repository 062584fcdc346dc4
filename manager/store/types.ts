import type { Subscription } from '../../base/index.ts';
import type { Cluster, Config, Network, Node, Secret, Service, ServiceRevision, Task } from '../../proto/index.ts';

/** The replicated tables. */
export interface Tables {
  cluster: Cluster;
  node: Node;
  service: Service;
  task: Task;
  network: Network;
  secret: Secret;
  config: Config;
  revision: ServiceRevision;
}

export type Kind = keyof Tables;

/**
 * A consistent reading of the store. Objects are shared and must never be changed: take `Type.clone` first. A view is
 * valid only until the caller next awaits, unless it came from `Store.snapshot`.
 */
export interface ReadView {
  get<K extends Kind>(kind: K, id: string): Tables[K] | undefined;
  /** All objects of a kind, in no particular order. */
  list<K extends Kind>(kind: K): Tables[K][];
  /** By `spec.annotations.name`, exact (nodes: by hostname, which may be shared: the first). */
  byName<K extends Kind>(kind: K, name: string): Tables[K] | undefined;
  /** Ids that begin with `prefix`. */
  byIdPrefix<K extends Kind>(kind: K, prefix: string): Tables[K][];
  tasksByService(serviceId: string): Task[];
  tasksByNode(nodeId: string): Task[];
  tasksBySlot(serviceId: string, slot: number): Task[];
  /** Specs that a service has had, oldest first. */
  revisionsByService(serviceId: string): ServiceRevision[];
  /** Services whose task template or spec names this network, secret or config. */
  servicesByNetwork(networkId: string): Service[];
  servicesBySecret(secretId: string): Service[];
  servicesByConfig(configId: string): Service[];
}

/** A transaction: reads see its own writes. All of its writes are committed as one raft entry, or none. */
export interface Transaction extends ReadView {
  /** @throws ShoalError AlreadyExists when the id or the name is taken. */
  create<K extends Kind>(kind: K, object: Tables[K]): void;
  /**
   * Replaces an object. `object.meta.version.index` must be the stored one.
   * @throws ShoalError NotFound, or Unknown "update out of sequence".
   */
  update<K extends Kind>(kind: K, object: Tables[K]): void;
  /** @throws ShoalError NotFound. */
  remove(kind: Kind, id: string): void;
}

/** One object's change. */
export type Change = {
  [K in Kind]: {
    kind: K;
    action: 'create' | 'update' | 'remove';
    object: Tables[K];
    /** The object before; absent for creations. */
    old?: Tables[K];
  };
}[Kind];

/** All changes of one committed raft entry, in order. A `reset` says that a snapshot replaced everything. */
export interface Commit {
  index: number;
  changes: Change[];
  reset: boolean;
}

/** The replicated store of one manager. */
export interface Store {
  /** The present state. */
  view(): ReadView;
  /**
   * Runs `run` against the newest state and commits what it wrote through raft; resolves when it is applied here.
   * `run` is synchronous, may be called once only, and must draw no conclusion from a rejected update. When it throws, nothing is written
   * and the error is passed on.
   * @param urgent somebody waits for it: it goes before what the leader does of its own accord.
   * @throws ShoalError Unavailable when this manager is not the leader or the cluster has no quorum.
   */
  update<T>(run: (tx: Transaction) => T, urgent?: boolean): Promise<T>;
  /** Commits from now on. A slow reader is cut off (`overflowed`) and must read everything anew. */
  watch(): Subscription<Commit>;
}

/** A background duty of the leader. `run` starts with a full reconcile, then follows events until `signal` aborts. */
export interface LeaderDuty {
  readonly name: string;
  run(signal: AbortSignal): Promise<void>;
}
