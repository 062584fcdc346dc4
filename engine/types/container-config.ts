import type { EndpointLink, EndpointSpec, PublishedPort } from '../../overlay-net/index.ts';
import type { HostOptions } from './host-options.ts';

/** A mount as a user asked for it. */
export interface MountRequest {
  type: 'bind' | 'volume' | 'tmpfs' | 'image';
  /** Host path, volume name (empty: an anonymous volume), or image. */
  source: string;
  target: string;
  readOnly: boolean;
  /** Bind: private, rprivate, shared, rshared, slave, rslave. */
  propagation?: string;
  /** Bind: create the host path when it is missing. */
  createMountpoint?: boolean;
  /** Bind: what is mounted below the source stays out. */
  nonRecursive?: boolean;
  /** Bind, read-only: what is mounted below the source may be written. */
  readOnlyNonRecursive?: boolean;
  /** Bind, read-only: all below the source must be read-only, or the start fails. */
  readOnlyForceRecursive?: boolean;
  /** Volume: do not copy the image's files in. */
  noCopy?: boolean;
  volumeDriver?: string;
  volumeOptions?: Readonly<Record<string, string>>;
  volumeLabels?: Readonly<Record<string, string>>;
  /** tmpfs: bytes and permission bits. */
  tmpfsSizeBytes?: number;
  tmpfsMode?: number;
  /** tmpfs: more options of mount(8). */
  tmpfsOptions?: readonly string[];
  /** Volume: the part of it that is mounted, a relative path. */
  volumeSubpath?: string;
  /** Image: the part of it that is mounted, a relative path. */
  imageSubpath?: string;
  /** Words behind the second colon of `-v`, or behind that of `--tmpfs`. */
  mode?: string;
  /** What it was asked with; left out: `--mount`. */
  from?: 'bind' | 'tmpfs';
  /** Nobody asked for it but the image, or the list of places to keep. */
  declared?: boolean;
  /** Taken without effect on Linux. */
  consistency?: string;
}

export interface UlimitRequest {
  name: string;
  soft: number;
  hard: number;
}

/** A block device's share of its bandwidth, 10 to 1000. */
export interface DeviceWeight {
  path: string;
  weight: number;
}

/** Bytes or operations per second on a block device. */
export interface DeviceRate {
  path: string;
  rate: number;
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
  /** CPU time in each period, and the period, µs. */
  cpuQuotaUs?: number;
  cpuPeriodUs?: number;
  cpuRealtimePeriodUs?: number;
  cpuRealtimeRuntimeUs?: number;
  cpusetCpus?: string;
  cpusetMems?: string;
  /** How readily memory is swapped out, 0 to 100. */
  memorySwappiness?: number;
  /** 10 to 1000. */
  blkioWeight?: number;
  blkioWeightDevices?: readonly DeviceWeight[];
  blkioReadBps?: readonly DeviceRate[];
  blkioWriteBps?: readonly DeviceRate[];
  blkioReadIops?: readonly DeviceRate[];
  blkioWriteIops?: readonly DeviceRate[];
  pidsLimit?: number;
  /** Processes wait instead of being killed when memory is full (cgroup v1 only). */
  oomKillDisable?: boolean;
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
export interface ContainerConfig extends HostOptions {
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
