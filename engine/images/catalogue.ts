import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { notFound, type Clock, type Logger, type Random, type Spawner } from '../../base/index.ts';
import { chainIds, LayerStore, type Layer, type LayerBlob, type OnStep } from '../storage/index.ts';
import type { Found } from '../doctor/fault.ts';
import type { EngineEvent, Image } from '../types.ts';
import { ContentStore, sha256 } from './content.ts';
import { Lease } from './lease.ts';
import { parseImageConfig, type ImageFacts } from './image-config.ts';
import { Metadata, type ImageRecord, type MetadataChange } from './metadata.ts';
import { checkStore } from './store-check.ts';
import {
  familiarName,
  familiarRepository,
  isDigest,
  parseReference,
  repositoryOf,
  withDefaultTag,
} from './reference.ts';

interface Entry extends ImageRecord {
  facts: ImageFacts;
  layers: string[];
  sizeBytes: number;
}

/** What is stored of an entry; the rest comes from its configuration. */
function recordOf({ id, addedMs, parentId, taggedMs }: Entry): ImageRecord {
  return {
    ...{ id, addedMs },
    ...(parentId === undefined ? {} : { parentId }),
    ...(taggedMs === undefined ? {} : { taggedMs }),
  };
}

/** The key of a reference in the list: `registry/path@digest`, else `registry/path:tag`. */
export function referenceKey(text: string): string {
  const reference = withDefaultTag(parseReference(text));
  const repository = repositoryOf(reference);
  return reference.digest === undefined ? `${repository}:${reference.tag ?? ''}` : `${repository}@${reference.digest}`;
}

export function repositoryOfKey(key: string): string {
  const at = key.indexOf('@');
  return at === -1 ? key.slice(0, key.lastIndexOf(':')) : key.slice(0, at);
}

/** A key as Docker shows it. */
export function familiarKey(key: string): string {
  const repository = repositoryOfKey(key);
  return familiarRepository(repository) + key.slice(repository.length);
}

export interface CatalogueOptions {
  dataRoot: string;
  spawner: Spawner;
  clock: Clock;
  random: Random;
  log: Logger;
  onEvent: (event: EngineEvent) => void;
  storageDriver?: 'overlay2' | 'vfs' | undefined;
  /** For tests of crashes. */
  onStep?: OnStep | undefined;
}

/** The images of this host: names, configurations, layers, and which of these are needed. All reads are from memory. */
export class Catalogue {
  readonly content: ContentStore;
  readonly layers: LayerStore;
  readonly #metadata: Metadata;
  readonly #options: CatalogueOptions;
  readonly #images = new Map<string, Entry>();
  readonly #references = new Map<string, string>();
  readonly #leases = new Set<Lease>();

  private constructor(options: CatalogueOptions, metadata: Metadata, layers: readonly Layer[]) {
    this.#options = options;
    this.#metadata = metadata;
    this.content = new ContentStore(join(options.dataRoot, 'image'), options.random, options.onStep);
    this.layers = new LayerStore({
      directory: join(options.dataRoot, 'overlay2'),
      spawner: options.spawner,
      random: options.random,
      log: options.log,
      layers,
      driver: options.storageDriver,
      onStep: options.onStep,
    });
  }

