import { readlinkSync, writeFileSync } from 'node:fs';
import { closeFd, errorMessage, failedPrecondition, openReadOnly, ShoalError, type Spawner } from '../../base/index.ts';
import type { IdMapping } from '../types.ts';
import { mappingKey, mapText } from './ids.ts';

/** How long the process that a namespace is taken from lives when nobody ends it, seconds. */
const HOLDER_LIFE_S = 10;

/** Namespaces that nothing lives in yet, held by descriptors of this process. */
export interface NewNamespaces {
  /** Descriptor of the user namespace; its mapping is written. */
  user: number;
  /** Descriptor of a network namespace that belongs to it. */
  network: number;
}

/** The path by which another process of root reaches what a descriptor of this one stands for. */
export function pathOfDescriptor(fd: number): string {
  return `/proc/${process.pid}/fd/${fd}`;
}

/**
 * Makes user namespaces. Only a process of one thread can enter one, so each is taken from a short-lived process that
 * was started in it; a descriptor keeps it, and ends with the daemon, however that ends.
 */
export class UserNamespaces {
  readonly #spawner: Spawner;
  readonly #open = new Set<number>();
  readonly #shared = new Map<string, Promise<number>>();

  constructor(spawner: Spawner) {
    this.#spawner = spawner;
  }

  /** A namespace with this mapping that serves for mounts, the same each time. @throws ShoalError FailedPrecondition */
  shared(mapping: IdMapping): Promise<number> {
    const key = mappingKey(mapping);
    const known = this.#shared.get(key);
    if (known !== undefined) return known;
    const made = this.make(mapping).then(({ user, network }) => {
      this.close(network);
      return user;
    });
    this.#shared.set(key, made);
    made.catch(() => this.#shared.delete(key));
    return made;
  }

  /**
   * Both namespaces anew; the caller closes them.
   * @param joined path of the user namespace of another container with this mapping, which is taken instead
   * @throws ShoalError FailedPrecondition with the reason
   */
  async make(mapping: IdMapping, joined?: string): Promise<NewNamespaces> {
    const pid = await this.#holder(joined);
    const opened: number[] = [];
    try {
      if (joined === undefined) {
        // One write each: the kernel takes a mapping whole, once.
        writeFileSync(`/proc/${pid}/uid_map`, mapText(mapping.uids));
        writeFileSync(`/proc/${pid}/gid_map`, mapText(mapping.gids));
      }
      for (const kind of ['user', 'net']) opened.push(openReadOnly(`/proc/${pid}/ns/${kind}`));
      const [user, network] = opened as [number, number];
      this.#open.add(user).add(network);
      return { user, network };
    } catch (error) {
      for (const fd of opened) closeFd(fd);
      throw failedPrecondition(`a user namespace cannot be given its ids: ${errorMessage(error)}`);
    } finally {
      endHolder(pid);
    }
  }

  /** A process in new namespaces that waits. */
  async #holder(joined: string | undefined): Promise<number> {
    const hold = ['--net', 'sh', '-c', `sleep ${HOLDER_LIFE_S} 3>&- & echo $! >&3`];
    const result = await this.#spawner.run({
      ...(joined === undefined
        ? { file: 'unshare', args: ['--user', ...hold] }
        : { file: 'nsenter', args: [`--user=${joined}`, 'unshare', ...hold] }),
      cwd: '/',
      statusLine: { stderrFile: '/dev/null' },
    });
    const pid = Number(result.stdout.toString('utf8').trim());
    if (!Number.isSafeInteger(pid) || pid <= 1) {
      throw failedPrecondition(
        'a user namespace cannot be made: look at the sysctl user.max_user_namespaces, and whether `unshare --user ' +
          '--net true` works for root',
      );
    }
    return pid;
  }

  /** Lets go of a descriptor. Idempotent. */
  close(fd: number): void {
    if (this.#open.delete(fd)) closeFd(fd);
  }

  closeAll(): void {
    for (const fd of [...this.#open]) this.close(fd);
    this.#shared.clear();
  }
}

function endHolder(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It has ended by itself.
  }
}

/** Whether two processes live in one user namespace. @throws ShoalError Conflict when one has ended */
export function sameUserNamespace(a: number, b: number): boolean {
  try {
    return readlinkSync(`/proc/${a}/ns/user`) === readlinkSync(`/proc/${b}/ns/user`);
  } catch (error) {
    throw new ShoalError('Conflict', `a container whose namespace is to be joined has ended: ${errorMessage(error)}`);
  }
}
