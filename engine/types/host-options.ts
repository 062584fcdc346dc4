import type { IdMapping } from './id-mapping.ts';

/** A device node of the host, or a directory of them, shown in a container. */
export interface DeviceMapping {
  pathOnHost: string;
  pathInContainer: string;
  /** Letters of r, w and m (making nodes). */
  permissions: string;
}

/** Devices that a driver chooses: `--gpus`, or CDI names (driver `cdi`). */
export interface DeviceRequest {
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
export interface HostOptions {
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
  /** Ids of its users on the host, fixed when it is made; left out: the same as inside. */
  idMapping?: IdMapping;
  /** Cgroup below which the container stands. */
  cgroupParent?: string;
  /** Size of /dev/shm, bytes. */
  shmBytes?: number;
  devices?: readonly DeviceMapping[];
  /** `c 42:* rmw`, as in the control group of devices. */
  deviceCgroupRules?: readonly string[];
  deviceRequests?: readonly DeviceRequest[];
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

/** What containers get that say nothing themselves: settings of the daemon. Left out: Docker's own defaults. */
export interface ContainerDefaults {
  /** No process gains privileges by executing a program. */
  noNewPrivileges?: boolean;
  /** `unconfined`, or the text of a seccomp profile. */
  seccomp?: string;
  /** Size of /dev/shm, bytes. */
  shmBytes?: number;
  ipcMode?: 'private' | 'shareable';
  cgroupnsMode?: 'host' | 'private';
  /** Program of the init process. */
  initPath?: string;
}