  static async open(options: CatalogueOptions): Promise<Catalogue> {
    const metadata = new Metadata(join(options.dataRoot, 'image', 'metadata.db'));
    const stored = await metadata.load();
    try {
      const catalogue = new Catalogue(options, metadata, stored.layers);
      const broken: MetadataChange[] = [];
      for (const record of stored.images) {
        if (!catalogue.#restore(record)) broken.push({ delete: 'image', key: record.id });
      }
      for (const [key, imageId] of stored.references) {
        if (catalogue.#images.has(imageId)) catalogue.#references.set(key, imageId);
        else broken.push({ delete: 'reference', key });
      }
      for (const layer of stored.layers) {
        if (catalogue.layers.get(layer.chainId) === undefined) broken.push({ delete: 'layer', key: layer.chainId });
      }
      await metadata.apply(broken);
      await catalogue.collect();
      catalogue.content.sweep(catalogue.#neededBlobs());
      return catalogue;
    } catch (error) {
      await metadata.close();
      throw error;
    }
  }

  #restore(record: ImageRecord): boolean {
    const { id } = record;
    try {
      const bytes = this.content.read(id);
      if (sha256(bytes) !== id) throw new Error('the configuration does not match its digest');
      this.#images.set(id, this.#entry(record, parseImageConfig(bytes)));
      return true;
    } catch (error) {
      this.#options.log.error('an image is damaged and is dropped; pull or load it again', { id, error });
      return false;
    }
  }

  #entry(record: ImageRecord, facts: ImageFacts): Entry {
    const layers = chainIds(facts.diffIds);
    let sizeBytes = 0;
    for (const chain of layers) {
      const layer = this.layers.get(chain);
      if (layer === undefined) throw new Error(`layer ${chain} is missing`);
      sizeBytes += layer.sizeBytes;
    }
    return { ...record, facts, layers, sizeBytes };
  }

  #image(entry: Entry): Image {
    const names = [...this.#references].filter(([, id]) => id === entry.id).map(([key]) => familiarKey(key));
    return {
      ...structuredClone(entry.facts),
      id: entry.id,
      repoTags: names.filter((name) => !name.includes('@')).sort(),
      repoDigests: names.filter((name) => name.includes('@')).sort(),
      sizeBytes: entry.sizeBytes,
      layers: this.layersOf(entry.id).map(({ chainId, sizeBytes }) => ({ chainId, sizeBytes })),
      ...(this.#images.has(entry.parentId ?? '') ? { parentId: entry.parentId as string } : {}),
      ...(entry.taggedMs === undefined ? {} : { taggedMs: entry.taggedMs }),
    };
  }

  /** The data root. */
  get directory(): string {
    return this.#options.dataRoot;
  }

  has(id: string): boolean {
    return this.#images.has(id);
  }

  /** @throws ShoalError NotFound "No such image: …" for an id that is not here. */
  byId(id: string): Image {
    const entry = this.#images.get(id);
    if (entry === undefined) throw notFound(`No such image: ${id}`);
    return this.#image(entry);
  }

  layersOf(id: string): Layer[] {
    const chain = this.#images.get(id)?.layers ?? [];
    return chain.map((key) => this.layers.get(key)).filter((layer) => layer !== undefined);
  }

  list(): Image[] {
    const order = (entry: Entry): number => entry.facts.createdMs || entry.addedMs;
    return [...this.#images.values()].sort((a, b) => order(b) - order(a)).map((entry) => this.#image(entry));
  }

  /** Images that were made from one here. */
  childrenOf(id: string): string[] {
    return [...this.#images.values()].filter((entry) => entry.parentId === id).map((entry) => entry.id);
  }

  /** Keys of all references to images of a repository, `registry/path`. */
  keysIn(repository: string): string[] {
    return [...this.#references.keys()].filter((key) => repositoryOfKey(key) === repository).sort();
  }

  /** When each image arrived on this host, ms since the epoch. */
  arrivals(): Map<string, number> {
    return new Map([...this.#images.values()].map(({ id, addedMs }) => [id, addedMs]));
  }

  /** Keys of the references to an image. */
  keysOf(id: string): string[] {
    return [...this.#references].filter(([, imageId]) => imageId === id).map(([key]) => key);
  }

  /**
   * What a user's words mean: an id, `name[:tag]`, `name@digest`, or the start of an id, in this order.
   * `key` is set when they are a name. @throws ShoalError NotFound, InvalidArgument.
   */
  resolve(text: string): { id: string; key?: string } {
    const bare = text.startsWith('sha256:') ? text.slice('sha256:'.length) : text;
    if (/^[a-f0-9]{64}$/.test(bare) && this.#images.has(`sha256:${bare}`)) return { id: `sha256:${bare}` };
    const byPrefix = (): string | undefined => {
      if (!/^[a-f0-9]{1,64}$/.test(bare)) return undefined;
      const found = [...this.#images.keys()].filter((id) => id.startsWith(`sha256:${bare}`));
      return found.length === 1 ? found[0] : undefined;
    };
    if (isDigest(text) || /^[a-f0-9]{64}$/.test(text) || text.startsWith('sha256:')) {
      const id = byPrefix();
      if (id === undefined) throw notFound(`No such image: ${text}`);
      return { id };
    }
    const reference = withDefaultTag(parseReference(text));
    const key = referenceKey(text);
    const named = this.#references.get(key);
    if (named !== undefined) return { id: named, key };
    const id = byPrefix();
    if (id === undefined) throw notFound(`No such image: ${familiarName(reference)}`);
    return { id };
  }

  /** Repositories, by their digests here, whose images hold a layer blob. */
  repositoriesWith(blobDigest: string): string[] {
    const found = new Set<string>();
    for (const [key, id] of this.#references) {
      if (key.includes('@') && this.layersOf(id).some((layer) => layer.blob.digest === blobDigest)) {
        found.add(repositoryOfKey(key));
      }
    }
    return [...found];
  }

  event(action: string, actorId: string, name: string, attributes: Readonly<Record<string, string>> = { name }): void {
    const timeMs = this.#options.clock.now();
    this.#options.onEvent({ type: 'image', action, actorId, attributes, timeMs });
  }

  /** What is named in it stays until it is released, or ends by itself. */
  lease(): Lease {
    const lease = new Lease(this.#options.clock);
    this.#leases.add(lease);
    return lease;
  }

  release(lease: Lease): void {
    this.#leases.delete(lease);
  }

  /** Leases that still hold. */
  #held(): Lease[] {
    for (const lease of this.#leases) {
      if (!lease.ended) continue;
      this.#leases.delete(lease);
      const counts = { blobs: lease.blobs.size, layers: lease.layers.size };
      this.#options.log.warn('a lease on blobs and layers was not used any more and has ended', counts);
    }
    return [...this.#leases];
  }

  /** Records an image whose configuration and layers are in the stores, with its names, in one write. */
  async register(id: string, keys: readonly string[], parentId?: string): Promise<Image> {
    const bytes = this.content.read(id);
    if (!this.#images.has(id)) await this.layers.flush();
    const known = this.#images.get(id);
    const former = keys.map((key) => [key, this.#references.get(key)] as const);
    const now = this.#options.clock.now();
    const made = { id, addedMs: now, ...(parentId === undefined ? {} : { parentId }) };
    const before = known ?? this.#entry(made, parseImageConfig(bytes));
    const entry = keys.length === 0 ? before : { ...before, taggedMs: now };
    const changes: MetadataChange[] = keys.map((name) => ({ put: 'reference', name, imageId: id }));
    if (known === undefined) {
      for (const chain of entry.layers) {
        const layer = this.layers.get(chain);
        if (layer !== undefined) changes.push({ put: 'layer', record: layer });
      }
    }
    if (entry !== known) changes.push({ put: 'image', record: recordOf(entry) });
    this.#images.set(id, entry);
    for (const key of keys) this.#references.set(key, id);
    try {
      await this.#metadata.apply(changes);
    } catch (error) {
      if (known === undefined) this.#images.delete(id);
      else this.#images.set(id, known);
      for (const [key, imageId] of former) {
        if (imageId === undefined) this.#references.delete(key);
        else this.#references.set(key, imageId);
      }
      throw error;
    }
    return this.#image(entry);
  }

  /** Takes names away, and the image too when asked; then deletes what nothing needs. Returns deleted layer ids. */
  async drop(keys: readonly string[], imageId: string | undefined): Promise<string[]> {
    const changes: MetadataChange[] = keys.map((key) => ({ delete: 'reference', key }));
    for (const key of keys) this.#references.delete(key);
    if (imageId !== undefined) {
      this.#images.delete(imageId);
      changes.push({ delete: 'image', key: imageId });
    }
    return await this.collect(changes);
  }

  /** Records that the layers that came from one archive have another one now. */
  async replaceBlob(digest: string, blob: LayerBlob): Promise<void> {
    const using = this.layers.list().filter((layer) => layer.blob.digest === digest);
    const replaced = using.map((layer) => this.layers.replaceBlob(layer.chainId, blob));
    await this.#metadata.apply(replaced.map((record) => ({ put: 'layer', record })));
  }

  #neededLayers(): Set<string> {
    const needed = new Set(this.layers.layersOfRoots());
    for (const entry of this.#images.values()) for (const chain of entry.layers) needed.add(chain);
    for (const lease of this.#held()) for (const chain of lease.layers) needed.add(chain);
    return needed;
  }

  #neededBlobs(): Set<string> {
    const needed = new Set(this.#images.keys());
    for (const layer of this.layers.list()) needed.add(layer.blob.digest);
    for (const lease of this.#held()) for (const digest of lease.blobs) needed.add(digest);
    return needed;
  }

  /** Deletes layers and blobs that no image, root or running operation needs, together with `changes` in one write. */
  async collect(changes: readonly MetadataChange[] = []): Promise<string[]> {
    const needed = this.#neededLayers();
    const gone = this.layers.list().filter((layer) => !needed.has(layer.chainId));
    const candidates = new Set(gone.map((layer) => layer.blob.digest));
    for (const change of changes) if ('delete' in change && change.delete === 'image') candidates.add(change.key);
    const ids = gone.map((layer) => layer.chainId);
    const discard = this.layers.forget(ids);
    const after = this.#neededBlobs();
    for (const digest of candidates) if (!after.has(digest)) this.content.remove(digest);
    await this.#metadata.apply([...changes, ...ids.map((key) => ({ delete: 'layer' as const, key }))]);
    await discard();
    return ids;
  }

  /** Deletes blobs an operation brought that nothing needs after it. */
  discardBlobs(digests: Iterable<string>): void {
    const needed = this.#neededBlobs();
    for (const digest of digests) if (!needed.has(digest)) this.content.remove(digest);
  }

  /** Compares the store with its disk; see store-check.ts. Repairs go through the catalogue. */
  examine(containers: ReadonlySet<string>, deep: boolean, found: Found): Promise<Record<string, number>> {
    const view = {
      dataRoot: this.#options.dataRoot,
      images: [...this.#images.keys()],
      layers: this.layers.list(),
      references: this.#references,
      held: {
        blobs: new Set(this.#held().flatMap((lease) => [...lease.blobs])),
        layers: new Set(this.#held().flatMap((lease) => [...lease.layers])),
      },
      busy: this.#held().length > 0 || this.layers.busy,
      containers,
      nowMs: this.#options.clock.now(),
    };
    const dropImage = async (id: string): Promise<void> => void (await this.drop(this.keysOf(id), id));
    const mend = {
      dropImage,
      dropLayer: async (chainId: string): Promise<void> => {
        for (const { id, layers } of [...this.#images.values()]) if (layers.includes(chainId)) await dropImage(id);
        await this.collect();
      },
      dropReference: async (key: string): Promise<void> => void (await this.drop([key], undefined)),
      relink: (layer: Layer): void => this.layers.relink(layer),
      removeBlob: (path: string): void => rmSync(path, { recursive: true, force: true }),
      discard: (path: string): Promise<void> => this.layers.clear(path),
      removeRoot: (id: string): Promise<void> => this.layers.removeRoot(id),
    };
    return checkStore({ ...view, mend }, deep, found);
  }

  async close(): Promise<void> {
    await this.#metadata.close();
  }
}
