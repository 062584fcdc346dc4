import { existsSync, lstatSync, mkdirSync, opendirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { failedPrecondition, runChecked, syncDirectory, type Spawner, writeFileDurably } from '../../base/index.ts';
import type { RootIds } from '../types.ts';
import type { LayerDirectory, StorageDriver } from './driver.ts';

/** Time one copy of a layer may take, ms. */
const COPY_TIMEOUT_MS = 30 * 60_000;

/** Deletes what `upper` replaces by another kind of file in `target`: a copy then neither fails nor follows links. */
function clearChangedKinds(upper: string, target: string): void {
  const directory = opendirSync(upper);
  try {
    for (let entry = directory.readSync(); entry !== null; entry = directory.readSync()) {
      const below = join(target, entry.name);
      const found = lstatSync(below, { throwIfNoEntry: false });
      if (found === undefined) continue;
      if (found.isDirectory() && entry.isDirectory()) clearChangedKinds(join(upper, entry.name), below);
      else rmSync(below, { recursive: true, force: true });
    }
  } finally {
    directory.closeSync();
  }
}

/** Whether every directory on the way to `path` below `root` is a real one. */
function reachable(root: string, path: string): boolean {
  let at = root;
  for (const part of path.split('/').slice(0, -1)) {
    at = join(at, part);
    if (lstatSync(at, { throwIfNoEntry: false })?.isDirectory() !== true) return false;
  }
  return true;
}

/** Copies all layers for each container: slow and large, but works on any file system. */
export class CopyDriver implements StorageDriver {
  readonly name = 'vfs';
  readonly #spawner: Spawner;
  readonly #copying = new Map<string, Promise<string>>();

  constructor(spawner: Spawner) {
    this.#spawner = spawner;
  }

  mount(root: string, layers: readonly LayerDirectory[], ids?: RootIds): Promise<string> {
    if (ids !== undefined) {
      const why = 'containers with user namespaces need the storage driver overlay2; this daemon copies layers (vfs)';
      return Promise.reject(failedPrecondition(why));
    }
    const running = this.#copying.get(root);
    if (running !== undefined) return running;
    const copying = this.#copyAll(root, layers).finally(() => this.#copying.delete(root));
    this.#copying.set(root, copying);
    return copying;
  }

  async #copyAll(root: string, layers: readonly LayerDirectory[]): Promise<string> {
    const merged = join(root, 'merged');
    const complete = join(root, 'complete');
    if (existsSync(complete)) return merged;
    rmSync(merged, { recursive: true, force: true });
    mkdirSync(merged, { mode: 0o755 });
    for (const layer of layers) await this.#copy(layer, merged);
    writeFileDurably(complete, '');
    syncDirectory(root);
    return merged;
  }

  async #copy(layer: LayerDirectory, merged: string): Promise<void> {
    const { removed, opaque } = layer.whiteouts();
    for (const path of opaque) {
      const directory = path === '' ? merged : join(merged, path);
      if (path !== '' && !reachable(merged, path)) continue;
      if (lstatSync(directory, { throwIfNoEntry: false })?.isDirectory() !== true) continue;
      rmSync(directory, { recursive: true, force: true });
      mkdirSync(directory, { mode: 0o755 });
    }
    for (const path of removed) {
      if (reachable(merged, path)) rmSync(join(merged, path), { recursive: true, force: true });
    }
    const from = join(layer.path, 'diff');
    clearChangedKinds(from, merged);
    await runChecked(this.#spawner, {
      file: 'cp',
      args: ['-a', '--remove-destination', `${from}/.`, merged],
      timeoutMs: COPY_TIMEOUT_MS,
    });
    // Marks of a layer that was unpacked for overlayfs.
    for (const path of removed) {
      const at = join(merged, path);
      const mark = reachable(merged, path) ? lstatSync(at, { throwIfNoEntry: false }) : undefined;
      if (mark?.isCharacterDevice() === true && mark.rdev === 0) rmSync(at);
    }
  }

  unmount(): Promise<void> {
    return Promise.resolve();
  }
}
