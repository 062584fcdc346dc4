import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { errorMessage, httpCall, ShoalError } from '../../base/index.ts';

/** Docker's places of plugins: sockets, then files that say where a plugin listens. */
export const PLUGIN_DIRECTORIES = ['/run/docker/plugins', '/etc/docker/plugins', '/usr/lib/docker/plugins'];
const CONTENT_TYPE = 'application/vnd.docker.plugins.v1.2+json';
/** The first greeting: `docker info` waits for it. */
const ACTIVATE_TIMEOUT_MS = 3_000;
/** Questions that a plugin answers from memory. */
const ASK_TIMEOUT_MS = 10_000;
/** Work of a plugin: making and mounting may reach for storage elsewhere. */
const WORK_TIMEOUT_MS = 120_000;
const ANSWER_MAX_BYTES = 4 * 1024 * 1024;
const PLUGINS_MAX = 100;

const NAME = /^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/;

/** The address in a .spec or .json file; undefined for one that is not understood. */
function addressIn(path: string): string | undefined {
  try {
    const text = readFileSync(path, 'utf8').trim();
    if (path.endsWith('.spec')) return text;
    const { Addr } = JSON.parse(text) as { Addr?: unknown };
    return typeof Addr === 'string' ? Addr : undefined;
  } catch {
    return undefined;
  }
}

const isSocket = (path: string): boolean => statSync(path, { throwIfNoEntry: false })?.isSocket() === true;

/** Addresses of the plugins there are, by name. */
export function findPlugins(directories: readonly string[]): Map<string, string> {
  const found = new Map<string, string>();
  const add = (name: string, address: string | undefined): void => {
    if (address !== undefined && NAME.test(name) && !found.has(name) && found.size < PLUGINS_MAX) {
      found.set(name, address);
    }
  };
  for (const directory of directories) {
    if (!existsSync(directory)) continue;
    for (const entry of readdirSync(directory).sort()) {
      const path = join(directory, entry);
      const [, name = '', ending] = /^(.+)\.(sock|spec|json)$/.exec(entry) ?? [];
      const nested = join(path, `${entry}.sock`);
      if (ending === 'sock' && isSocket(path)) add(name, `unix://${path}`);
      else if (ending === 'spec' || ending === 'json') add(name, addressIn(path));
      else if (ending === undefined && isSocket(nested)) add(entry, `unix://${nested}`);
    }
  }
  return found;
}

/** One call of a plugin. @throws ShoalError naming the call, with the plugin's own words or why there is no answer */
async function call(
  address: string,
  method: string,
  body: object,
  timeoutMs: number,
): Promise<Record<string, unknown>> {
  let status: number;
  let text: string;
  try {
    const signal = AbortSignal.timeout(timeoutMs);
    const headers = { Accept: CONTENT_TYPE, 'Content-Type': CONTENT_TYPE };
    const answer = await httpCall({
      host: address,
      method: 'POST',
      path: `/${method}`,
      headers,
      body: Buffer.from(JSON.stringify(body)),
      signal,
    });
    status = answer.status;
    const chunks: Buffer[] = [];
    let size = 0;
    for await (const chunk of answer.body as AsyncIterable<Buffer>) {
      size += chunk.length;
      if (size > ANSWER_MAX_BYTES) throw new Error(`its answer is larger than ${ANSWER_MAX_BYTES} bytes`);
      chunks.push(chunk);
    }
    text = Buffer.concat(chunks).toString('utf8');
  } catch (error) {
    const late = error instanceof Error && (error.name === 'TimeoutError' || error.name === 'AbortError');
    const why = late ? `no answer within ${timeoutMs / 1000} s` : errorMessage(error).replace(/^Cannot connect.*$/, '');
    throw new ShoalError('Internal', `${method}: ${why || `nobody listens at ${address}`}`, { cause: error });
  }
  let json: Record<string, unknown> = {};
  try {
    json = text.trim() === '' ? {} : (JSON.parse(text) as Record<string, unknown>);
  } catch {
    // Plain words, as of an HTTP error.
  }
  const words = typeof json['Err'] === 'string' ? json['Err'] : '';
  if (words !== '') throw new ShoalError('Internal', `${method}: ${words}`);
  if (status >= 400) throw new ShoalError('Internal', `${method}: HTTP status ${status}: ${text.trim().slice(0, 500)}`);
  return json;
}

