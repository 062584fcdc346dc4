import type { RootIds } from './id-mapping.ts';

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
  /** Layers with what each adds, lowest first. */
  layers?: { chainId: string; sizeBytes: number }[];
  /** The image it was committed from on this host. */
  parentId?: string;
  /** When it got its last name, ms since the epoch; absent: never. */
  taggedMs?: number;
}

/** What a container becomes when it is committed. */
export interface CommitRequest {
  /** The image it was made from. */
  parentId: string;
  config: ImageConfig;
  author: string;
  comment: string;
  /** What history shows as the command that made the layer. */
  createdBy: string;
  /** Name for it; empty: none. */
  repository: string;
  tag: string;
}

export interface PruneImagesRequest {
  /** Only images without a name. */
  danglingOnly: boolean;
  /** Whether an image that is in no use may go. */
  passes: (image: Image) => boolean;
}

/** An image that a registry found for a word. */
export interface FoundImage {
  name: string;
  description: string;
  stars: number;
  official: boolean;
  automated: boolean;
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
  OnBuild?: string[];
  Shell?: string[];
}

/** The images of one host. */
export interface Images {
  readonly storageDriver: 'overlay2' | 'vfs';
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
  /** @throws ShoalError Conflict in Docker's words */
  remove(
    reference: string,
    options: { force: boolean; keepParents?: boolean },
  ): Promise<{ untagged: string[]; deleted: string[] }>;
  /** Removes images that no container uses. */
  prune(request: PruneImagesRequest): Promise<{ untagged: string[]; deleted: string[]; reclaimedBytes: number }>;
  /** A layer archive over an image becomes an image. @throws ShoalError NotFound, InvalidArgument */
  commit(layer: AsyncIterable<Uint8Array>, request: CommitRequest): Promise<Image>;
  /** Directories of an image's unpacked layers, highest first. @throws ShoalError NotFound */
  layerPaths(imageId: string): string[];
  /** Asks a registry (or the default one) for images. @throws ShoalError when it does not answer such questions */
  search(term: string, limit: number, auth: RegistryAuth | undefined, signal: AbortSignal): Promise<FoundImage[]>;
  /** Pushes the image of a reference to its registry. */
  push(
    reference: string,
    options: { auth?: RegistryAuth; report: (p: ImageProgress) => void; signal: AbortSignal },
  ): Promise<void>;
  /** Digest and platforms of a reference in its registry, without pulling. Fails fast when the registry does not resolve. */
  distribution(reference: string, auth: RegistryAuth | undefined, signal: AbortSignal): Promise<Distribution>;
  /** Asks a registry whether credentials are good. @throws ShoalError Unauthenticated when they are not. */
  login(serverAddress: string, auth: RegistryAuth, signal: AbortSignal): Promise<void>;
  /** What all layers take. */
  diskUse(): ImageDiskUse;
  /**
   * Makes the writable root of a container over an image; returns the mounted path. Idempotent.
   * @param ids other owners than the image's files have; the same for all of the container's life
   */
  mountRoot(containerId: string, imageId: string, ids?: RootIds): Promise<string>;
  unmountRoot(containerId: string): Promise<void>;
  /** What a container's root is made of. @throws ShoalError NotFound when it was never mounted. */
  rootParts(containerId: string): RootParts;
  /** Unmounts and deletes the writable layer. */
  removeRoot(containerId: string): Promise<void>;
}

/** The directories behind a container's root, as host paths. */
export interface RootParts {
  /** The whole of it while it is mounted. */
  merged: string;
  /** What the container has written; empty when the driver keeps that together with the rest. */
  upper: string;
  /** overlayfs' own directory; empty when there is none. */
  work: string;
  /** Unpacked layers of the image, highest first, with the paths they hide of the layers below. */
  layers: { path: string; removed: string[]; opaque: string[] }[];
}

export interface ImageDiskUse {
  /** All layers of images together, each once. */
  layersBytes: number;
  /** By image: bytes of its layers that other images have too. */
  sharedBytes: ReadonlyMap<string, number>;
}

export interface Distribution {
  mediaType: string;
  digest: string;
  size: number;
  platforms: { architecture: string; os: string; variant?: string }[];
}
