import { mkdir, open, readdir, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { errorMessage, type Logger } from '../../base/index.ts';
import type { Monitored } from '../runtime/conmon.ts';
import type { Container, MountRequest } from '../types.ts';

const FILE_NAME = 'container.json';
const VERSION = 1;

/** A container as it is kept on disk. Injected files are named there, their bytes never are. */
export interface StoredContainer {
  container: Container;
  /** The user's and the image's mounts; volumes have their real names. */
  mounts: readonly (MountRequest & { anonymous?: boolean })[];
  /** The processes of its present run. */
  monitored?: Monitored;
  /** A user stopped it: `unless-stopped` does not bring it back. */
  manuallyStopped: boolean;
}

/** One directory per container below `root`, each with one JSON file that is replaced as a whole. */
export class ContainerStore {
  readonly #root: string;
  readonly #log: Logger;

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
    const found: StoredContainer[] = [];
    for (const id of await readdir(this.#root)) {
      if (!/^[0-9a-f]{64}$/.test(id)) continue;
      try {
        const parsed = JSON.parse(await readFile(join(this.#root, id, FILE_NAME), 'utf8')) as {
          version: number;
          stored: StoredContainer;
        };
        if (parsed.version !== VERSION) throw new Error(`its file has the unknown version ${parsed.version}`);
        const { container } = parsed.stored;
        const files = container.config.files.map((file) => ({ ...file, data: new Uint8Array() }));
        found.push({ ...parsed.stored, container: { ...container, config: { ...container.config, files } } });
      } catch (error) {
        const missing = (error as NodeJS.ErrnoException).code === 'ENOENT';
        // A creation that was cut off before its first write was never acknowledged.
        if (missing) await rm(join(this.#root, id), { recursive: true, force: true });
        else this.#log.error('a container cannot be read', { id, error: errorMessage(error) });
      }
    }
    return found;
  }

  async makeDirectory(id: string): Promise<void> {
    await mkdir(this.directory(id), { mode: 0o710 });
  }

  /** Replaces the container's file durably. @param first also makes the new directory itself durable. */
  async write(stored: StoredContainer, first: boolean): Promise<void> {
    const { container } = stored;
    const directory = this.directory(container.id);
    const text = JSON.stringify({ version: VERSION, stored }, (key, value: unknown) =>
      key === 'data' && value instanceof Uint8Array ? undefined : value,
    );
    const path = join(directory, FILE_NAME);
    const handle = await open(`${path}.new`, 'w', 0o600);
    try {
      await handle.writeFile(text);
      await handle.datasync();
    } finally {
      await handle.close();
    }
    await rename(`${path}.new`, path);
    if (first) {
      await syncDirectory(directory);
      await syncDirectory(this.#root);
    }
  }

  async remove(id: string): Promise<void> {
    await rm(this.directory(id), { recursive: true, force: true });
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
