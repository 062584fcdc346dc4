import type { IdMapping, Images, RootIds } from '../types.ts';
import { hostRoot } from '../userns/ids.ts';
import { pathOfDescriptor, type UserNamespaces } from '../userns/namespaces.ts';

interface Hold {
  count: number;
  /** The container has ended meanwhile: the last who lets go takes the root down. */
  unmount: boolean;
}

/**
 * Container roots with several users: a container that runs, and those who look at its files. A root that someone
 * looks at stays mounted when its container ends, so that it is never mounted twice: overlayfs forbids that.
 */
export class Roots {
  readonly #images: Pick<Images, 'mountRoot' | 'unmountRoot' | 'removeRoot'>;
  readonly #users: Pick<UserNamespaces, 'shared'>;
  readonly #holds = new Map<string, Hold>();

  constructor(images: Pick<Images, 'mountRoot' | 'unmountRoot' | 'removeRoot'>, users: Pick<UserNamespaces, 'shared'>) {
    this.#images = images;
    this.#users = users;
  }

  /** Mounts for a container that starts. Idempotent. */
  mount(containerId: string, imageId: string, mapping?: IdMapping): Promise<string> {
    const hold = this.#holds.get(containerId);
    if (hold !== undefined) hold.unmount = false;
    return this.#mount(containerId, imageId, mapping);
  }

  #mount(containerId: string, imageId: string, mapping: IdMapping | undefined): Promise<string> {
    if (mapping === undefined) return this.#images.mountRoot(containerId, imageId);
    const withIds = (namespace: number): RootIds => ({ ...hostRoot(mapping), namespace });
    return this.#users.shared(mapping).then((fd) => this.#images.mountRoot(containerId, imageId, withIds(fd)));
  }

  /** Path of a user namespace with this mapping, for the processes of jobs. */
  async namespacePath(mapping: IdMapping): Promise<string> {
    return pathOfDescriptor(await this.#users.shared(mapping));
  }

  /** Whether someone looks at its files just now. */
  held(containerId: string): boolean {
    return this.#holds.has(containerId);
  }

  /** The container has ended. Idempotent. */
  async unmount(containerId: string): Promise<void> {
    const hold = this.#holds.get(containerId);
    if (hold === undefined) await this.#images.unmountRoot(containerId);
    else hold.unmount = true;
  }

  /** The container is removed; who still looks at its files sees them go. */
  async remove(containerId: string): Promise<void> {
    const hold = this.#holds.get(containerId);
    if (hold !== undefined) hold.unmount = false;
    await this.#images.removeRoot(containerId);
  }

  /** Mounts for someone who looks, until `release` is called. @param running the container has it mounted itself */
  async hold(
    containerId: string,
    imageId: string,
    running: boolean,
    mapping?: IdMapping,
  ): Promise<{ path: string; release: () => Promise<void> }> {
    const hold = this.#holds.get(containerId) ?? { count: 0, unmount: !running };
    hold.count += 1;
    this.#holds.set(containerId, hold);
    const release = async (): Promise<void> => {
      if (--hold.count > 0) return;
      this.#holds.delete(containerId);
      if (hold.unmount) await this.#images.unmountRoot(containerId);
    };
    try {
      return { path: await this.#mount(containerId, imageId, mapping), release };
    } catch (error) {
      await release();
      throw error;
    }
  }
}