/** A volume as a plugin tells of it. */
export interface PluginVolume {
  name: string;
  mountpoint: string;
  createdAt: string;
  status: Record<string, unknown> | undefined;
}

const text = (value: unknown): string => (typeof value === 'string' ? value : '');

function volumeOf(value: unknown): PluginVolume | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  const { Name, Mountpoint, CreatedAt, Status } = value as Record<string, unknown>;
  if (typeof Name !== 'string' || Name === '') return undefined;
  const status = typeof Status === 'object' && Status !== null ? (Status as Record<string, unknown>) : undefined;
  return { name: Name, mountpoint: text(Mountpoint), createdAt: text(CreatedAt), status };
}

/** Docker's volume plugin protocol (docs "Docker volume plugins"): JSON by POST. */
export class PluginClient {
  readonly name: string;
  readonly #address: string;
  #scope: 'local' | 'global' | undefined;

  private constructor(name: string, address: string) {
    this.name = name;
    this.#address = address;
  }

  /** Greets a plugin. @returns undefined for one that is no volume driver */
  static async activate(name: string, address: string): Promise<PluginClient | undefined> {
    const { Implements } = await call(address, 'Plugin.Activate', {}, ACTIVATE_TIMEOUT_MS);
    const drives = Array.isArray(Implements) && Implements.includes('VolumeDriver');
    return drives ? new PluginClient(name, address) : undefined;
  }

  /** Old plugins do not know the question; their volumes are local. */
  async scope(): Promise<'local' | 'global'> {
    if (this.#scope !== undefined) return this.#scope;
    const answer = await call(this.#address, 'VolumeDriver.Capabilities', {}, ASK_TIMEOUT_MS).catch(() => undefined);
    const { Scope } = (answer?.['Capabilities'] ?? {}) as { Scope?: unknown };
    this.#scope = text(Scope).toLowerCase() === 'global' ? 'global' : 'local';
    return this.#scope;
  }

  async create(name: string, options: Readonly<Record<string, string>>): Promise<void> {
    await call(this.#address, 'VolumeDriver.Create', { Name: name, Opts: options }, WORK_TIMEOUT_MS);
  }

  async remove(name: string): Promise<void> {
    await call(this.#address, 'VolumeDriver.Remove', { Name: name }, WORK_TIMEOUT_MS);
  }

  async mount(name: string, id: string): Promise<string> {
    const answer = await call(this.#address, 'VolumeDriver.Mount', { Name: name, ID: id }, WORK_TIMEOUT_MS);
    return text(answer['Mountpoint']);
  }

  async unmount(name: string, id: string): Promise<void> {
    await call(this.#address, 'VolumeDriver.Unmount', { Name: name, ID: id }, WORK_TIMEOUT_MS);
  }

  async path(name: string): Promise<string> {
    return text((await call(this.#address, 'VolumeDriver.Path', { Name: name }, ASK_TIMEOUT_MS))['Mountpoint']);
  }

  /** Undefined when the plugin knows no such volume: it then answers with an error, in words of its own. */
  async get(name: string): Promise<PluginVolume | undefined> {
    return volumeOf((await call(this.#address, 'VolumeDriver.Get', { Name: name }, ASK_TIMEOUT_MS))['Volume']);
  }

  async list(): Promise<PluginVolume[]> {
    const { Volumes } = await call(this.#address, 'VolumeDriver.List', {}, ASK_TIMEOUT_MS);
    if (!Array.isArray(Volumes)) return [];
    return Volumes.map(volumeOf).filter((volume) => volume !== undefined);
  }
}
