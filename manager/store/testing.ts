import { silentLogger, systemClock, unavailable, type Clock, type Logger } from '../../base/index.ts';
import {
  Node,
  NodeRole,
  NodeSpec_Availability,
  NodeSpec_Membership,
  NodeStatus_State,
  Service,
  Task,
  TaskState,
  type Partially,
} from '../../proto/index.ts';
import { createStore, NO_LEADER_MESSAGE, type Proposer, type ReplicatedStore } from './store.ts';
import type { Kind, Tables } from './types.ts';

export interface MemoryStoreOptions {
  clock?: Clock;
  log?: Logger;
  /** Deep-freezes objects handed out; default true. */
  freeze?: boolean;
}

/** A store on a log of its own that commits at once (asynchronously). For unit tests. */
export interface MemoryStore extends ReplicatedStore {
  /** Whether this manager leads; true at first. */
  setLeader(leader: boolean): void;
  /** Makes the next proposal fail: `lost` never reaches the log, `doubt` does after all, just before the next one. */
  failNext(how: 'lost' | 'doubt', error?: Error): void;
  /** Holds proposals back until `release`. */
  hold(): void;
  release(): void;
  /** Data of all entries so far, for feeding replicas. */
  readonly entries: readonly { index: number; data: Uint8Array }[];
  /** Writes objects as they are (those that exist are replaced). */
  seed(objects: { readonly [K in Kind]?: readonly Tables[K][] }): Promise<void>;
}

class MemoryProposer implements Proposer {
  readonly entries: { index: number; data: Uint8Array }[] = [];
  store: ReplicatedStore | undefined;
  leader = true;
  failure: { how: 'lost' | 'doubt'; error: Error } | undefined;
  #held: (() => void)[] | undefined;
  /** Entries rejected in doubt: they come through just before the next. */
  readonly #late: Uint8Array[] = [];

  isLeader(): boolean {
    return this.leader;
  }

  hold(): void {
    this.#held ??= [];
  }

  release(): void {
    const held = this.#held ?? [];
    this.#held = undefined;
    for (const go of held) go();
  }

  async propose(data: Uint8Array): Promise<number> {
    await new Promise<void>((resolve) => (this.#held === undefined ? resolve() : void this.#held.push(resolve)));
    if (!this.leader) throw unavailable(NO_LEADER_MESSAGE);
    const failure = this.failure;
    this.failure = undefined;
    if (failure?.how === 'lost') throw failure.error;
    if (failure?.how === 'doubt') {
      this.#late.push(data);
      throw failure.error;
    }
    for (const late of this.#late.splice(0)) this.#append(late);
    return this.#append(data);
  }

  #append(data: Uint8Array): number {
    const entry = { index: this.entries.length + 1, data };
    this.entries.push(entry);
    this.store?.apply([entry]);
    return entry.index;
  }
}

/** A store for unit tests. It leads, applies at once, and freezes what it hands out. */
export function createMemoryStore(options: MemoryStoreOptions = {}): MemoryStore {
  const proposer = new MemoryProposer();
  const store = createStore({
    proposer,
    clock: options.clock ?? systemClock,
    log: options.log ?? silentLogger,
    freeze: options.freeze ?? true,
  });
  proposer.store = store;
  return Object.assign(store, {
    entries: proposer.entries,
    setLeader: (leader: boolean) => void (proposer.leader = leader),
    hold: () => proposer.hold(),
    release: () => proposer.release(),
    failNext: (how: 'lost' | 'doubt', error: Error = unavailable(NO_LEADER_MESSAGE)) =>
      void (proposer.failure = { how, error }),
    seed: (objects: { readonly [K in Kind]?: readonly Tables[K][] }) =>
      store.update((tx) => {
        for (const [kind, list] of Object.entries(objects) as [Kind, Tables[Kind][]][]) {
          for (const object of list) {
            const stored = tx.get(kind, object.id);
            if (stored === undefined) tx.create(kind, object);
            else tx.update(kind, { ...object, meta: stored.meta });
          }
        }
      }),
  });
}

/** A replicated service (one replica of image "nginx") named as its id, with what `fields` say instead. */
export function aService(id: string, fields: Partially<Service> = {}): Service {
  return Service.create({
    id,
    spec: {
      annotations: { name: id },
      task: { container: { image: 'nginx' } },
      replicated: { replicas: 1 },
    },
    spec_version: { index: 0 },
    ...fields,
  });
}

/** A task in the state `fields.status.state` (default NEW) that should run. */
export function aTask(id: string, fields: Partially<Task> = {}): Task {
  return Task.create({
    id,
    service_id: 'service',
    slot: 1,
    spec: { container: { image: 'nginx' } },
    spec_version: { index: 0 },
    status: { state: TaskState.NEW },
    desired_state: TaskState.RUNNING,
    ...fields,
  });
}

/** A ready, active worker whose hostname is its id, with 4 CPUs and 8 GiB. */
export function aNode(id: string, fields: Partially<Node> = {}): Node {
  return Node.create({
    id,
    spec: {
      annotations: { name: '' },
      desired_role: NodeRole.WORKER,
      membership: NodeSpec_Membership.ACCEPTED,
      availability: NodeSpec_Availability.ACTIVE,
    },
    role: NodeRole.WORKER,
    description: {
      hostname: id,
      platform: { architecture: 'x86_64', os: 'linux' },
      resources: { nano_cpus: 4e9, memory_bytes: 8 * 2 ** 30 },
      engine: { engine_version: 'test' },
    },
    status: { state: NodeStatus_State.READY, addr: '10.1.0.1' },
    ...fields,
  });
}
