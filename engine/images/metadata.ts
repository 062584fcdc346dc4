import { mkdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { Level, type BatchOperation } from 'level';
import type { Layer } from '../storage/index.ts';

/** What is stored of an image beside its configuration blob. */
export interface ImageRecord {
  /** sha256:… of the configuration. */
  id: string;
  /** When it arrived on this host, ms since the epoch; orders images without a date. */
  addedMs: number;
  /** The image it was committed or built from here, sha256:…; absent: it came whole. */
  parentId?: string;
  /** When a name was last given to it, ms since the epoch; absent: never. */
  taggedMs?: number;
}

export type MetadataChange =
  | { put: 'image'; record: ImageRecord }
  | { put: 'layer'; record: Layer }
  | { put: 'reference'; name: string; imageId: string }
  | { delete: 'image' | 'layer' | 'reference'; key: string };

/** Everything stored, as read at the start. */
export interface StoredMetadata {
  images: ImageRecord[];
  layers: Layer[];
  /** `registry/path:tag` or `registry/path@sha256:…` → image id. */
  references: Map<string, string>;
}

/** The durable part of the image list: one key-value database, each change one atomic, flushed batch. */
export class Metadata {
  readonly #db: Level<string, unknown>;
  /** Batches run one after the other: the database itself promises no order between concurrent ones. */
  #last: Promise<void> = Promise.resolve();

  constructor(path: string) {
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    this.#db = new Level<string, unknown>(path, { valueEncoding: 'json' });
  }

  async load(): Promise<StoredMetadata> {
    await this.#db.open();
    const stored: StoredMetadata = { images: [], layers: [], references: new Map() };
    for await (const [key, value] of this.#db.iterator()) {
      const name = key.slice(key.indexOf('!') + 1);
      if (key.startsWith('image!')) stored.images.push(value as ImageRecord);
      else if (key.startsWith('layer!')) stored.layers.push(value as Layer);
      else if (key.startsWith('reference!')) stored.references.set(name, value as string);
    }
    return stored;
  }

  /** Applies all changes or none. */
  apply(changes: readonly MetadataChange[]): Promise<void> {
    if (changes.length === 0) return Promise.resolve();
    const operations = changes.map((change): BatchOperation<Level<string, unknown>, string, unknown> => {
      if ('delete' in change) return { type: 'del' as const, key: `${change.delete}!${change.key}` };
      if (change.put === 'image')
        return { type: 'put' as const, key: `image!${change.record.id}`, value: change.record };
      if (change.put === 'layer') {
        return { type: 'put' as const, key: `layer!${change.record.chainId}`, value: change.record };
      }
      return { type: 'put' as const, key: `reference!${change.name}`, value: change.imageId };
    });
    const done = this.#last.then(() => this.#db.batch(operations, { sync: true }));
    this.#last = done.catch(() => undefined);
    return done;
  }

  async close(): Promise<void> {
    await this.#last;
    await this.#db.close();
  }
}

/** Reads what is stored below a data root that no daemon uses. @throws Error while another process has it open */
export async function readStore(dataRoot: string): Promise<StoredMetadata> {
  const metadata = new Metadata(join(dataRoot, 'image', 'metadata.db'));
  const stored = await metadata.load();
  await metadata.close();
  return stored;
}
