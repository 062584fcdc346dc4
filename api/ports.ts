import type {
  CheckNetworksRequest,
  CheckNetworksResponse,
  ControlService,
  Network,
  RequestOf,
  ResponseOf,
  SubscribeLogsMessage,
  SubscribeLogsRequest,
} from '../proto/index.ts';

import type { ContainersPort } from './container-port.ts';
import type { FilesPort } from './file-port.ts';
import type { ControlPort } from './control-port.ts';
import type { DoctorPort } from './doctor-port.ts';
import type { Metric } from './shapes/metrics.ts';
import type { TerminalsPort } from './stream-port.ts';

export type * from './container-port.ts';
export type * from './stream-port.ts';
export type * from './file-port.ts';
export type * from './host-options-port.ts';
export type * from './control-port.ts';
export type * from './doctor-port.ts';

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
  /** Programs that this daemon works with, for GET /version. */
  components(): { name: string; version: string }[];
  /** Past events in order, then new ones until `signal` aborts. `untilMs` ends the stream. */
  events(query: { sinceMs?: number; untilMs?: number }, signal: AbortSignal): AsyncIterable<EventFacts>;
  /** What is measured here now. Cheap: it is asked for every few seconds. */
  metrics(): Metric[];
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
  layers?: { chainId: string; sizeBytes: number }[];
  /** The image it was committed from here. */
  parentId?: string;
  /** When it got its last name; absent: never. */
  taggedMs?: number;
}

/** What a registry found. */
export interface FoundImageFacts {
  name: string;
  description: string;
  stars: number;
  official: boolean;
  automated: boolean;
}

export interface AuthFacts {
  username?: string;
  password?: string;
  identityToken?: string;
  registryToken?: string;
}

export interface ImagesPort {
  /** Directories behind a container's root, layers highest first; `work` is empty without overlayfs. @throws NotFound */
  rootParts(containerId: string): { merged: string; upper: string; work: string; layers: readonly { path: string }[] };
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
  remove(
    reference: string,
    options: { force: boolean; keepParents?: boolean },
  ): Promise<{ untagged: string[]; deleted: string[] }>;
  /** Removes images that no container uses. */
  prune(request: {
    danglingOnly: boolean;
    passes: (image: ImageFacts) => boolean;
  }): Promise<{ untagged: string[]; deleted: string[]; reclaimedBytes: number }>;
  search(term: string, limit: number, auth: AuthFacts | undefined, signal: AbortSignal): Promise<FoundImageFacts[]>;
  push(
    reference: string,
    options: { auth?: AuthFacts; report: (p: ProgressFacts) => void; signal: AbortSignal },
  ): Promise<void>;
  distribution(reference: string, auth: AuthFacts | undefined, signal: AbortSignal): Promise<DistributionFacts>;
  login(serverAddress: string, auth: AuthFacts, signal: AbortSignal): Promise<void>;
  diskUse(): { layersBytes: number; sharedBytes: ReadonlyMap<string, number> };
}

export interface DistributionFacts {
  mediaType: string;
  digest: string;
  size: number;
  platforms: { architecture: string; os: string; variant?: string }[];
}

export interface VolumeFacts {
  name: string;
  driver: string;
  mountpoint: string;
  createdMs: number;
  labels: Readonly<Record<string, string>>;
  options: Readonly<Record<string, string>>;
  scope?: 'local' | 'global';
  status?: Readonly<Record<string, unknown>>;
}

export interface VolumesPort {
  create(request: {
    name: string;
    driver: string;
    labels: Readonly<Record<string, string>>;
    options: Readonly<Record<string, string>>;
  }): Promise<VolumeFacts>;
  inspect(name: string): Promise<VolumeFacts>;
  list(): VolumeFacts[];
  /** With those that only plugins know, and what went wrong in asking them. */
  listAll(): Promise<{ volumes: VolumeFacts[]; warnings: string[] }>;
  remove(name: string, force: boolean): Promise<void>;
  /** Containers that have it. */
  usersOf(name: string): string[];
  prune(options: {
    all: boolean;
    matches: (volume: VolumeFacts) => boolean;
  }): Promise<{ deleted: string[]; reclaimedBytes: number }>;
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
  /** Networks of the swarm that this host takes part in: what a worker knows of them. */
  overlayNetworks(): Network[];
  createLocalNetwork(network: LocalNetworkRequestFacts): Promise<LocalNetworkFacts>;
  removeLocalNetwork(id: string): Promise<void>;
}

export interface EnginePort {
  doctor: DoctorPort;
  containers: ContainersPort;
  terminals: TerminalsPort;
  files: FilesPort;
  control: ControlPort;
  images: ImagesPort;
  volumes: VolumesPort;
  networks: LocalNetworksPort;
}
