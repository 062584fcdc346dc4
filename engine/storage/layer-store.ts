import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import {
  assert,
  failedPrecondition,
  must,
  newHexId,
  notFound,
  runChecked,
  spreadChildren,
  type Logger,
  type Random,
  type Spawner,
} from '../../base/index.ts';
import type { RootIds, RootParts } from '../types.ts';
import { partsOfRoot } from './root-parts.ts';
import { chainId, layerLink, linkTarget, shortId, type Layer, type LayerBlob } from './layers.ts';
import { applyLayer, type Whiteouts } from './apply.ts';
import type { LayerDirectory, OnStep, StorageDriver } from './driver.ts';
import { checkDriver, markLayer, readRoot, type RootRecord } from './root-record.ts';
import { OverlayDriver, overlayProblem, unmountRootParts } from './overlay-driver.ts';
import { CopyDriver } from './vfs-driver.ts';

const TEMPORARY = 'tmp-';
const ROOT_ID = /^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$/;

/** A layer to be unpacked. */
export interface AddRequest {
  parent: string;
  diffId?: string;
  blobPath: string;
  blob: LayerBlob;
  /** Is told the chain id before the layer can be found, and so before it could be collected. */
  claim?: (chainId: string) => void;
}

export interface LayerStoreOptions {
  /** The overlay2 directory. */
  directory: string;
  spawner: Spawner;
  random: Random;
  log: Logger;
  /** Layers recorded as complete, from the metadata. */
  layers: readonly Layer[];
  /** 'overlay2' or 'vfs' without probing; default: what works. */
  driver?: 'overlay2' | 'vfs' | undefined;
  onStep?: OnStep | undefined;
}

/**
 * The unpacked layers and the container roots of one host, below one directory:
 * `<short chain id>/diff` for a layer, `<container id>/{diff,work,merged,lower}` for a root, `l/<link>` short names,
 * `tmp-…` for what is not complete. A layer counts only when its record is in the metadata and its directory is there.
 */
export class LayerStore {
  readonly driver: StorageDriver;
  /** Why layers are copied though overlayfs was preferred; undefined when they are not, or were asked to be. */
  fallback: string | undefined;
  readonly #directory: string;
  readonly #options: LayerStoreOptions;
  readonly #layers = new Map<string, Layer>();
  readonly #roots = new Map<string, RootRecord>();
  /** Layers that are known to say what they hide. */
  readonly #marked = new Set<string>();
  readonly #adding = new Map<string, Promise<Layer>>();
  #nextLink = 1;
  /** Layers being unpacked and directories being deleted. */
  #active = 0;

