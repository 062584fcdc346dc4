import type { EndpointResult, EndpointSpec, PublishedPort } from '../../overlay-net/index.ts';
import type { ContainerConfig } from './container-config.ts';

export type ContainerState = 'created' | 'running' | 'paused' | 'restarting' | 'removing' | 'exited' | 'dead';

/** A container as it is. */
export interface Container {
  id: string;
  config: ContainerConfig;
  imageId: string;
  createdMs: number;
  state: ContainerState;
  pid: number;
  /** Its control group below every tree, since its last start. */
  cgroupPath?: string;
  exitCode: number;
  oomKilled: boolean;
  error: string;
  /** 0 when it never happened. */
  startedMs: number;
  finishedMs: number;
  restartCount: number;
  health?: 'starting' | 'healthy' | 'unhealthy';
  /** The last probes of its health check. */
  healthLog?: HealthLog;
  endpoints: readonly EndpointResult[];
  ports: readonly PublishedPort[];
  mounts: readonly ContainerMount[];
  logPath: string;
  /** Files of /etc made for it, since its first start. */
  etc?: { hostname: string; hosts: string; resolvConf: string };
  /** The command line that runs: entrypoint and arguments joined. */
  path: string;
  args: readonly string[];
}

/** One run of a health check. */
export interface HealthProbe {
  startMs: number;
  endMs: number;
  /** -1 when it was not run to its end. */
  exitCode: number;
  /** At most 4096 bytes of it. */
  output: string;
}

export interface HealthLog {
  /** Failures in a row that count. */
  failingStreak: number;
  /** The newest last. */
  probes: readonly HealthProbe[];
}

export interface ContainerMount {
  type: 'bind' | 'volume' | 'tmpfs' | 'image';
  name?: string;
  source: string;
  destination: string;
  driver?: string;
  readOnly: boolean;
  propagation: string;
  /** Words that the user gave with it. */
  mode?: string;
  /** Of a mounted image. */
  imageId?: string;
}

export interface LogLine {
  stream: 'stdout' | 'stderr';
  timestampMs: number;
  /** RFC 3339 with nanoseconds, as stored. */
  time: string;
  /** With its line end. */
  data: Uint8Array;
  /** It goes on with a line too long to be given out whole. */
  continued?: true;
}

export interface LogQuery {
  stdout: boolean;
  stderr: boolean;
  follow: boolean;
  tail?: number;
  sinceMs?: number;
  untilMs?: number;
  /** As `sinceMs` and `untilMs`, exact: RFC 3339 in UTC with nine digits of the second. */
  since?: string;
  until?: string;
}

/** The containers of one host. */
export interface Containers {
  /** @throws ShoalError NotFound "No such image: …", Conflict for a taken name, InvalidArgument. */
  create(config: ContainerConfig): Promise<{ id: string; warnings: string[] }>;
  start(reference: string): Promise<void>;
  stop(reference: string, options: { signal?: string; graceMs?: number }): Promise<void>;
  kill(reference: string, signal: string): Promise<void>;
  remove(reference: string, options: { force: boolean; volumes: boolean }): Promise<void>;
  /** Resolves when the container does not run (at once when it never did). */
  wait(
    reference: string,
    condition: 'not-running' | 'next-exit' | 'removed',
    signal: AbortSignal,
  ): Promise<{ exitCode: number; error?: string }>;
  /** By full id, name, or prefix of an id. @throws ShoalError NotFound "No such container: …". */
  inspect(reference: string): Container;
  list(): Container[];
  /** What a running container uses; undefined when it does not run. @throws ShoalError NotFound */
  usage(reference: string): ContainerUsage | undefined;
  logs(reference: string, query: LogQuery, signal: AbortSignal): AsyncIterable<LogLine>;
  /** As `logs`, many lines at a time. */
  logBlocks(reference: string, query: LogQuery, signal: AbortSignal): AsyncIterable<LogLine[]>;
  /** The attributes that the log's options ask for, as `docker logs --details` words them; empty for none. */
  logDetails(reference: string): string;
  /** Connects to one more network; while it runs, at once. @throws ShoalError in Docker's words */
  connect(reference: string, endpoint: EndpointSpec): Promise<void>;
  /** @throws ShoalError PermissionDenied when the container is not on the network. */
  disconnect(reference: string, networkId: string): Promise<void>;
  /** Runs a command in a running container and collects its output. */
  exec(reference: string, request: ExecRequest, signal: AbortSignal): Promise<ExecOutcome>;
}

/** A reading of a container's control group. */
export interface ContainerUsage {
  /** CPU time since the container's start, ns. */
  cpuNs: number;
  /** Memory that cannot be given back at once, bytes; undefined when this host does not count it. */
  memoryBytes: number | undefined;
  /** When it was read, on the monotonic clock, ms. */
  atMs: number;
}

export interface ExecRequest {
  command: readonly string[];
  env: readonly string[];
  user?: string;
  workingDir?: string;
  privileged: boolean;
}

export interface ExecOutcome {
  exitCode: number;
  stdout: Uint8Array;
  stderr: Uint8Array;
}
