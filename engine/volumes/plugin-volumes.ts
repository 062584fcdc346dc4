import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { isAbsolute, join } from 'node:path';
import {
  errorMessage,
  notFound,
  runChecked,
  ShoalError,
  writeFileDurably,
  type Logger,
  type Spawner,
} from '../../base/index.ts';
import type { Volume } from '../types.ts';
import type { StoredVolume } from './local-driver.ts';
import { findPlugins, PLUGIN_DIRECTORIES, PluginClient, type PluginVolume } from './plugin-client.ts';

const COPY_TIMEOUT_MS = 30 * 60_000;

export interface PluginStoreOptions {
  dataRoot: string;
  spawner: Spawner;
  log: Logger;
  pluginDirectories?: readonly string[];
}

/** Volumes whose drivers are programs of their own. */
export interface PluginVolumes {
  restore(): Volume[];
  create(name: string, driver: string, stored: StoredVolume): Promise<Volume>;
  find(name: string): Promise<Volume | undefined>;
  inspect(volume: Volume): Promise<Volume>;
  list(): Promise<{ volumes: Volume[]; warnings: string[] }>;
  remove(volume: Volume, force: boolean): Promise<void>;
  mount(volume: Volume, user: string): Promise<string>;
  unmount(volume: Volume, user: string): Promise<void>;
  fill(volume: Volume, from: string): Promise<void>;
  names(): Promise<string[]>;
}

/** Keeps labels and options of such volumes; all else is asked of the plugin. Plugins are found when they are needed. */
export class PluginStore implements PluginVolumes {
  readonly #options: PluginStoreOptions;
  readonly #directory: string;
  /** Plugins that have answered, by name and address. */
  readonly #active = new Map<string, PluginClient>();

  constructor(options: PluginStoreOptions) {
    this.#options = options;
    this.#directory = join(options.dataRoot, 'volume-plugins');
  }

  #file(name: string): string {
    // Plugins name their volumes as they like.
    return join(this.#directory, `${createHash('sha256').update(name).digest('hex')}.json`);
  }

