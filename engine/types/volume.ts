export interface Volume {
  name: string;
  driver: string;
  /** Empty while the driver of a plugin has not mounted it. */
  mountpoint: string;
  createdMs: number;
  labels: Readonly<Record<string, string>>;
  options: Readonly<Record<string, string>>;
  anonymous: boolean;
  /** Whether the volume is the same on all hosts; default local. */
  scope?: 'local' | 'global';
  /** What the driver of a plugin says about it. */
  status?: Readonly<Record<string, unknown>>;
}

export interface VolumePruneOptions {
  /** Also volumes that were given a name. */
  all: boolean;
  matches: (volume: Volume) => boolean;
}

/** The volumes of one host: of the local driver, and of plugins. */
export interface Volumes {
  /** An empty name makes one up, and the volume is anonymous. One that is there already is given as it is. */
  create(request: {
    name: string;
    driver: string;
    labels: Readonly<Record<string, string>>;
    options: Readonly<Record<string, string>>;
  }): Promise<Volume>;
  /** @throws ShoalError NotFound "get NAME: no such volume". */
  get(name: string): Volume;
  list(): Volume[];
  /** @throws ShoalError Conflict while a container has it. */
  remove(name: string, force: boolean): Promise<void>;
  /** Mounts it for a user (container id) and returns the host path; `release` undoes it. */
  acquire(name: string, user: string): Promise<string>;
  /** Undoes one `acquire`; nothing when there was none. */
  release(name: string, user: string): Promise<void>;
  /** Tells that a user has it since before the daemon was started. */
  retain(name: string, user: string): void;
  /** Fills an acquired volume that is empty with what `from` holds, owners and modes included; all of it or nothing. */
  fill(name: string, from: string): Promise<void>;
  /** As `get`, with what its driver says of it now. @throws ShoalError NotFound, and errors of the driver */
  inspect(name: string): Promise<Volume>;
  /** As `list`, with what the drivers of plugins know besides, and what went wrong in asking them. */
  listAll(): Promise<{ volumes: Volume[]; warnings: string[] }>;
  /** Containers that have it, running or not. */
  usersOf(name: string): string[];
  /** Bytes of its files; -1 for a volume of a plugin. */
  sizeOf(name: string): Promise<number>;
  /** Removes unused volumes of the local driver that have no options. @throws ShoalError Conflict while one runs */
  prune(options: VolumePruneOptions): Promise<{ deleted: string[]; reclaimedBytes: number }>;
  /** Names of the drivers there are. */
  drivers(): Promise<string[]>;
}
