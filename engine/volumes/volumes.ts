import { existsSync, lstatSync, mkdirSync, readdirSync, renameSync, rmSync, statSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import {
  conflict,
  errorMessage,
  newHexId,
  notFound,
  readFileIfExists,
  runChecked,
  ShoalError,
  syncDirectory,
  writeFileDurably,
  type Clock,
  type Logger,
  type Random,
  type Spawner,
} from '../../base/index.ts';
import { mountPoints, resolveInside, unmountEvery } from '../storage/index.ts';
import type { EngineEvent, Volume, Volumes } from '../types.ts';
import { checkVolumeName, checkVolumeOptions, mountArguments } from './options.ts';

/** Docker's mark of a volume that was made without a name. */
export const ANONYMOUS_LABEL = 'com.docker.volume.anonymous';
/** Names of directories that are being made or deleted start so; no volume name does. */
const TEMPORARY = '.tmp-';
const MOUNT_TIMEOUT_MS = 60_000;
const COPY_TIMEOUT_MS = 30 * 60_000;

export interface VolumesOptions {
  /** Holds `volumes/`. */
  dataRoot: string;
  spawner: Spawner;
  clock: Clock;
  random: Random;
  log: Logger;
  onEvent: (event: EngineEvent) => void;
}

/** `Volumes`, and what the containers beside it need. */
export interface VolumeStore extends Volumes {
  /** Users of a volume (container ids). */
  usersOf(name: string): string[];
  /**
   * Fills an empty volume with what an image has at its mount target, owner and mode of the directory included. A
   * volume that holds something, or a target that is no directory of the image, is left alone.
   * @param rootPath root of the container; links in `target` are followed inside it only.
   */
  copyUp(rootPath: string, target: string, volumePath: string): Promise<void>;
}

interface Entry {
  volume: Volume;
  users: Map<string, number>;
}

type Stored = Pick<Volume, 'createdMs' | 'labels' | 'options'>;

class LocalVolumes implements VolumeStore {
  readonly #directory: string;
  readonly #options: VolumesOptions;
  readonly #entries = new Map<string, Entry>();
  /** Mounting and deleting of one volume take turns. */
  readonly #turns = new Map<string, Promise<void>>();

  constructor(options: VolumesOptions) {
    this.#options = options;
    this.#directory = join(options.dataRoot, 'volumes');
    mkdirSync(this.#directory, { recursive: true, mode: 0o711 });
    for (const name of readdirSync(this.#directory)) this.#restore(name);
  }

  #restore(name: string): void {
    const path = join(this.#directory, name);
    if (name.startsWith(TEMPORARY)) {
      this.#deleteTree(path);
      return;
    }
    if (!existsSync(join(path, '_data'))) {
      this.#options.log.warn('a directory among the volumes is not a volume', { name });
      return;
    }
    let stored: Stored | undefined;
    try {
      const text = readFileIfExists(join(path, 'volume.json'));
      stored = text === undefined ? undefined : (JSON.parse(text) as Stored);
    } catch (error) {
      this.#options.log.error('the description of a volume is damaged; its data is kept', { name, error });
    }
    this.#enter(name, stored ?? { createdMs: statSync(path).mtimeMs, labels: {}, options: {} });
  }

  #enter(name: string, { createdMs, labels, options }: Stored): Volume {
    const mountpoint = join(this.#directory, name, '_data');
    const anonymous = labels[ANONYMOUS_LABEL] !== undefined;
    const volume: Volume = { name, driver: 'local', mountpoint, createdMs, labels, options, anonymous };
    this.#entries.set(name, { volume, users: new Map() });
    return volume;
  }

  #deleteTree(path: string): void {
    unmountEvery(join(path, '_data'));
    const inside = mountPoints().find((point) => point.startsWith(`${path}/`));
    if (inside !== undefined) throw conflict(`cannot delete ${path}: something is mounted at ${inside}; unmount it`);
    rmSync(path, { recursive: true, force: true });
  }

  #entry(name: string): Entry {
    const entry = this.#entries.get(name);
    if (entry === undefined) throw notFound(`get ${name}: no such volume`);
    return entry;
  }

  #inTurn<T>(name: string, run: () => Promise<T>): Promise<T> {
    const result = (this.#turns.get(name) ?? Promise.resolve()).then(run);
    const settled = result.then(
      () => undefined,
      () => undefined,
    );
    this.#turns.set(name, settled);
    void settled.then(() => {
      if (this.#turns.get(name) === settled) this.#turns.delete(name);
    });
    return result;
  }

  #event(action: string, name: string): void {
    const { clock, onEvent } = this.#options;
    onEvent({ type: 'volume', action, actorId: name, attributes: { driver: 'local' }, timeMs: clock.now() });
  }

  // eslint-disable-next-line @typescript-eslint/require-await -- errors must become rejections
  async create(request: Parameters<Volumes['create']>[0]): Promise<Volume> {
    const { clock, random } = this.#options;
    if (request.driver !== '' && request.driver !== 'local') {
      throw notFound(`error looking up volume plugin ${request.driver}: plugin "${request.driver}" not found`);
    }
    const anonymous = request.name === '';
    const name = anonymous ? newHexId(random) : request.name;
    checkVolumeName(name);
    checkVolumeOptions(request.options);
    const existing = this.#entries.get(name);
    if (existing !== undefined) return existing.volume;
    const labels = anonymous ? { ...request.labels, [ANONYMOUS_LABEL]: '' } : { ...request.labels };
    const stored: Stored = { createdMs: clock.now(), labels, options: { ...request.options } };
    const temporary = join(this.#directory, `${TEMPORARY}${newHexId(random).slice(0, 16)}`);
    mkdirSync(join(temporary, '_data'), { recursive: true, mode: 0o755 });
    try {
      writeFileDurably(join(temporary, 'volume.json'), JSON.stringify(stored));
      renameSync(temporary, join(this.#directory, name));
      syncDirectory(this.#directory);
    } catch (error) {
      rmSync(temporary, { recursive: true, force: true });
      throw error;
    }
    const volume = this.#enter(name, stored);
    this.#event('create', name);
    return volume;
  }

  get(name: string): Volume {
    return this.#entry(name).volume;
  }

  list(): Volume[] {
    return [...this.#entries.values()].map((entry) => entry.volume);
  }

  usersOf(name: string): string[] {
    return [...(this.#entries.get(name)?.users.keys() ?? [])];
  }

  remove(name: string, force: boolean): Promise<void> {
    return this.#inTurn(name, async () => {
      if (force && !this.#entries.has(name)) return;
      const { users, volume } = this.#entry(name);
      if (users.size > 0) throw conflict(`remove ${name}: volume is in use - [${[...users.keys()].join(', ')}]`);
      unmountEvery(volume.mountpoint);
      const path = join(this.#directory, name);
      const inside = mountPoints().find((point) => point.startsWith(`${path}/`));
      if (inside !== undefined) throw conflict(`remove ${name}: volume is in use - something is mounted at ${inside}`);
      const temporary = join(this.#directory, `${TEMPORARY}${newHexId(this.#options.random).slice(0, 16)}`);
      renameSync(path, temporary);
      this.#entries.delete(name);
      await rm(temporary, { recursive: true, force: true });
      this.#event('destroy', name);
    });
  }

  acquire(name: string, user: string): Promise<string> {
    return this.#inTurn(name, async () => {
      const { volume, users } = this.#entry(name);
      if (volume.options['device'] !== undefined && !mountPoints().includes(volume.mountpoint))
        await this.#mount(volume);
      users.set(user, (users.get(user) ?? 0) + 1);
      return volume.mountpoint;
    });
  }

  async #mount(volume: Volume): Promise<void> {
    try {
      const args = await mountArguments(volume.options, volume.mountpoint);
      await runChecked(this.#options.spawner, { file: 'mount', args, timeoutMs: MOUNT_TIMEOUT_MS });
    } catch (error) {
      throw new ShoalError('Internal', `failed to mount local volume ${volume.name}: ${errorMessage(error)}`, {
        cause: error,
      });
    }
  }

  release(name: string, user: string): Promise<void> {
    return this.#inTurn(name, () => {
      const entry = this.#entries.get(name);
      const count = entry?.users.get(user);
      if (entry === undefined || count === undefined) return Promise.resolve();
      if (count > 1) entry.users.set(user, count - 1);
      else entry.users.delete(user);
      if (entry.users.size === 0 && entry.volume.options['device'] !== undefined) unmountEvery(entry.volume.mountpoint);
      return Promise.resolve();
    });
  }

  async copyUp(rootPath: string, target: string, volumePath: string): Promise<void> {
    const source = resolveInside(rootPath, target);
    if (lstatSync(source, { throwIfNoEntry: false })?.isDirectory() !== true) return;
    if (readdirSync(volumePath).length > 0) return;
    await runChecked(this.#options.spawner, {
      file: 'cp',
      args: ['-a', `${source}/.`, volumePath],
      timeoutMs: COPY_TIMEOUT_MS,
    });
  }
}

/** Opens the local volumes of a data root. Users are told again by `acquire` after a restart. */
// eslint-disable-next-line @typescript-eslint/require-await -- errors must become rejections
export async function openVolumes(options: VolumesOptions): Promise<VolumeStore> {
  return new LocalVolumes(options);
}
