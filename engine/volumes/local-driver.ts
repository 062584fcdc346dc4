import { chownSync, existsSync, mkdirSync, readdirSync, renameSync, rmSync, statSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import {
  conflict,
  errorMessage,
  newHexId,
  readFileIfExists,
  runChecked,
  ShoalError,
  syncDirectory,
  writeFileDurably,
  type Logger,
  type Random,
  type Spawner,
} from '../../base/index.ts';
import { mountPoints, unmountEvery } from '../storage/index.ts';
import type { Volume } from '../types.ts';
import { checkVolumeName, checkVolumeOptions, mountArguments } from './options.ts';

/** Names of directories that are being made or deleted start so; no volume name does. */
const TEMPORARY = '.tmp-';
const MOUNT_TIMEOUT_MS = 60_000;
const COPY_TIMEOUT_MS = 30 * 60_000;

export interface LocalDriverOptions {
  /** Holds `volumes/`. */
  dataRoot: string;
  spawner: Spawner;
  random: Random;
  log: Logger;
  /** Owner of new volumes; default root. */
  owner?: { uid: number; gid: number };
}

/** What is kept about a volume besides its name. */
export type StoredVolume = Pick<Volume, 'createdMs' | 'labels' | 'options'>;

/** Volumes that are directories here, plain or with something mounted on them while they are used. */
export class LocalDriver {
  readonly #directory: string;
  readonly #options: LocalDriverOptions;

  constructor(options: LocalDriverOptions) {
    this.#options = options;
    this.#directory = join(options.dataRoot, 'volumes');
    mkdirSync(this.#directory, { recursive: true, mode: 0o711 });
  }

  mountpoint(name: string): string {
    return join(this.#directory, name, '_data');
  }

  /** Volumes that were made before; clears away what a crash has left. */
  restore(): (StoredVolume & { name: string })[] {
    return readdirSync(this.#directory).flatMap((name) => {
      const path = join(this.#directory, name);
      if (name.startsWith(TEMPORARY)) {
        this.#deleteTree(path);
        return [];
      }
      if (!existsSync(join(path, '_data'))) {
        this.#options.log.warn('a directory among the volumes is not a volume', { name });
        return [];
      }
      // A copy that was cut off.
      rmSync(join(path, '_copy'), { recursive: true, force: true });
      let stored: StoredVolume | undefined;
      try {
        const text = readFileIfExists(join(path, 'volume.json'));
        stored = text === undefined ? undefined : (JSON.parse(text) as StoredVolume);
      } catch (error) {
        this.#options.log.error('the description of a volume is damaged; its data is kept', { name, error });
      }
      return [{ name, ...(stored ?? { createdMs: statSync(path).mtimeMs, labels: {}, options: {} }) }];
    });
  }

  #deleteTree(path: string): void {
    unmountEvery(join(path, '_data'));
    const inside = mountPoints().find((point) => point.startsWith(`${path}/`));
    if (inside !== undefined) throw conflict(`cannot delete ${path}: something is mounted at ${inside}; unmount it`);
    rmSync(path, { recursive: true, force: true });
  }

  /** @throws ShoalError InvalidArgument in Docker's words */
  check(name: string, options: Volume['options']): void {
    checkVolumeName(name);
    checkVolumeOptions(options);
  }

  create(name: string, stored: StoredVolume): void {
    const temporary = this.#temporary();
    mkdirSync(join(temporary, '_data'), { recursive: true, mode: 0o755 });
    try {
      const { owner } = this.#options;
      if (owner !== undefined) chownSync(join(temporary, '_data'), owner.uid, owner.gid);
      writeFileDurably(join(temporary, 'volume.json'), JSON.stringify(stored));
      renameSync(temporary, join(this.#directory, name));
      syncDirectory(this.#directory);
    } catch (error) {
      rmSync(temporary, { recursive: true, force: true });
      throw error;
    }
  }

  #temporary(): string {
    return join(this.#directory, `${TEMPORARY}${newHexId(this.#options.random).slice(0, 16)}`);
  }

  /** Makes it vanish at once; the files go after it. @throws ShoalError Conflict when something is mounted inside */
  async remove(name: string): Promise<void> {
    unmountEvery(this.mountpoint(name));
    const path = join(this.#directory, name);
    const inside = mountPoints().find((point) => point.startsWith(`${path}/`));
    if (inside !== undefined) throw conflict(`remove ${name}: volume is in use - something is mounted at ${inside}`);
    const temporary = this.#temporary();
    renameSync(path, temporary);
    syncDirectory(this.#directory);
    await rm(temporary, { recursive: true, force: true });
  }

  /** @throws ShoalError Internal in Docker's words, with those of mount(8) */
  async mount({ name, options }: Volume): Promise<string> {
    const path = this.mountpoint(name);
    if (options['device'] === undefined || mountPoints().includes(path)) return path;
    try {
      const args = await mountArguments(options, path);
      await runChecked(this.#options.spawner, { file: 'mount', args, timeoutMs: MOUNT_TIMEOUT_MS });
    } catch (error) {
      const why = `failed to mount local volume: ${errorMessage(error)}`;
      throw new ShoalError('Internal', `error while mounting volume '${path}': ${why}`, { cause: error });
    }
    return path;
  }

  unmount({ name, options }: Volume): void {
    if (options['device'] !== undefined) unmountEvery(this.mountpoint(name));
  }

  /**
   * Fills an empty volume with copies of what a directory holds: owners, modes, links, extended attributes. A plain one
   * gets all of it at once, when nobody else has it open.
   */
  async fill({ name, options }: Volume, from: string, alone: boolean): Promise<void> {
    const path = this.mountpoint(name);
    if (readdirSync(path).length > 0) return;
    const whole = alone && options['device'] === undefined;
    const to = whole ? join(this.#directory, name, '_copy') : path;
    if (whole) {
      rmSync(to, { recursive: true, force: true });
      mkdirSync(to, { mode: 0o755 });
    }
    const args = ['-a', '--', `${from}/.`, to];
    await runChecked(this.#options.spawner, { file: 'cp', args, timeoutMs: COPY_TIMEOUT_MS });
    if (whole) renameSync(to, path);
  }
}
