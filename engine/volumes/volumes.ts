import { conflict, errorMessage, newHexId, notFound, type Clock, type Logger, type Random } from '../../base/index.ts';
import type { Spawner } from '../../base/index.ts';
import type { Container, EngineEvent, Volume, VolumePruneOptions, Volumes } from '../types.ts';
import { LocalDriver, type StoredVolume } from './local-driver.ts';
import { PluginStore, type PluginVolumes } from './plugin-volumes.ts';
import { treeSize } from './size.ts';

/** Docker's mark of a volume that was made without a name. */
export const ANONYMOUS_LABEL = 'com.docker.volume.anonymous';
const LOCAL = 'local';

export interface VolumesOptions {
  /** Holds `volumes/` and `volume-plugins/`. */
  dataRoot: string;
  spawner: Spawner;
  clock: Clock;
  random: Random;
  log: Logger;
  onEvent: (event: EngineEvent) => void;
  /** Containers that have a volume, whether they run or not; none are known when absent. */
  usedBy?: (name: string) => string[];
  /** Who owns new volumes of the local driver: root of containers on the host; default root. */
  owner?: { uid: number; gid: number };
  /** Where plugins say how they are reached; default Docker's places. */
  pluginDirectories?: readonly string[];
}

interface Entry {
  volume: Volume;
  /** How often each container has it mounted. */
  users: Map<string, number>;
}

class VolumeSet implements Volumes {
  readonly #options: VolumesOptions;
  readonly #local: LocalDriver;
  readonly #plugins: PluginVolumes;
  readonly #entries = new Map<string, Entry>();
  /** Mounting and deleting of one volume take turns. */
  readonly #turns = new Map<string, Promise<void>>();
  #pruning = false;

  constructor(options: VolumesOptions) {
    this.#options = options;
    this.#local = new LocalDriver(options);
    this.#plugins = new PluginStore(options);
    for (const { name, ...stored } of this.#local.restore()) this.#enterLocal(name, stored);
    for (const volume of this.#plugins.restore()) this.#entries.set(volume.name, { volume, users: new Map() });
  }

  #enterLocal(name: string, { createdMs, labels, options }: StoredVolume): Volume {
    const mountpoint = this.#local.mountpoint(name);
    const anonymous = labels[ANONYMOUS_LABEL] !== undefined;
    const volume: Volume = { name, driver: LOCAL, mountpoint, createdMs, labels, options, anonymous };
    this.#entries.set(name, { volume, users: new Map() });
    return volume;
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

  #event(action: string, actorId: string, attributes: Readonly<Record<string, string>>): void {
    const { clock, onEvent } = this.#options;
    onEvent({ type: 'volume', action, actorId, attributes, timeMs: clock.now() });
  }

  create(request: Parameters<Volumes['create']>[0]): Promise<Volume> {
    const { clock, random } = this.#options;
    const anonymous = request.name === '';
    const name = anonymous ? newHexId(random) : request.name;
    const driver = request.driver === '' ? LOCAL : request.driver;
    return this.#inTurn(name, async () => {
      const existing = this.#entries.get(name)?.volume;
      if (existing !== undefined) {
        if (request.driver === '' || existing.driver === driver) return existing;
        const why = `driver '${existing.driver}' already has volume '${name}'`;
        throw conflict(`create ${name}: ${why}: volume name must be unique`);
      }
      const labels = anonymous ? { ...request.labels, [ANONYMOUS_LABEL]: '' } : { ...request.labels };
      const stored: StoredVolume = { createdMs: clock.now(), labels, options: { ...request.options } };
      const volume = await (driver === LOCAL
        ? this.#createLocal(name, stored)
        : this.#plugins.create(name, driver, stored));
      this.#entries.set(name, { volume, users: new Map() });
      this.#event('create', name, { driver });
      return volume;
    });
  }

