/* Options of a container as the routes need them. Structural, as ports.ts. */

/** A device node of the host, or a directory of them, shown in a container. */
export interface DeviceMappingFacts {
  pathOnHost: string;
  pathInContainer: string;
  /** Letters of r, w and m (making nodes). */
  permissions: string;
}

/** Devices that a driver chooses: `--gpus`, or CDI names (driver `cdi`). */
export interface DeviceRequestFacts {
  driver: string;
  /** -1 for all. */
  count: number;
  deviceIds: readonly string[];
  /** Sets of capabilities, one of which must fit. */
  capabilities: readonly (readonly string[])[];
  options: Readonly<Record<string, string>>;
}

/**
 * Options of a container that tasks of a swarm do not have, as `docker run` takes them. Fields left out mean Docker's
 * default; texts are as the user wrote them.
 */
export interface HostOptionsFacts {
  attachStdin?: boolean;
  attachStdout?: boolean;
  attachStderr?: boolean;
  /** The container's standard input ends with the first client that leaves. */
  stdinOnce?: boolean;
  /** Height and width of the terminal at the start, in characters. */
  consoleSize?: readonly [number, number];
  /** Places that the container keeps in volumes of their own (with those of its image). */
  volumes?: readonly string[];
  /** Driver of volumes that name none. */
  volumeDriver?: string;
  /** `container[:ro|rw]`, whose mounts are taken over. */
  volumesFrom?: readonly string[];
  /** Whether an init was asked for; left out: as the daemon has it. */
  initAsked?: boolean;
  /** Command of the image's SHELL instruction. */
  shell?: readonly string[];
  containerIdFile?: string;
  /** `host` or `container:<name|id>`; empty: one of its own. */
  pidMode?: string;
  /** none, private, shareable, host or `container:<name|id>`. */
  ipcMode?: string;
  /** `host`; empty: one of its own. */
  utsMode?: string;
  /** host or private; left out: private where cgroup v2 stands alone. */
  cgroupnsMode?: string;
  /** `host`; empty: as the daemon has it. */
  usernsMode?: string;
  /** Cgroup below which the container stands. */
  cgroupParent?: string;
  /** Size of /dev/shm, bytes. */
  shmBytes?: number;
  devices?: readonly DeviceMappingFacts[];
  /** `c 42:* rmw`, as in the control group of devices. */
  deviceCgroupRules?: readonly string[];
  deviceRequests?: readonly DeviceRequestFacts[];
  /** `--security-opt` as given; what they mean stands in fields of their own. */
  securityOptions?: readonly string[];
  appArmorProfile?: string;
  /** Control groups are mounted for writing. */
  writableCgroups?: boolean;
  /** Left out: Docker's lists; empty: nothing is hidden. */
  maskedPaths?: readonly string[];
  readonlyPaths?: readonly string[];
  annotations?: Readonly<Record<string, string>>;
  /** Name of the OCI runtime. */
  runtime?: string;
  storageOptions?: Readonly<Record<string, string>>;
  isolation?: string;
  /** `os/architecture[/variant]` that the image must be for. */
  platform?: string;
}

/** A mount as it is asked for; the words are the engine's. */
export interface MountRequestFacts {
  type: 'bind' | 'volume' | 'tmpfs' | 'image';
  source: string;
  target: string;
  readOnly: boolean;
  propagation?: string;
  createMountpoint?: boolean;
  nonRecursive?: boolean;
  readOnlyNonRecursive?: boolean;
  readOnlyForceRecursive?: boolean;
  noCopy?: boolean;
  volumeDriver?: string;
  volumeOptions?: Readonly<Record<string, string>>;
  volumeLabels?: Readonly<Record<string, string>>;
  volumeSubpath?: string;
  imageSubpath?: string;
  tmpfsSizeBytes?: number;
  tmpfsMode?: number;
  tmpfsOptions?: readonly string[];
  mode?: string;
  from?: 'bind' | 'tmpfs';
  consistency?: string;
}

export interface DeviceWeightFacts {
  path: string;
  weight: number;
}

export interface DeviceRateFacts {
  path: string;
  rate: number;
}

/** Limits of a container; fields left out are unlimited or the default. */
export interface ResourceFacts {
  memoryBytes?: number;
  memorySwapBytes?: number;
  memoryReservationBytes?: number;
  memorySwappiness?: number;
  nanoCpus?: number;
  cpuShares?: number;
  cpuQuotaUs?: number;
  cpuPeriodUs?: number;
  cpuRealtimePeriodUs?: number;
  cpuRealtimeRuntimeUs?: number;
  cpusetCpus?: string;
  cpusetMems?: string;
  blkioWeight?: number;
  blkioWeightDevices?: readonly DeviceWeightFacts[];
  blkioReadBps?: readonly DeviceRateFacts[];
  blkioWriteBps?: readonly DeviceRateFacts[];
  blkioReadIops?: readonly DeviceRateFacts[];
  blkioWriteIops?: readonly DeviceRateFacts[];
  pidsLimit?: number;
  ulimits?: readonly { name: string; soft: number; hard: number }[];
  oomScoreAdj?: number;
  oomKillDisable?: boolean;
}

/** A health check; fields of 0 or left out are the image's, or the default. */
export interface HealthCheckFacts {
  test: readonly string[];
  intervalMs: number;
  timeoutMs: number;
  startPeriodMs: number;
  startIntervalMs?: number;
  retries: number;
}
