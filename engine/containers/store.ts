import { mkdir, open, readdir, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { errorMessage, spreadChildren, type Logger } from '../../base/index.ts';
import type { Monitored } from '../runtime/conmon.ts';
import { spaceError } from '../storage/index.ts';
import type { Container, MountRequest } from '../types.ts';

const FILE_NAME = 'container.json';
/** The latest state, not yet on the disk: a power cut may leave it torn, and then the other file counts. */
const STATE_NAME = 'state.json';
const VERSION = 1;

/** A mount with what it was found to mean when the container was made. */
export type StoredMount = MountRequest & {
  /** A volume that nobody named. */
  anonymous?: boolean;
  /** The image that `source` stood for. */
  imageId?: string;
};

/** A container as it is kept on disk. Injected files are named there, their bytes never are. */
export interface StoredContainer {
  container: Container;
  /** The user's and the image's mounts; volumes have their real names. */
  mounts: readonly StoredMount[];
  /** The processes of its present run. */
  monitored?: Monitored;
  /** How often the kernel killed a process of its present run for lack of memory, as far as it was told. */
  oomKills?: number;
  /** See `UserActs`. */
  manuallyStopped: boolean;
  policyEnded?: boolean;
}

/** A container whose removal was cut off after it had been decided. */
export interface RetiredContainer {
  id: string;
  /** Its anonymous volumes go too. */
  volumes: boolean;
  /** Undefined when its record cannot be read. */
  stored: StoredContainer | undefined;
}

/** Endings of the directories of containers that are being removed: without and with their anonymous volumes. */
const RETIRED = '.removed';
const RETIRED_WITH_VOLUMES = '.removed-volumes';

/** One directory per container below `root`, each with one JSON file that is replaced as a whole. */
export class ContainerStore {
  readonly #root: string;
  readonly #log: Logger;
  /** Ids of containers whose record is there but cannot be read. */
  readonly unreadable = new Set<string>();
  #sequence = 0;

  constructor(root: string, log: Logger) {
    this.#root = root;
    this.#log = log;
  }

  directory(id: string): string {
    return join(this.#root, id);
  }

  /** All containers; one whose file cannot be read is left out and logged, its directory stays for the operator. */
  async load(): Promise<StoredContainer[]> {
    await mkdir(this.#root, { recursive: true, mode: 0o710 });
    spreadChildren(this.#root);
    const found: StoredContainer[] = [];
    for (const id of await readdir(this.#root)) {
      if (!/^[0-9a-f]{64}$/.test(id)) continue;
      try {
        found.push(await this.#read(id));
      } catch (error) {
        const missing = (error as NodeJS.ErrnoException).code === 'ENOENT';
        // A creation that was cut off before its first write was never acknowledged.
        if (missing) await rm(join(this.#root, id), { recursive: true, force: true });
        else {
          this.unreadable.add(id);
          this.#log.error('a container cannot be read', { id, error: errorMessage(error) });
        }
      }
    }
    return found;
  }

  async #read(directory: string): Promise<StoredContainer> {
    const text = await readFile(join(this.#root, directory, FILE_NAME), 'utf8');
    const state = await readFile(join(this.#root, directory, STATE_NAME), 'utf8').then(parseRecord, () => undefined);
    const record = parseRecord(text) ?? state;
    if (record === undefined && isBlank(text)) throw new NeverWritten();
    if (record === undefined) throw new Error('its file is damaged');
    const newest = state !== undefined && state.sequence > record.sequence ? state : record;
    if (newest.version !== VERSION) throw new Error(`its file has the unknown version ${newest.version}`);
    this.#sequence = Math.max(this.#sequence, newest.sequence);
    const { container } = newest.stored;
    const files = container.config.files.map((file) => ({ ...file, data: new Uint8Array() }));
    return { ...newest.stored, container: { ...container, config: { ...container.config, files } } };
  }

  /** Reads every record and changes nothing. */
  async survey(): Promise<StoredContainer[]> {
    const found: StoredContainer[] = [];
    const names = await readdir(this.#root).catch(() => []);
    for (const id of names.filter((name) => /^[0-9a-f]{64}$/.test(name))) {
      try {
        found.push(await this.#read(id));
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ENOENT') this.unreadable.add(id);
      }
    }
    return found;
  }

  /** Containers whose removal was cut off: `erase` ends it. */
  async retired(): Promise<RetiredContainer[]> {
    const found: RetiredContainer[] = [];
    for (const name of await readdir(this.#root)) {
      const [, id = '', ending = ''] = /^([0-9a-f]{64})(\.removed(?:-volumes)?)$/.exec(name) ?? [];
      if (id === '') continue;
      const stored = await this.#read(name).catch(() => undefined);
      found.push({ id, volumes: ending === RETIRED_WITH_VOLUMES, stored });
    }
    return found;
  }

  /**
   * Takes a container off the list before anything of it is deleted: a crash after this leaves no container without its
   * files. Idempotent. @param durably wait for the disk: after a power cut it must not be there again
   */
  async retire(id: string, volumes: boolean, durably = true): Promise<void> {
    const to = `${this.directory(id)}${volumes ? RETIRED_WITH_VOLUMES : RETIRED}`;
    try {
      await rename(this.directory(id), to);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
    if (durably) await syncDirectory(this.#root);
  }

  /** Deletes what `retire` took off the list. */
  async erase(id: string): Promise<void> {
    for (const ending of [RETIRED, RETIRED_WITH_VOLUMES]) {
      await rm(`${this.directory(id)}${ending}`, { recursive: true, force: true });
    }
  }

  async makeDirectory(id: string): Promise<void> {
    await mkdir(this.directory(id), { mode: 0o710 });
  }

  /**
   * Replaces the container's file durably. A container that removes itself would not outlive a power cut in any case: its
   * first record does not wait for the disk. @param first also makes the new directory itself durable.
   */
  async write(stored: StoredContainer, first: boolean): Promise<void> {
    const directory = this.directory(stored.container.id);
    const passing = first && stored.container.config.autoRemove;
    await this.#replace(directory, FILE_NAME, stored, !passing);
    if (passing) return;
    if (first) {
      await syncDirectory(directory);
      await syncDirectory(this.#root);
    } else await rm(join(directory, STATE_NAME), { force: true });
  }

  /** Writes the latest state beside it, whole, but without waiting for the disk. */
  async writeState(stored: StoredContainer): Promise<void> {
    await this.#replace(this.directory(stored.container.id), STATE_NAME, stored, false);
  }

  async #replace(directory: string, name: string, stored: StoredContainer, durably: boolean): Promise<void> {
    const record = { version: VERSION, sequence: ++this.#sequence, stored };
    const text = JSON.stringify(record, (key, value: unknown) =>
      key === 'data' && value instanceof Uint8Array ? undefined : value,
    );
    const path = join(directory, name);
    try {
      const handle = await open(`${path}.new`, 'w', 0o600);
      try {
        await handle.writeFile(text);
        if (durably) await handle.datasync();
      } finally {
        await handle.close();
      }
      await rename(`${path}.new`, path);
    } catch (error) {
      await rm(`${path}.new`, { force: true });
      throw spaceError(error, `the record of container ${stored.container.id.slice(0, 12)}`, this.#root);
    }
  }

  async remove(id: string): Promise<void> {
    await rm(this.directory(id), { recursive: true, force: true });
  }
}

interface StoredRecord {
  version: number;
  /** Later records have higher numbers. */
  sequence: number;
  stored: StoredContainer;
}

/** A record that a power cut kept from the disk: its creation was never acknowledged as lasting. */
class NeverWritten extends Error {
  readonly code = 'ENOENT';
}

/** What a file system shows of a file whose bytes never came to the disk. */
const isBlank = (text: string): boolean => /^\0*$/.test(text);

/** Undefined for what is torn. */
function parseRecord(text: string): StoredRecord | undefined {
  try {
    const record = JSON.parse(text) as Omit<StoredRecord, 'sequence'> & { sequence?: number };
    return { ...record, sequence: record.sequence ?? 0 };
  } catch {
    return undefined;
  }
}

async function syncDirectory(path: string): Promise<void> {
  const handle = await open(path, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
