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
