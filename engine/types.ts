import type { EndpointLink, EndpointResult, EndpointSpec, PublishedPort } from '../overlay-net/index.ts';

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

export type ContainerState = 'created' | 'running' | 'paused' | 'restarting' | 'removing' | 'exited' | 'dead';

/** A container as it is. */
export interface Container {
  id: string;
  config: ContainerConfig;
  imageId: string;
  createdMs: number;
  state: ContainerState;
  pid: number;
  exitCode: number;
  oomKilled: boolean;
  error: string;
  /** 0 when it never happened. */
  startedMs: number;
  finishedMs: number;
  restartCount: number;
  health?: 'starting' | 'healthy' | 'unhealthy';
  endpoints: readonly EndpointResult[];
  ports: readonly PublishedPort[];
  mounts: readonly ContainerMount[];
  logPath: string;
  /** The command line that runs: entrypoint and arguments joined. */
  path: string;
  args: readonly string[];
}

export interface ContainerMount {
  type: 'bind' | 'volume' | 'tmpfs';
  name?: string;
  source: string;
  destination: string;
  driver?: string;
  readOnly: boolean;
  propagation: string;
}

export interface LogLine {
  stream: 'stdout' | 'stderr';
  timestampMs: number;
  /** RFC 3339 with nanoseconds, as stored. */
  time: string;
  /** With its line end. */
  data: Uint8Array;
}

export interface LogQuery {
  stdout: boolean;
  stderr: boolean;
  follow: boolean;
  tail?: number;
  sinceMs?: number;
  untilMs?: number;
}

/** Something that happened on this host, for `docker events`. */
export interface EngineEvent {
  type: 'container' | 'image' | 'volume' | 'network' | 'daemon';
  action: string;
  actorId: string;
  attributes: Readonly<Record<string, string>>;
  timeMs: number;
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

/** A progress report of a pull, load or import, in the words of the Docker API. */
export interface ImageProgress {
  status?: string;
  id?: string;
  progressDetail?: { current?: number; total?: number };
  stream?: string;
  error?: string;
  /** Result of a push: Tag, Digest, Size. */
  aux?: Readonly<Record<string, string | number>>;
}

export interface RegistryAuth {
  username?: string;
  password?: string;
  identityToken?: string;
  registryToken?: string;
}

/** An image of this host. */
export interface Image {
  /** sha256:… of its configuration. */
  id: string;
  repoTags: string[];
  repoDigests: string[];
  createdMs: number;
  sizeBytes: number;
  architecture: string;
  os: string;
  variant: string;
  /** Layer digests (uncompressed), lowest first. */
  diffIds: string[];
  config: ImageConfig;
  history: { created?: string; created_by?: string; comment?: string; empty_layer?: boolean }[];
  author: string;
  comment: string;
}

/** The `config` object of an OCI image configuration, with Docker's extensions. */
export interface ImageConfig {
  Env?: string[];
  Cmd?: string[] | null;
  Entrypoint?: string[] | null;
  WorkingDir?: string;
  User?: string;
  Labels?: Record<string, string> | null;
  ExposedPorts?: Record<string, object> | null;
  Volumes?: Record<string, object> | null;
  StopSignal?: string;
  Healthcheck?: {
    Test?: string[];
    Interval?: number;
    Timeout?: number;
    StartPeriod?: number;
    StartInterval?: number;
    Retries?: number;
  };
}

/** The images of one host. */
export interface Images {
  /** @throws ShoalError NotFound "No such image: …". */
  get(reference: string): Image;
  list(): Image[];
  /** Pulls by tag or digest; resolves to the image. `report` gets Docker's progress lines. */
  pull(
    reference: string,
    options: { auth?: RegistryAuth; platform?: string; report?: (p: ImageProgress) => void; signal: AbortSignal },
  ): Promise<Image>;
  /** A `docker save` or OCI archive in a file. */
  load(archivePath: string, report: (p: ImageProgress) => void): Promise<void>;
  /** Writes an archive of images (docker-archive and OCI layout in one) that `load` takes. */
  save(references: readonly string[], destinationPath: string): Promise<void>;
  /** A root file system archive in a file becomes an image. */
  importArchive(
    archivePath: string,
    options: { repository: string; tag: string; message: string; changes: readonly string[] },
  ): Promise<Image>;
  tag(reference: string, repository: string, tag: string): Promise<void>;
  remove(reference: string, options: { force: boolean }): Promise<{ untagged: string[]; deleted: string[] }>;
  /** Pushes the image of a reference to its registry. */
  push(
    reference: string,
    options: { auth?: RegistryAuth; report: (p: ImageProgress) => void; signal: AbortSignal },
  ): Promise<void>;
  /** Digest and platforms of a reference in its registry, without pulling. Fails fast when the registry does not resolve. */
  distribution(reference: string, auth: RegistryAuth | undefined, signal: AbortSignal): Promise<Distribution>;
  /** Makes the writable root of a container over an image; returns the mounted path. Idempotent. */
  mountRoot(containerId: string, imageId: string): Promise<string>;
  unmountRoot(containerId: string): Promise<void>;
  /** Unmounts and deletes the writable layer. */
  removeRoot(containerId: string): Promise<void>;
}

export interface Distribution {
  mediaType: string;
  digest: string;
  size: number;
  platforms: { architecture: string; os: string; variant?: string }[];
}

export interface Volume {
  name: string;
  driver: string;
  mountpoint: string;
  createdMs: number;
  labels: Readonly<Record<string, string>>;
  options: Readonly<Record<string, string>>;
  anonymous: boolean;
}

/** The local volumes of one host. */
export interface Volumes {
  create(request: {
    name: string;
    driver: string;
    labels: Readonly<Record<string, string>>;
    options: Readonly<Record<string, string>>;
  }): Promise<Volume>;
  /** @throws ShoalError NotFound "get NAME: no such volume". */
  get(name: string): Volume;
  list(): Volume[];
  /** @throws ShoalError Conflict while a container uses it. */
  remove(name: string, force: boolean): Promise<void>;
  /** Mounts it for a user (container id) and returns the host path; `release` undoes it. */
  acquire(name: string, user: string): Promise<string>;
  release(name: string, user: string): Promise<void>;
}

/** What a container wants of a network of the swarm. */
export interface PlaceRequest {
  /** Name or id. */
  network: string;
  containerId: string;
  /** Names of the container there, its own first. */
  names: readonly string[];
  /** Addresses (without mask) that the user asks for; empty: any. */
  addresses: readonly string[];
}

/** Networks that are not of this host alone: their addresses are given by the managers of a swarm. */
export interface SwarmNetworks {
  /**
   * Gets a place on a network for a container, and waits until the network stands on this host.
   * @throws ShoalError in Docker's words: NotFound, PermissionDenied (not attachable), Unavailable
   */
  attach(request: PlaceRequest): Promise<{ networkId: string; address: string; address6?: string }>;
  /** The container needs its place on the network (on all, without one) no more. */
  detach(containerId: string, networkId?: string): void;
}
