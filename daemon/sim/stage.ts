import type { Logger, SeededRandom } from '../../base/index.ts';
import type { Commit, ReadView } from '../../manager/index.ts';
import type { Journal, Scheduler, SimNetwork, SimProcess } from '../../raft/sim/index.ts';
import type { ContainerWatch } from './container.ts';
import type { Wires } from './links.ts';
import type { Profile } from './profile.ts';
import type { RpcServer } from './rpc.ts';

/** A manager's state as one that looks at it sees it. */
export interface WatchedStore {
  view(): ReadView;
  stateHash(): string;
}

/** A worker that takes in assignments. */
export interface AssignedWorker {
  readonly name: string;
  readonly nodeId: string;
  readonly assigned: { readonly tasks: ReadonlyMap<string, readonly string[]>; readonly secrets: ReadonlySet<string> };
}

/** Is told of all that happens, and knows what must not. */
export interface Watcher extends ContainerWatch {
  /** A manager applied an entry. */
  applied(nodeId: string, store: WatchedStore, index: number, commits: readonly Commit[]): void;
  assigned(worker: AssignedWorker): void;
  /** A leader took a call of a node's agent. */
  heard(nodeId: string): void;
}

/** A manager as others find it. */
export interface ManagerAddress {
  readonly id: number;
  readonly addr: string;
  readonly member: { raftId: number; nodeId: string; addr: string };
  /** Undefined while its program does not run. */
  server(): RpcServer | undefined;
}

/** What hosts stand on. */
export interface Stage {
  readonly scheduler: Scheduler;
  /** Virtual time, ms. */
  readonly now: number;
  /** Wall-clock time without any skew, ms since the epoch. */
  readonly wallMs: number;
  readonly profile: Profile;
  readonly journal: Journal;
  readonly network: SimNetwork;
  readonly wires: Wires;
  readonly oracle: Watcher;
  readonly managers: readonly ManagerAddress[];
  /** Keeps the first failure; the run ends with it. */
  fail(error: unknown): void;
  logOf(name: string): Logger;
  /** One run of a program on a host. */
  newProcess(random: SeededRandom, hostId: number, fail: (error: unknown) => void): SimProcess;
  /** Whether the container of a task runs on the machine of a node. */
  runs(nodeId: string, taskId: string): boolean;
  managerAt(addr: string): ManagerAddress | undefined;
  /** Where nothing listens: whoever connects there learns so, or hears nothing. */
  nobody(addr: string): RpcServer;
}
