import { chmodSync, chownSync, existsSync, mkdirSync, rmSync, statSync, writeFileSync, readFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import {
  assert,
  bindIdmapped,
  closeFd,
  failedPrecondition,
  invalidArgument,
  mount,
  openReadOnly,
  setExtendedAttribute,
  SystemCallError,
  unmount,
} from '../../base/index.ts';
import type { RootIds } from '../types.ts';
import type { LayerDirectory, StorageDriver } from './driver.ts';
import { unmountEvery } from './mounts.ts';

/** mount(2) takes one page of options, its closing zero included. */
export const MOUNT_OPTIONS_MAX_BYTES = 4095;
/** Mounts stacked on one path that unmounting takes off. */
const STACKED_MOUNTS_MAX = 8;
const EINVAL = 22;

/** Whether a path is a mount point: its device is not its parent's. */
export function isMountPoint(path: string): boolean {
  const own = statSync(path, { throwIfNoEntry: false });
  if (own === undefined) return false;
  return own.dev !== statSync(dirname(path)).dev;
}

/** Takes every mount off a path. */
export function unmountAll(path: string): void {
  for (let i = 0; i < STACKED_MOUNTS_MAX && isMountPoint(path); i++) {
    try {
      unmount(path);
    } catch (error) {
      if (error instanceof SystemCallError && error.errno === EINVAL) return;
      throw error;
    }
  }
}

/** With an index, an upper directory left by a crash could be refused as "in use". */
function fixedOptions(): string {
  return existsSync('/sys/module/overlay/parameters/index') ? ',index=off' : '';
}

/** Where a root sees all layers with other owners, while it is being mounted. */
export const SHIFTED = 'shifted';

/**
 * Many layers below a long path, or seen elsewhere: the directory of short names is named by a descriptor, which is
 * shorter still.
 */
function mountMany(links: string, merged: string, lower: readonly string[], options: (lower: string) => string): void {
  const fd = openReadOnly(links);
  try {
    const text = options(lower.map((link) => `/proc/self/fd/${fd}/${basename(link)}`).join(':'));
    const length = Buffer.byteLength(text);
    if (length > MOUNT_OPTIONS_MAX_BYTES) {
      throw failedPrecondition(
        `cannot mount an image of ${lower.length} layers: the mount options take ${length} bytes of ` +
          `${MOUNT_OPTIONS_MAX_BYTES}; use a shorter data root or an image with fewer layers`,
      );
    }
    mount('overlay', merged, 'overlay', 0, text);
  } finally {
    closeFd(fd);
  }
}

/** Takes everything off that `mount` put into a root's directory, and a crash in the middle of it. */
export function unmountRootParts(root: string): void {
  unmountAll(join(root, 'merged'));
  if (existsSync(join(root, SHIFTED))) unmountEvery(join(root, SHIFTED));
}

/** The container's root user owns what stands for its `/`, and may pass through the directory above it. */
function giveUpper(root: string, upper: string, { uid, gid }: RootIds): void {
  // Only a new one belongs to root of the host: a container cannot give anything to it.
  if (uid !== 0 && statSync(upper).uid === 0) chownSync(upper, uid, gid);
  chownSync(root, 0, gid);
  chmodSync(root, 0o710);
}

/** Kernel overlayfs: one mount for each container, no copying (kernel: filesystems/overlayfs). */
export class OverlayDriver implements StorageDriver {
  readonly name = 'overlay2';
  readonly #directory: string;
  readonly #empty: string;
  readonly #fixed = fixedOptions();

  /** @param directory the overlay2 directory; must not contain `:`, `,` or a backslash. */
  constructor(directory: string) {
    if (/[:,\\]/.test(directory)) {
      throw invalidArgument(`the data root ${directory} contains a character that overlayfs cannot take: , : or \\`);
    }
    this.#directory = directory;
    // An image without layers still needs one lower directory.
    this.#empty = join(directory, 'l', 'empty');
    mkdirSync(this.#empty, { recursive: true });
  }

  // eslint-disable-next-line @typescript-eslint/require-await -- errors must become rejections
  async mount(root: string, layers: readonly LayerDirectory[], ids?: RootIds): Promise<string> {
    const merged = join(root, 'merged');
    if (isMountPoint(merged)) return merged;
    const upper = join(root, 'diff');
    const work = join(root, 'work');
    for (const path of [upper, work, merged]) mkdirSync(path, { recursive: true, mode: 0o755 });
    const options = (lower: string): string => `lowerdir=${lower},upperdir=${upper},workdir=${work}${this.#fixed}`;
    const lower = layers.length === 0 ? [this.#empty] : layers.map((layer) => layer.link).reverse();
    if (ids !== undefined) {
      giveUpper(root, upper, ids);
      this.#mountMapped(root, lower, options, ids);
      return merged;
    }
    const direct = options(lower.join(':'));
    if (Buffer.byteLength(direct) <= MOUNT_OPTIONS_MAX_BYTES) mount('overlay', merged, 'overlay', 0, direct);
    else mountMany(join(this.#directory, 'l'), merged, lower, options);
    return merged;
  }

  /**
   * The layers are seen through a binding with other owners, one for all of them. overlayfs keeps what it needs of it,
   * so the binding goes again at once. It is read-only: whatever is left by a crash cannot be deleted through it.
   */
  #mountMapped(root: string, lower: readonly string[], options: (lower: string) => string, ids: RootIds): void {
    const shifted = join(root, SHIFTED);
    mkdirSync(shifted, { recursive: true, mode: 0o700 });
    unmountEvery(shifted);
    bindIdmapped({ source: this.#directory, target: shifted, namespace: ids.namespace });
    try {
      mountMany(join(shifted, 'l'), join(root, 'merged'), lower, options);
    } finally {
      unmountEvery(shifted);
    }
  }

  unmount(root: string): Promise<void> {
    unmountRootParts(root);
    return Promise.resolve();
  }
}

/** Tries a whole overlay mount with a whiteout attribute in `directory`; says why it does not work, or undefined. */
export function overlayProblem(directory: string): string | undefined {
  const probe = join(directory, `probe-${process.pid}`);
  const [lower, upper, work, merged] = ['lower', 'upper', 'work', 'merged'].map((name) => join(probe, name));
  assert(lower !== undefined && upper !== undefined && work !== undefined && merged !== undefined, 'four paths');
  try {
    if (/[:,\\]/.test(directory)) return 'the data root contains a character that overlayfs cannot take (, : \\)';
    for (const path of [lower, upper, work, merged]) mkdirSync(path, { recursive: true });
    writeFileSync(join(lower, 'file'), 'x');
    setExtendedAttribute(upper, 'trusted.overlay.opaque', 'n');
    mount('overlay', merged, 'overlay', 0, `lowerdir=${lower},upperdir=${upper},workdir=${work}`);
    writeFileSync(join(merged, 'file'), 'y');
    const copied =
      readFileSync(join(lower, 'file'), 'utf8') === 'x' && readFileSync(join(upper, 'file'), 'utf8') === 'y';
    return copied ? undefined : 'a file written to the mount did not arrive in the upper layer';
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  } finally {
    unmountAll(merged);
    rmSync(probe, { recursive: true, force: true });
  }
}