  async #createLocal(name: string, stored: StoredVolume): Promise<Volume> {
    this.#local.check(name, stored.options);
    this.#local.create(name, stored);
    return this.#enterLocal(name, stored);
  }

  get(name: string): Volume {
    return this.#entry(name).volume;
  }

  list(): Volume[] {
    return [...this.#entries.values()].map((entry) => entry.volume);
  }

  async inspect(name: string): Promise<Volume> {
    const known = this.#entries.get(name)?.volume;
    if (known === undefined) {
      // A plugin may know volumes that were made elsewhere.
      const found = await this.#plugins.find(name);
      if (found === undefined) throw notFound(`get ${name}: no such volume`);
      this.#entries.set(name, { volume: found, users: new Map() });
      return found;
    }
    return known.driver === LOCAL ? known : this.#plugins.inspect(known);
  }

  async listAll(): Promise<{ volumes: Volume[]; warnings: string[] }> {
    const { volumes: theirs, warnings } = await this.#plugins.list();
    const known = this.list();
    const more = theirs.filter(({ name }) => !this.#entries.has(name));
    const all = [...known, ...more].sort((a, b) => (a.name < b.name ? -1 : 1));
    return { volumes: all, warnings };
  }

  usersOf(name: string): string[] {
    const mounted = this.#entries.get(name)?.users.keys() ?? [];
    return [...new Set([...(this.#options.usedBy?.(name) ?? []), ...mounted])];
  }

  remove(name: string, force: boolean): Promise<void> {
    return this.#inTurn(name, async () => {
      if (!this.#entries.has(name)) {
        // One that only a plugin knows is known from here on.
        const found = await this.inspect(name).catch((error: unknown) => (force ? undefined : Promise.reject(error)));
        if (found === undefined) return;
      }
      const { volume } = this.#entry(name);
      const users = this.usersOf(name);
      if (users.length > 0) throw conflict(`remove ${name}: volume is in use - [${users.join(', ')}]`);
      if (volume.driver === LOCAL) await this.#local.remove(name);
      else await this.#plugins.remove(volume, force);
      this.#entries.delete(name);
      this.#event('destroy', name, { driver: volume.driver });
    });
  }

  acquire(name: string, user: string): Promise<string> {
    return this.#inTurn(name, async () => {
      const entry = this.#entry(name);
      const { volume, users } = entry;
      const count = users.get(user) ?? 0;
      const local = volume.driver === LOCAL;
      // A plugin is told of each container once, by its id.
      const path = local
        ? await this.#local.mount(volume)
        : count > 0 && volume.mountpoint !== ''
          ? volume.mountpoint
          : await this.#plugins.mount(volume, user);
      if (!local) entry.volume = { ...volume, mountpoint: path };
      users.set(user, count + 1);
      return path;
    });
  }

  retain(name: string, user: string): void {
    const users = this.#entries.get(name)?.users;
    users?.set(user, (users.get(user) ?? 0) + 1);
  }

  release(name: string, user: string): Promise<void> {
    return this.#inTurn(name, async () => {
      const entry = this.#entries.get(name);
      if (entry === undefined) return;
      const { volume, users } = entry;
      const count = users.get(user) ?? 0;
      if (count > 1) users.set(user, count - 1);
      else users.delete(user);
      // Also when nobody is known to have it: a start that was cut off may have mounted it.
      if (volume.driver === LOCAL && users.size === 0) this.#local.unmount(volume);
      if (volume.driver !== LOCAL && count === 1) {
        if (users.size === 0) entry.volume = { ...volume, mountpoint: '' };
        await this.#plugins.unmount(volume, user);
      }
    });
  }

  fill(name: string, from: string): Promise<void> {
    return this.#inTurn(name, async () => {
      const { volume, users } = this.#entry(name);
      if (volume.driver === LOCAL) await this.#local.fill(volume, from, users.size === 1);
      else await this.#plugins.fill(volume, from);
    });
  }

  async sizeOf(name: string): Promise<number> {
    const { volume } = this.#entry(name);
    return volume.driver === LOCAL ? treeSize(volume.mountpoint) : -1;
  }

  async prune({ all, matches }: VolumePruneOptions): Promise<{ deleted: string[]; reclaimedBytes: number }> {
    if (this.#pruning) throw conflict('a prune operation is already running');
    this.#pruning = true;
    try {
      const deleted: string[] = [];
      let reclaimedBytes = 0;
      const found = this.list().filter((volume) => {
        const plain = volume.driver === LOCAL && Object.keys(volume.options).length === 0;
        return plain && (all || volume.anonymous) && matches(volume) && this.usersOf(volume.name).length === 0;
      });
      for (const { name } of found) {
        const size = await this.sizeOf(name).catch(() => 0);
        try {
          await this.remove(name, false);
        } catch (error) {
          // A container has taken it meanwhile, or it is gone.
          this.#options.log.debug('a volume is not pruned', { name, error: errorMessage(error) });
          continue;
        }
        deleted.push(name);
        reclaimedBytes += size;
      }
      this.#event('prune', '', { reclaimed: String(reclaimedBytes) });
      return { deleted, reclaimedBytes };
    } finally {
      this.#pruning = false;
    }
  }

  async drivers(): Promise<string[]> {
    return [LOCAL, ...(await this.#plugins.names())];
  }
}

/** Containers that have a volume; one that is being removed has it no more. */
export function volumeUsers(containers: readonly Pick<Container, 'id' | 'state' | 'mounts'>[], name: string): string[] {
  const having = containers.filter(({ state, mounts }) => {
    return state !== 'removing' && mounts.some((mount) => mount.type === 'volume' && mount.name === name);
  });
  return having.map(({ id }) => id);
}

/** Opens the volumes of a data root. Users are told again by `retain` after a restart. */
// eslint-disable-next-line @typescript-eslint/require-await -- errors must become rejections
export async function openVolumes(options: VolumesOptions): Promise<Volumes> {
  return new VolumeSet(options);
}
