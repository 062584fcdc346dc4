/* What the routes need of containers. Structural, as ports.ts. */
import type { HealthCheckFacts, HostOptionsFacts, MountRequestFacts, ResourceFacts } from './host-options-port.ts';

export interface PortFacts {
  protocol: string;
  targetPort: number;
  publishedPort: number;
  hostIp: string;
}

/** What a container was made from, its image's settings included. */
export interface ContainerConfigFacts extends HostOptionsFacts {
  name: string;
  image: string;
  env: readonly string[];
  labels: Readonly<Record<string, string>>;
  tty: boolean;
  openStdin: boolean;
  readOnlyRootfs: boolean;
  hostname?: string;
  user?: string;
  workingDir?: string;
  entrypoint?: readonly string[];
  cmd?: readonly string[];
  stopSignal?: string;
  autoRemove: boolean;
  privileged: boolean;
  capAdd: readonly string[];
  capDrop: readonly string[];
  resources: ResourceFacts;
  restart: { name: string; maximumRetryCount: number };
  logDriver: { type: string; config: Readonly<Record<string, string>> };
  domainname?: string;
  exposedPorts?: readonly string[];
  groups?: readonly string[];
  publishAll?: boolean;
  init?: boolean;
  stopGraceMs?: number;
  mounts?: readonly MountRequestFacts[];
  sysctls?: Readonly<Record<string, string>>;
  healthCheck?: HealthCheckFacts;
  extraHosts?: readonly string[];
  dns?: readonly string[];
  dnsSearch?: readonly string[];
  dnsOptions?: readonly string[];
  network: {
    mode: string;
    container?: string;
    userMode?: string;
    endpoints?: readonly (Omit<EndpointRequestFacts, 'address6'> & { address6?: string })[];
    ports?: readonly PortRequestFacts[];
    links?: readonly { target: string; alias: string }[];
  };
}

export interface ContainerFacts {
  id: string;
  config: ContainerConfigFacts;
  imageId: string;
  createdMs: number;
  state: string;
  pid: number;
  exitCode: number;
  oomKilled: boolean;
  error: string;
  startedMs: number;
  finishedMs: number;
  restartCount: number;
  health?: string;
  healthLog?: {
    failingStreak: number;
    probes: readonly { startMs: number; endMs: number; exitCode: number; output: string }[];
  };
  endpoints: readonly {
    networkId: string;
    networkName: string;
    address: string;
    gateway: string;
    address6?: string;
    gateway6?: string;
    mac: string;
  }[];
  ports: readonly PortFacts[];
  mounts: readonly {
    type: string;
    name?: string;
    source: string;
    destination: string;
    driver?: string;
    readOnly: boolean;
    propagation: string;
    mode?: string;
  }[];
  logPath: string;
  etc?: { hostname: string; hosts: string; resolvConf: string };
  path: string;
  args: readonly string[];
}

export interface LogLineFacts {
  stream: 'stdout' | 'stderr';
  time: string;
  data: Uint8Array;
  /** It goes on with a line too long to be given out whole. */
  continued?: true;
}

export interface LogQueryFacts {
  stdout: boolean;
  stderr: boolean;
  follow: boolean;
  tail?: number;
  /** RFC 3339 in UTC with nine digits of the second. */
  since?: string;
  until?: string;
}

/** A published port as asked for; a range leads to its first free port. */
export interface PortRequestFacts {
  protocol: 'tcp' | 'udp' | 'sctp';
  targetPort: number;
  publishedPort: number;
  publishedPortEnd?: number;
  hostIp: string;
}

export interface EndpointRequestFacts {
  networkId: string;
  address: string;
  address6: string;
  mac: string;
  aliases: readonly string[];
  links?: readonly { target: string; alias: string }[];
  gwPriority?: number;
}

/** What the body of POST /containers/create asks for. */
export interface ContainerRequestFacts extends HostOptionsFacts {
  name: string;
  image: string;
  entrypoint?: readonly string[];
  cmd?: readonly string[];
  env: readonly string[];
  workingDir?: string;
  user?: string;
  groups?: readonly string[];
  hostname?: string;
  domainname?: string;
  exposedPorts: readonly string[];
  publishAll: boolean;
  labels: Readonly<Record<string, string>>;
  tty: boolean;
  openStdin: boolean;
  readOnlyRootfs: boolean;
  init: boolean;
  stopSignal?: string;
  stopGraceMs?: number;
  mounts: readonly MountRequestFacts[];
  files: readonly never[];
  resources: ResourceFacts;
  capAdd: readonly string[];
  capDrop: readonly string[];
  privileged: boolean;
  noNewPrivileges: boolean;
  seccomp: string;
  sysctls: Readonly<Record<string, string>>;
  extraHosts: readonly string[];
  dns: readonly string[];
  dnsSearch: readonly string[];
  dnsOptions: readonly string[];
  network:
    | { mode: 'host' }
    | { mode: 'none' }
    | { mode: 'container'; container: string }
    | {
        mode: 'sandbox';
        endpoints: readonly EndpointRequestFacts[];
        ports: readonly PortRequestFacts[];
        links?: readonly { target: string; alias: string }[];
        userMode: string;
      };
  healthCheck?: HealthCheckFacts;
  logDriver: { type: string; config: Readonly<Record<string, string>> };
  restart: { name: 'no' | 'always' | 'unless-stopped' | 'on-failure'; maximumRetryCount: number };
  autoRemove: boolean;
}

export interface ContainersPort {
  create(config: ContainerRequestFacts): Promise<{ id: string; warnings: string[] }>;
  connect(reference: string, endpoint: EndpointRequestFacts): Promise<void>;
  disconnect(reference: string, networkId: string): Promise<void>;
  start(reference: string): Promise<void>;
  stop(reference: string, options: { signal?: string; graceMs?: number }): Promise<void>;
  kill(reference: string, signal: string): Promise<void>;
  remove(reference: string, options: { force: boolean; volumes: boolean }): Promise<void>;
  wait(
    reference: string,
    condition: 'not-running' | 'next-exit' | 'removed',
    signal: AbortSignal,
  ): Promise<{ exitCode: number; error?: string }>;
  inspect(reference: string): ContainerFacts;
  list(): ContainerFacts[];
  /** Many lines at a time. */
  logBlocks(reference: string, query: LogQueryFacts, signal: AbortSignal): AsyncIterable<LogLineFacts[]>;
  /** What `details` adds to each line. */
  logDetails(reference: string): string;
  exec(
    reference: string,
    request: {
      command: readonly string[];
      env: readonly string[];
      user?: string;
      workingDir?: string;
      privileged: boolean;
    },
    signal: AbortSignal,
  ): Promise<{ exitCode: number; stdout: Uint8Array; stderr: Uint8Array }>;
}
