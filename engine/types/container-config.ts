import type { EndpointLink, EndpointSpec, PublishedPort } from '../../overlay-net/index.ts';

/** A mount as a user asked for it. */
export interface MountRequest {
  type: 'bind' | 'volume' | 'tmpfs';
  /** Host path, or volume name (empty: an anonymous volume). */
  source: string;
  target: string;
  readOnly: boolean;
  /** Bind: private, rprivate, shared, rshared, slave, rslave. */
  propagation?: string;
  /** Bind: create the host path when it is missing. */
  createMountpoint?: boolean;
  /** Volume: do not copy the image's files in. */
  noCopy?: boolean;
  volumeDriver?: string;
  volumeOptions?: Readonly<Record<string, string>>;
  volumeLabels?: Readonly<Record<string, string>>;
  /** tmpfs: bytes and permission bits. */
  tmpfsSizeBytes?: number;
  tmpfsMode?: number;
}

export interface UlimitRequest {
  name: string;
  soft: number;
  hard: number;
}

/** What a container may use; undefined means unlimited or the default. */
export interface ResourceLimits {
  memoryBytes?: number;
  /** Bytes of memory and swap together; -1 is unlimited. */
  memorySwapBytes?: number;
  memoryReservationBytes?: number;
  /** Billionths of one CPU. */
  nanoCpus?: number;
  cpuShares?: number;
  cpusetCpus?: string;
  pidsLimit?: number;
  ulimits?: readonly UlimitRequest[];
  oomScoreAdj?: number;
}

/** A file put into the container before it starts (secret or config), kept in memory. */
export interface InjectedFile {
  /** Absolute path in the container. */
  target: string;
  data: Uint8Array;
  uid: number;
  gid: number;
  mode: number;
}

export interface HealthCheckRequest {
  /** ['NONE'], ['CMD', …] or ['CMD-SHELL', text]; empty inherits the image's. */
  test: readonly string[];
  intervalMs: number;
  timeoutMs: number;
  startPeriodMs: number;
  /** Between two checks of the start period; 0 or left out: as `intervalMs` (images: 5 s when there is a period). */
  startIntervalMs?: number;
  retries: number;
}

/** Everything that makes a container; stored with it. Fields left out take the image's or Docker's default. */
export interface ContainerConfig {
  /** Without the leading slash; empty: one is made up. */
  name: string;
  /** Reference or id, as the user wrote it. */
  image: string;
  entrypoint?: readonly string[];
  cmd?: readonly string[];
  env: readonly string[];
  workingDir?: string;
  user?: string;
  groups?: readonly string[];
  hostname?: string;
  domainname?: string;
  /** Ports the container serves, `80/tcp`; with those of its image. */
  exposedPorts?: readonly string[];
  /** Every exposed port gets a port of the host. */
  publishAll?: boolean;
  labels: Readonly<Record<string, string>>;
  tty: boolean;
  openStdin: boolean;
  /** Standard input ends with the first client that ends its own; else it stays open for the next. */
  stdinOnce?: boolean;
  /** Size of the terminal at the start, in characters. */
  consoleSize?: { height: number; width: number };
  readOnlyRootfs: boolean;
  init: boolean;
  stopSignal?: string;
  stopGraceMs?: number;
  mounts: readonly MountRequest[];
  files: readonly InjectedFile[];
  resources: ResourceLimits;
  capAdd: readonly string[];
  capDrop: readonly string[];
  privileged: boolean;
  noNewPrivileges: boolean;
  /** 'default', 'unconfined', or the text of a profile. */
  seccomp: string;
  sysctls: Readonly<Record<string, string>>;
  extraHosts: readonly string[];
  dns: readonly string[];
  dnsSearch: readonly string[];
  dnsOptions: readonly string[];
  network: NetworkRequest;
  healthCheck?: HealthCheckRequest;
  logDriver: { type: string; config: Readonly<Record<string, string>> };
  restart: { name: 'no' | 'always' | 'unless-stopped' | 'on-failure'; maximumRetryCount: number };
  autoRemove: boolean;
}

export type NetworkRequest =
  | { mode: 'host' }
  | { mode: 'none' }
  /** The namespace of another container, by name or id. */
  | { mode: 'container'; container: string }
  | {
      mode: 'sandbox';
      endpoints: readonly EndpointSpec[];
      ports: readonly PublishedPort[];
      taskId?: string;
      /** Legacy links: containers of the default network, told by hosts file and environment. */
      links?: readonly EndpointLink[];
      /** The network as the user named it. */
      userMode?: string;
    };