  constructor(options: LayerStoreOptions) {
    this.#options = options;
    this.#directory = options.directory;
    mkdirSync(join(this.#directory, 'l'), { recursive: true, mode: 0o710 });
    spreadChildren(this.#directory);
    this.driver = this.#chooseDriver();
    for (const layer of options.layers) this.#adopt(layer);
    this.#sweep();
  }

  #step(name: string): void {
    this.#options.onStep?.(name);
  }

  #chooseDriver(): StorageDriver {
    const { driver, spawner, log } = this.#options;
    const problem = driver === undefined ? overlayProblem(this.#directory) : undefined;
    this.fallback = problem;
    if (problem !== undefined) log.warn('overlayfs does not work here; copying instead', { reason: problem });
    const copies = driver === 'vfs' || problem !== undefined;
    return copies ? new CopyDriver(spawner) : new OverlayDriver(this.#directory);
  }

  #adopt(layer: Layer): void {
    const path = join(this.#directory, shortId(layer.chainId));
    if (!existsSync(join(path, 'diff'))) {
      this.#options.log.warn('a layer is recorded but its directory is missing', { chainId: layer.chainId });
      return;
    }
    this.#layers.set(layer.chainId, layer);
    this.#nextLink = Math.max(this.#nextLink, Number.parseInt(layer.link, 36) + 1);
    this.#linkTo(layer);
  }

  #linkTo(layer: Layer): void {
    if (!existsSync(layerLink(this.#directory, layer.link))) this.relink(layer);
  }

  /** Makes the short name of a layer anew. */
  relink(layer: Layer): void {
    const at = layerLink(this.#directory, layer.link);
    rmSync(at, { force: true, recursive: true });
    symlinkSync(linkTarget(layer.chainId), at);
  }

  /** Finds roots and removes what no record speaks of. */
  #sweep(): void {
    const known = new Set([...this.#layers.keys()].map(shortId));
    const links = new Set([...this.#layers.values()].map((layer) => layer.link)).add('empty');
    for (const name of readdirSync(this.#directory)) {
      if (name === 'l' || known.has(name)) continue;
      const lower = name.startsWith(TEMPORARY) ? undefined : readRoot(this.#directory, name, this.#options.log);
      if (lower !== undefined) this.#roots.set(name, lower);
      else this.#discardNow(join(this.#directory, name));
    }
    for (const name of readdirSync(join(this.#directory, 'l'))) {
      if (!links.has(name)) rmSync(join(this.#directory, 'l', name), { recursive: true, force: true });
    }
  }

  #discardNow(path: string): void {
    unmountRootParts(path);
    rmSync(path, { recursive: true, force: true });
  }

  get(id: string): Layer | undefined {
    return this.#layers.get(id);
  }

  list(): Layer[] {
    return [...this.#layers.values()];
  }

  /** Deletes a file or directory that stands in no record. */
  async clear(path: string): Promise<void> {
    unmountRootParts(path);
    await rm(path, { recursive: true, force: true });
  }

  /** Container ids that have a root here. */
  roots(): string[] {
    return [...this.#roots.keys()];
  }

  /** Chain ids that container roots stand on. */
  layersOfRoots(): string[] {
    return [...this.#roots.values()].flatMap((root) => root.layers);
  }

  /** A path for something that is not complete; removed at the next start when it is left behind. */
  temporaryPath(): string {
    return join(this.#directory, `${TEMPORARY}${newHexId(this.#options.random).slice(0, 16)}`);
  }

  /**
   * Unpacks a blob as the layer over `parent`. A layer that is there already, or is being added, is returned.
   * The caller calls `flush` and then records the result.
   * @throws ShoalError InvalidArgument for damaged data or a diff id that does not match.
   */
  add(request: AddRequest): Promise<Layer> {
    assert(request.parent === '' || this.#layers.has(request.parent), 'the layer below is there first');
    if (request.diffId === undefined) return this.#unpack(request);
    const id = chainId(request.parent, request.diffId);
    const found = this.#layers.get(id);
    if (found !== undefined) return Promise.resolve(found);
    const running = this.#adding.get(id);
    if (running !== undefined) return running;
    const adding = this.#unpack(request).finally(() => this.#adding.delete(id));
    this.#adding.set(id, adding);
    return adding;
  }

  /** Whether something below the directory is being made or deleted. */
  get busy(): boolean {
    return this.#active > 0;
  }

  async #counted<T>(work: () => Promise<T>): Promise<T> {
    this.#active++;
    try {
      return await work();
    } finally {
      this.#active--;
    }
  }

  #unpack(request: AddRequest): Promise<Layer> {
    return this.#counted(() => this.#unpackNow(request));
  }

  async #unpackNow(request: AddRequest): Promise<Layer> {
    const temporary = this.temporaryPath();
    const target = join(temporary, 'diff');
    mkdirSync(target, { recursive: true, mode: 0o755 });
    try {
      const applied = await applyLayer({
        spawner: this.#options.spawner,
        blobPath: request.blobPath,
        scratch: join(temporary, 'layer.tar'),
        target,
        markers: this.driver.name === 'overlay2',
        ...(request.diffId === undefined ? {} : { expectedDiffId: request.diffId }),
      });
      this.#step('layer unpacked');
      writeFileSync(
        join(temporary, 'whiteouts.json'),
        JSON.stringify({ ...applied.whiteouts, marked: this.driver.name === 'overlay2' }),
      );
      this.#step('whiteouts of layer written');
      const id = chainId(request.parent, applied.diffId);
      request.claim?.(id);
      const found = this.#layers.get(id);
      if (found !== undefined) return found;
      const layer: Layer = {
        chainId: id,
        diffId: applied.diffId,
        parent: request.parent,
        link: (this.#nextLink++).toString(36),
        sizeBytes: applied.sizeBytes,
        blob: request.blob,
      };
      const final = join(this.#directory, shortId(id));
      rmSync(final, { recursive: true, force: true });
      renameSync(temporary, final);
      this.#step('layer renamed');
      this.#linkTo(layer);
      this.#step('layer linked');
      this.#layers.set(id, layer);
      return layer;
    } finally {
      await rm(temporary, { recursive: true, force: true });
    }
  }

  /** Brings added layers to the disk; without it a power cut could leave a recorded layer with empty files. */
  async flush(): Promise<void> {
    await runChecked(this.#options.spawner, { file: 'sync', args: ['--file-system', this.#directory] });
    this.#step('layers flushed');
  }

  /**
   * Forgets layers at once, so that nobody finds them any more and they may be added again, and returns what deletes
   * their directories.
   */
  forget(ids: readonly string[]): () => Promise<void> {
    const discarded: string[] = [];
    for (const id of ids) {
      const layer = this.#layers.get(id);
      if (layer === undefined) continue;
      this.#layers.delete(id);
      this.#marked.delete(id);
      rmSync(join(this.#directory, 'l', layer.link), { force: true });
      const path = join(this.#directory, shortId(id));
      if (!existsSync(path)) continue;
      const temporary = this.temporaryPath();
      this.#step('layer unlinked');
      renameSync(path, temporary);
      this.#step('layer set aside');
      discarded.push(temporary);
    }
    return () =>
      this.#counted(async () => {
        for (const path of discarded) await rm(path, { recursive: true, force: true });
      });
  }

  /** Takes another archive of the same layer as its blob. */
  replaceBlob(id: string, blob: LayerBlob): Layer {
    const layer = { ...must(this.#layers.get(id), `layer ${id}`), blob };
    this.#layers.set(id, layer);
    return layer;
  }

  /** Renames first: what is half deleted must not look complete after a crash. */
  async discard(path: string): Promise<void> {
    if (!existsSync(path)) return;
    const temporary = this.temporaryPath();
    renameSync(path, temporary);
    this.#step('directory set aside');
    await this.#counted(() => rm(temporary, { recursive: true, force: true }));
  }

  #directoryOf(id: string): LayerDirectory {
    const layer = must(this.#layers.get(id), `layer ${id}`);
    const path = join(this.#directory, shortId(id));
    return {
      path,
      link: join(this.#directory, 'l', layer.link),
      whiteouts: () => JSON.parse(readFileSync(join(path, 'whiteouts.json'), 'utf8')) as Whiteouts,
    };
  }

  /** Directory of a container's root; `diff` in it is what the container has written (with overlay2). */
  rootPath(containerId: string): string {
    assert(ROOT_ID.test(containerId) && containerId !== 'l', `a container id names a directory: ${containerId}`);
    return join(this.#directory, containerId);
  }

  /** Mounts the root of a container; a root that exists keeps the layers it was made with. Idempotent. */
  async mountRoot(
    containerId: string,
    imageId: string,
    layers: () => readonly string[],
    ids?: RootIds,
  ): Promise<string> {
    const path = this.rootPath(containerId);
    let root = this.#roots.get(containerId);
    if (root === undefined || root.imageId === '') {
      root = { imageId, layers: [...layers()], driver: this.driver.name };
      mkdirSync(path, { recursive: true, mode: 0o710 });
      this.#step('root made');
      const beside = join(path, 'lower.new');
      writeFileSync(beside, JSON.stringify(root));
      this.#step('layers of root written');
      renameSync(beside, join(path, 'lower'));
      this.#step('layers of root renamed');
      this.#roots.set(containerId, root);
    }
    checkDriver(containerId, root, this.driver.name, this.fallback);
    const missing = root.layers.find((id) => !this.#layers.has(id));
    if (missing !== undefined) {
      throw failedPrecondition(`the root of container ${containerId} needs layer ${missing}, which is gone; remove it`);
    }
    for (const id of root.layers) this.#mark(id);
    return await this.driver.mount(
      path,
      root.layers.map((id) => this.#directoryOf(id)),
      ids,
    );
  }

  /** Directory of an unpacked layer. */
  diffPath(id: string): string {
    return join(this.#directoryOf(id).path, 'diff');
  }

  /** The directories behind a root, layers highest first. @throws ShoalError NotFound for a root that is not here. */
  rootParts(containerId: string): RootParts {
    const root = this.#roots.get(containerId);
    if (root === undefined) throw notFound(`container ${containerId} has no files yet`);
    const layers = root.layers.map((id) => this.#directoryOf(id));
    return partsOfRoot(this.rootPath(containerId), this.driver.name, layers);
  }

  #mark(id: string): void {
    if (this.#marked.has(id) || this.driver.name !== 'overlay2') return;
    markLayer(join(this.#directory, shortId(id)));
    this.#marked.add(id);
  }

  async unmountRoot(containerId: string): Promise<void> {
    await this.driver.unmount(this.rootPath(containerId));
  }

  async removeRoot(containerId: string): Promise<void> {
    const path = this.rootPath(containerId);
    await this.driver.unmount(path);
    this.#roots.delete(containerId);
    await this.discard(path);
  }
}