  restore(): Volume[] {
    let files: string[] = [];
    try {
      files = readdirSync(this.#directory).filter((name) => /^[0-9a-f]{64}\.json$/.test(name));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
    return files.flatMap((name) => {
      try {
        const { mountpoint: _, ...volume } = JSON.parse(readFileSync(join(this.#directory, name), 'utf8')) as Volume;
        return [{ ...volume, mountpoint: '' }];
      } catch (error) {
        this.#options.log.error('the description of a volume of a plugin is damaged', { name, error });
        return [];
      }
    });
  }

  #addresses(): Map<string, string> {
    return findPlugins(this.#options.pluginDirectories ?? PLUGIN_DIRECTORIES);
  }

  /** @throws ShoalError NotFound in Docker's words */
  async #plugin(driver: string): Promise<PluginClient> {
    const address = this.#addresses().get(driver);
    const lost = (why: string): Error => notFound(`error looking up volume plugin ${driver}: ${why}`);
    if (address === undefined) throw lost(`plugin "${driver}" not found`);
    const key = `${driver} ${address}`;
    const known = this.#active.get(key);
    if (known !== undefined) return known;
    const plugin = await PluginClient.activate(driver, address).catch((error: unknown) => {
      throw lost(errorMessage(error));
    });
    if (plugin === undefined) throw lost(`plugin "${driver}" does not implement VolumeDriver`);
    this.#active.set(key, plugin);
    return plugin;
  }

  /** All plugins that answer. */
  async #all(): Promise<{ plugins: PluginClient[]; warnings: string[] }> {
    const plugins: PluginClient[] = [];
    const warnings: string[] = [];
    const asked = [...this.#addresses().keys()].map((name) =>
      this.#plugin(name).then(
        (plugin) => plugins.push(plugin),
        (error: unknown) => warnings.push(errorMessage(error)),
      ),
    );
    await Promise.all(asked);
    return { plugins: plugins.sort((a, b) => (a.name < b.name ? -1 : 1)), warnings };
  }

  async names(): Promise<string[]> {
    return (await this.#all()).plugins.map((plugin) => plugin.name);
  }

  async create(name: string, driver: string, stored: StoredVolume): Promise<Volume> {
    const plugin = await this.#plugin(driver);
    await plugin.create(name, stored.options).catch(failed(`create ${name}`));
    const volume = { name, driver, mountpoint: '', ...stored, anonymous: false, scope: await plugin.scope() };
    try {
      mkdirSync(this.#directory, { recursive: true, mode: 0o700 });
      writeFileDurably(this.#file(name), JSON.stringify(volume));
    } catch (error) {
      await plugin.remove(name).catch(() => undefined);
      throw error;
    }
    return volume;
  }

  async find(name: string): Promise<Volume | undefined> {
    for (const plugin of (await this.#all()).plugins) {
      const found = await plugin.get(name).catch(() => undefined);
      if (found !== undefined) return this.#foreign(plugin, found);
    }
    return undefined;
  }

  async #foreign(plugin: PluginClient, found: PluginVolume): Promise<Volume> {
    const { name, mountpoint, createdAt, status } = found;
    const createdMs = Date.parse(createdAt) || 0;
    const facts = { createdMs, labels: {}, options: {}, anonymous: false, scope: await plugin.scope() };
    return { name, driver: plugin.name, mountpoint, ...facts, ...(status === undefined ? {} : { status }) };
  }

  async inspect(volume: Volume): Promise<Volume> {
    const plugin = await this.#plugin(volume.driver);
    const found = await plugin.get(volume.name).catch(failed(`get ${volume.name}`));
    if (found === undefined) throw notFound(`get ${volume.name}: no such volume`);
    const mountpoint = found.mountpoint || volume.mountpoint;
    return { ...volume, mountpoint, ...(found.status === undefined ? {} : { status: found.status }) };
  }

  async list(): Promise<{ volumes: Volume[]; warnings: string[] }> {
    const { plugins, warnings } = await this.#all();
    const volumes: Volume[] = [];
    for (const plugin of plugins) {
      const found = await plugin.list().catch((error: unknown) => {
        warnings.push(`list of volume driver ${plugin.name}: ${errorMessage(error)}`);
        return [];
      });
      for (const one of found) volumes.push(await this.#foreign(plugin, one));
    }
    return { volumes, warnings };
  }

  async remove({ name, driver }: Volume, force: boolean): Promise<void> {
    try {
      const plugin = await this.#plugin(driver);
      await plugin.remove(name).catch(failed(`remove ${name}`));
    } catch (error) {
      // By force it is forgotten here, whatever the plugin says.
      if (!force) throw error;
      this.#options.log.warn('a plugin did not remove its volume', { name, driver, error: errorMessage(error) });
    }
    rmSync(this.#file(name), { force: true });
  }

  async mount({ name, driver }: Volume, user: string): Promise<string> {
    const plugin = await this.#plugin(driver);
    const path = await plugin.mount(name, user).catch(failed(`error while mounting volume '${name}'`));
    if (isAbsolute(path)) return path;
    const words = `VolumeDriver.Mount of ${driver} gave no path: "${path}"`;
    throw new ShoalError('Internal', `error while mounting volume '${name}': ${words}`);
  }

  async unmount({ name, driver }: Volume, user: string): Promise<void> {
    const plugin = await this.#plugin(driver);
    await plugin.unmount(name, user).catch(failed(`unmount ${name}`));
  }

  async fill({ mountpoint }: Volume, from: string): Promise<void> {
    if ((await readdir(mountpoint)).length > 0) return;
    const args = ['-a', '--', `${from}/.`, mountpoint];
    await runChecked(this.#options.spawner, { file: 'cp', args, timeoutMs: COPY_TIMEOUT_MS });
  }
}

/** Says what was being done, before the plugin's own words. */
function failed(what: string): (error: unknown) => never {
  return (error) => {
    throw new ShoalError('Internal', `${what}: ${errorMessage(error)}`, { cause: error });
  };
}
