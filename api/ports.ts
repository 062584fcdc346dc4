import type {
  CheckNetworksRequest,
  CheckNetworksResponse,
  ControlService,
  RequestOf,
  ResponseOf,
  SubscribeLogsMessage,
  SubscribeLogsRequest,
} from '../proto/index.ts';

/** What the routes need of the daemon. Structural: the daemon passes engine objects that have these members. */
export interface Ports {
  system: SystemPort;
  engine: EnginePort;
  swarm: SwarmPort;
}

export type JsonObject = Record<string, unknown>;

export interface SystemPort {
  /** Our own version, numeric. */
  version: string;
  gitCommit: string;
  /** overlay2 or vfs. */
  storageDriver: string;
  /** Facts of GET /info that no other port has, under their Docker names. */
  info(): Promise<JsonObject>;
  /** Past events in order, then new ones until `signal` aborts. `untilMs` ends the stream. */
  events(query: { sinceMs?: number; untilMs?: number }, signal: AbortSignal): AsyncIterable<EventFacts>;
  /** A path in a directory for upload files; the caller removes the file. */
  temporaryFile(): string;
}

export interface EventFacts {
  type: string;
  action: string;
  actorId: string;
  attributes: Readonly<Record<string, string>>;
  scope: 'local' | 'swarm';
  timeMs: number;
}

export interface SwarmState {
  nodeId: string;
  nodeAddr: string;
  localNodeState: 'inactive' | 'pending' | 'active' | 'error' | 'locked';
  controlAvailable: boolean;
  error: string;
  remoteManagers: { nodeId: string; addr: string }[];
  /** Set while it is known that no leader can exist: one line for tables, several for people. */
  quorumLoss?: { line: string; lines: string[] } | undefined;
  /** What a forced new cluster or a restore began with, while managers left behind are still listed as nodes. */
  recovery?: { report: object; lines: string[] } | undefined;
}

export interface SwarmInitRequest {
  listenAddr: string;
  advertiseAddr: string;
  dataPathAddr: string;
  dataPathPort: number;
  forceNewCluster: boolean;
  autoLockManagers: boolean;
  availability: string;
  /** Labels that the node has from the start. */
  nodeLabels: Record<string, string>;
  defaultAddrPool: string[];
  subnetSize: number;
  /** ClusterSpec as sent, in Docker's JSON; absent parts take defaults. */
  spec: JsonObject;
}

export interface SwarmJoinRequest {
  listenAddr: string;
  advertiseAddr: string;
  dataPathAddr: string;
  remoteAddrs: string[];
  joinToken: string;
  availability: string;
  nodeLabels: Record<string, string>;
}

export interface BackupFacts {
  passphrase: string | undefined;
  stale: boolean;
}

export interface SwarmRestoreRequest {
  listenAddr: string;
  advertiseAddr: string;
  dataPathAddr: string;
  availability: string;
  /** How long former nodes are waited for before what they ran is started elsewhere, ms; 0 is the least. */
  awaitMs: number;
  passphrase: string | undefined;
}

export type ControlMethod = keyof typeof ControlService;
export type ControlRequest<M extends ControlMethod> = RequestOf<(typeof ControlService)[M]>;
export type ControlResponse<M extends ControlMethod> = ResponseOf<(typeof ControlService)[M]>;

/** What hosts found of their networks. */
export type NetworkCheckAnswer = CheckNetworksResponse;

export interface SwarmPort {
  state(): SwarmState;
  /** Resolves with the node's id. */
  init(request: SwarmInitRequest): Promise<string>;
  join(request: SwarmJoinRequest): Promise<void>;
  leave(force: boolean): Promise<void>;
  /**
   * Runs a call on the leader.
   * @throws ShoalError Unavailable with Docker's words when this node is no manager, or there is no leader.
   */
  call<M extends ControlMethod>(method: M, request: ControlRequest<M>): Promise<ControlResponse<M>>;
  /** A reading of what this manager last knew, without a leader. @throws ShoalError as `call` on who is no manager */
  callStale<M extends ControlMethod>(method: M, request: ControlRequest<M>): Promise<ControlResponse<M>>;
  subscribeLogs(request: SubscribeLogsRequest, signal: AbortSignal): AsyncIterable<SubscribeLogsMessage>;
  /** Lets the hosts prove their networks. @throws ShoalError as `call` */
  checkNetworks(request: CheckNetworksRequest): Promise<NetworkCheckAnswer>;
  /** Subject and public key (both DER) of the root certificate that signs nodes. */
  issuer(): { subject: Uint8Array; publicKey: Uint8Array };
  /**
   * All replicated state, as bytes that `restore` takes.
   * @throws ShoalError before the first byte; Unavailable without a leader, unless `stale` asks for what this manager has
   */
  backup(options: BackupFacts): Promise<AsyncIterable<Uint8Array>>;
  /** What a backup holds; the whole of it is read and checked. @throws ShoalError InvalidArgument, DataLoss */
  inspectBackup(body: AsyncIterable<Uint8Array>, passphrase: string | undefined): Promise<object>;
  /** Begins a new cluster with what a backup holds; resolves with the node's id. @throws ShoalError */
  restore(body: AsyncIterable<Uint8Array>, request: SwarmRestoreRequest): Promise<string>;
  /** Tells the agent of this worker where a manager is now. @throws ShoalError */
  rejoin(remoteAddrs: readonly string[]): Promise<void>;
  unlockKey(): Promise<string>;
  unlock(key: string): Promise<void>;
}

