import type {
  Config,
  NetworkCheckOrder,
  NetworkCheckReport,
  NetworkTable,
  NodeDescription,
  Secret,
  Task,
  TaskStatus,
} from '../proto/index.ts';

/** What an agent needs of the host: implemented over the engine by the daemon, by a fake in tests. */
export interface Executor {
  /** What this host is and has. Cheap; asked again from time to time. */
  describe(): Promise<NodeDescription>;
  /** The handle of one task; the same id gives the same container, also after a restart of the daemon. */
  controller(task: Task, dependencies: TaskDependencies): TaskController;
  /** Replaces what is known of a network. */
  setNetworkTable(table: NetworkTable): Promise<void>;
  /** A table has come: names follow it at once, before and whatever becomes of `setNetworkTable`. */
  announceNetworkTable(table: NetworkTable): void;
  removeNetworkTable(networkId: string): Promise<void>;
  /** Proves that networks work, as a manager ordered. Absent: this host cannot. */
  checkNetworks?(order: NetworkCheckOrder): Promise<NetworkCheckReport>;
  /** Removes containers of tasks that are not in `taskIds` (left over from an earlier life). */
  removeOrphans(taskIds: ReadonlySet<string>): Promise<void>;
}

/** Secrets and configs that were assigned to this node, by id. */
export interface TaskDependencies {
  secret(id: string): Secret | undefined;
  config(id: string): Config | undefined;
}

/** The end of a container. */
export interface TaskExit {
  exitCode: number;
  /** Words for the user when it was more than an exit code (out of memory, health check). */
  error?: string;
}

/** One line written by a task. */
export interface TaskLogLine {
  stream: 'stdout' | 'stderr';
  /** ms since the epoch, with fractions. */
  timestampMs: number;
  data: Uint8Array;
}

export interface TaskLogOptions {
  stdout: boolean;
  stderr: boolean;
  follow: boolean;
  /** Last lines to begin with; undefined means all. */
  tail?: number;
  /** Only lines from this time on, ms since the epoch. */
  sinceMs?: number;
}

/**
 * One task's container, as verbs. Each verb is idempotent and continues from whatever exists; each may be called again
 * after a crash. Errors are ShoalErrors; `Unavailable` means that another try may succeed.
 */
export interface TaskController {
  /** Makes everything ready to start: networks, volumes, image, container. */
  prepare(signal: AbortSignal): Promise<void>;
  start(signal: AbortSignal): Promise<void>;
  /** The state as it is: whether the container exists, runs, or has ended. */
  observe(): Promise<TaskObservation>;
  /** Resolves when the container has ended. */
  wait(signal: AbortSignal): Promise<TaskExit>;
  /** Takes the task out of service, then stops it by its stop signal and, after its grace period, by SIGKILL. */
  shutdown(): Promise<void>;
  /** Removes the container and all that belonged to it alone. */
  remove(): Promise<void>;
  /** Container id, pid, exit code and published host ports for the status. */
  runtimeStatus(): Promise<Pick<TaskStatus, 'container' | 'port_status'>>;
  logs(options: TaskLogOptions, signal: AbortSignal): AsyncIterable<TaskLogLine>;
  /** What the container uses, read at once; undefined when it does not run. May throw; then there is no reading. */
  usage?(): TaskUse | undefined;
}

/** A reading of a container's control group. */
export interface TaskUse {
  /** CPU time since the container's start, ns. */
  cpuNs: number;
  /** Memory that cannot be given back at once, bytes; undefined when the host does not count it. */
  memoryBytes: number | undefined;
  /** When it was read, on the agent's monotonic clock, ms. */
  atMs: number;
}

export interface TaskObservation {
  state: 'absent' | 'created' | 'running' | 'exited';
  exit?: TaskExit;
}