export interface ProgressFacts {
  status?: string;
  id?: string;
  progressDetail?: { current?: number; total?: number };
  stream?: string;
  error?: string;
}

export interface ImageFacts {
  id: string;
  repoTags: string[];
  repoDigests: string[];
  createdMs: number;
  sizeBytes: number;
  architecture: string;
  os: string;
  variant: string;
  diffIds: string[];
  config: object;
  history: { created?: string; created_by?: string; comment?: string; empty_layer?: boolean }[];
  author: string;
  comment: string;
}

export interface AuthFacts {
  username?: string;
  password?: string;
  identityToken?: string;
  registryToken?: string;
}

export interface ImagesPort {
  get(reference: string): ImageFacts;
  list(): ImageFacts[];
  pull(
    reference: string,
    options: { auth?: AuthFacts; platform?: string; report?: (p: ProgressFacts) => void; signal: AbortSignal },
  ): Promise<ImageFacts>;
  load(archivePath: string, report: (p: ProgressFacts) => void): Promise<void>;
  /** Writes an archive of images that `load` takes. */
  save(references: readonly string[], destinationPath: string): Promise<void>;
  importArchive(
    archivePath: string,
    options: { repository: string; tag: string; message: string; changes: readonly string[] },
  ): Promise<ImageFacts>;
  tag(reference: string, repository: string, tag: string): Promise<void>;
  remove(reference: string, options: { force: boolean }): Promise<{ untagged: string[]; deleted: string[] }>;
  push(
    reference: string,
    options: { auth?: AuthFacts; report: (p: ProgressFacts) => void; signal: AbortSignal },
  ): Promise<void>;
  distribution(reference: string, auth: AuthFacts | undefined, signal: AbortSignal): Promise<DistributionFacts>;
}

export interface DistributionFacts {
  mediaType: string;
  digest: string;
  size: number;
  platforms: { architecture: string; os: string; variant?: string }[];
}

export interface PortFacts {
  protocol: string;
  targetPort: number;
  publishedPort: number;
  hostIp: string;
}

export interface ContainerFacts {
  id: string;
  config: {
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
    resources: { memoryBytes?: number; nanoCpus?: number; pidsLimit?: number };
    restart: { name: string; maximumRetryCount: number };
    logDriver: { type: string; config: Readonly<Record<string, string>> };
    domainname?: string;
    exposedPorts?: readonly string[];
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
  };
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
  }[];
  logPath: string;
  path: string;
  args: readonly string[];
}

export interface LogLineFacts {
  stream: 'stdout' | 'stderr';
  time: string;
  data: Uint8Array;
}

export interface LogQueryFacts {
  stdout: boolean;
  stderr: boolean;
  follow: boolean;
  tail?: number;
  sinceMs?: number;
  untilMs?: number;
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
export interface ContainerRequestFacts {
  name: string;
  image: string;
  entrypoint?: readonly string[];
  cmd?: readonly string[];
  env: readonly string[];
  workingDir?: string;
  user?: string;
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
  mounts: readonly {
    type: 'bind' | 'volume';
    source: string;
    target: string;
    readOnly: boolean;
    propagation?: string;
    createMountpoint?: boolean;
  }[];
  files: readonly never[];
  resources: { memoryBytes?: number; nanoCpus?: number; pidsLimit?: number };
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
  healthCheck?: {
    test: readonly string[];
    intervalMs: number;
    timeoutMs: number;
    startPeriodMs: number;
    startIntervalMs: number;
    retries: number;
  };
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
  logs(reference: string, query: LogQueryFacts, signal: AbortSignal): AsyncIterable<LogLineFacts>;
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

export interface VolumeFacts {
  name: string;
  driver: string;
  mountpoint: string;
  createdMs: number;
  labels: Readonly<Record<string, string>>;
  options: Readonly<Record<string, string>>;
}

export interface VolumesPort {
  create(request: {
    name: string;
    driver: string;
    labels: Readonly<Record<string, string>>;
    options: Readonly<Record<string, string>>;
  }): Promise<VolumeFacts>;
  get(name: string): VolumeFacts;
  list(): VolumeFacts[];
  remove(name: string, force: boolean): Promise<void>;
}

export interface LocalNetworkFacts {
  id: string;
  name: string;
  driver: string;
  subnet: string;
  gateway: string;
  subnet6: string;
  gateway6: string;
  ipRange: string;
  ipRange6: string;
  auxAddresses: Readonly<Record<string, string>>;
  attachable: boolean;
  internal: boolean;
  createdMs: number;
  labels: Readonly<Record<string, string>>;
  options: Readonly<Record<string, string>>;
}

export type LocalNetworkRequestFacts = Omit<LocalNetworkFacts, 'id' | 'driver' | 'createdMs'> & {
  driver: 'bridge' | 'macvlan' | 'ipvlan';
  ipv6: boolean;
};

export interface LocalNetworksPort {
  localNetworks(): LocalNetworkFacts[];
  createLocalNetwork(network: LocalNetworkRequestFacts): Promise<LocalNetworkFacts>;
  removeLocalNetwork(id: string): Promise<void>;
}

export interface EnginePort {
  containers: ContainersPort;
  images: ImagesPort;
  volumes: VolumesPort;
  networks: LocalNetworksPort;
}
