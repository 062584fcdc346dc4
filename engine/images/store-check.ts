import { createHash } from 'node:crypto';
import { lstatSync, readdirSync, readFileSync, readlinkSync, statSync, type Stats } from 'node:fs';
import { join } from 'node:path';
import { readFileIfExists } from '../../base/index.ts';
import type { Found } from '../doctor/fault.ts';
import { chainIds, layerDirectory, layerLink, linkTarget, readThrough, type Layer } from '../storage/index.ts';
import { sha256 } from './content.ts';
import { parseImageConfig } from './image-config.ts';

/** Something half made is left over when it is older than this and something may be under way, ms. */
const TEMPORARY_MAX_MS = 60 * 60_000;

/** The image store as it is recorded, and how its faults are mended. */
export interface StoreView {
  dataRoot: string;
  /** Ids of the recorded images. */
  images: readonly string[];
  layers: readonly Layer[];
  /** `registry/path:tag` → image id. */
  references: ReadonlyMap<string, string>;
  /** Blobs and layers that something under way needs. */
  held: { blobs: ReadonlySet<string>; layers: ReadonlySet<string> };
  /** Something is under way that makes files. */
  busy: boolean;
  /** Ids of the containers, also of those that cannot be read. */
  containers: ReadonlySet<string>;
  nowMs: number;
  mend: {
    dropImage: (id: string) => Promise<void>;
    dropLayer: (chainId: string) => Promise<void>;
    dropReference: (key: string) => Promise<void>;
    relink: (layer: Layer) => Promise<void> | void;
    /** A file among the blobs, or what was being made. */
    removeBlob: (path: string) => Promise<void> | void;
    /** A directory among the layers. */
    discard: (path: string) => Promise<void>;
    removeRoot: (containerId: string) => Promise<void>;
  };
}

/** The root of a container, or of an image that it mounts. */
const ROOT_NAME = /^([0-9a-f]{64})(?:-[0-9a-f]{12})?$/;

const shown = (digest: string): string => digest.slice(0, 'sha256:'.length + 12);

/** Names in a directory; none when it is missing. */
function list(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}

function ageMs(path: string, nowMs: number): number {
  const found = lstatSync(path, { throwIfNoEntry: false });
  return found === undefined ? 0 : nowMs - found.mtimeMs;
}

class StoreCheck {
  readonly #view: StoreView;
  readonly #found: Found;
  readonly #overlay: string;
  readonly #blobs: string;

  constructor(view: StoreView, found: Found) {
    this.#view = view;
    this.#found = found;
    this.#overlay = join(view.dataRoot, 'overlay2');
    this.#blobs = join(view.dataRoot, 'image', 'blobs', 'sha256');
  }

  #blobPath(digest: string): string {
    return join(this.#blobs, digest.slice('sha256:'.length));
  }

  /** Configurations; returns the layers that images need, with one image each. */
  images(): Map<string, string> {
    const needed = new Map<string, string>();
    const recorded = new Set(this.#view.layers.map((layer) => layer.chainId));
    for (const id of this.#view.images) {
      const problem = this.#imageProblem(id, needed, recorded);
      if (problem === undefined) continue;
      this.#found({
        kind: 'image-damaged',
        subject: id,
        problem: `image ${shown(id)}: ${problem}`,
        remedy: 'the image is taken off the list; pull or load it again',
        repair: () => this.#view.mend.dropImage(id),
      });
    }
    for (const [key, id] of this.#view.references) {
      if (this.#view.images.includes(id)) continue;
      this.#found({
        kind: 'reference-dangling',
        subject: key,
        problem: `the name ${key} stands for the image ${shown(id)}, which is not here`,
        remedy: 'the name is removed',
        repair: () => this.#view.mend.dropReference(key),
      });
    }
    return needed;
  }

  #imageProblem(id: string, needed: Map<string, string>, recorded: ReadonlySet<string>): string | undefined {
    const path = this.#blobPath(id);
    if (!statSync(path, { throwIfNoEntry: false })) return 'its configuration is missing';
    const bytes = readFileSync(path);
    if (sha256(bytes) !== id) return 'its configuration does not match its digest';
    let layers: string[];
    try {
      layers = chainIds(parseImageConfig(bytes).diffIds);
    } catch (error) {
      return `its configuration cannot be read: ${(error as Error).message}`;
    }
    for (const chain of layers) needed.set(chain, id);
    const missing = layers.find((chain) => !recorded.has(chain));
    return missing === undefined ? undefined : `its layer ${shown(missing)} is not recorded`;
  }

  layers(needed: ReadonlyMap<string, string>, roots: ReadonlyMap<string, string>): void {
    for (const layer of this.#view.layers) {
      const path = join(layerDirectory(this.#overlay, layer.chainId), 'diff');
      const found = lstatSync(path, { throwIfNoEntry: false });
      if (found?.isDirectory() !== true) this.#layerMissing(layer, path, needed, roots);
      else if (readLink(layerLink(this.#overlay, layer.link)) !== linkTarget(layer.chainId)) {
        this.#found({
          kind: 'layer-link',
          subject: layer.chainId,
          problem: `the short name l/${layer.link} of layer ${shown(layer.chainId)} is missing or leads elsewhere`,
          remedy: 'it is made anew',
          repair: () => this.#view.mend.relink(layer),
        });
      }
    }
    const links = new Set(this.#view.layers.map((layer) => layer.link)).add('empty');
    for (const name of list(join(this.#overlay, 'l'))) {
      if (links.has(name) || this.#view.busy) continue;
      const path = join(this.#overlay, 'l', name);
      this.#found({
        kind: 'layer-link',
        subject: path,
        problem: `the short name l/${name} belongs to no layer`,
        remedy: 'it is removed',
        repair: () => this.#view.mend.discard(path),
      });
    }
  }

  #layerMissing(
    layer: Layer,
    path: string,
    needed: ReadonlyMap<string, string>,
    roots: ReadonlyMap<string, string>,
  ): void {
    const { chainId } = layer;
    const root = roots.get(chainId);
    const image = needed.get(chainId);
    const by = image === undefined ? '' : `, and image ${shown(image)} needs it`;
    this.#found({
      kind: 'layer-missing',
      subject: chainId,
      problem: `layer ${shown(chainId)} is recorded${by}, but ${path} is not a directory`,
      ...(root === undefined
        ? {
            remedy: 'the layer and the images that need it are taken off the list; pull or load them again',
            repair: () => this.#view.mend.dropLayer(chainId),
          }
        : { remedy: `remove container ${root.slice(0, 12)}, which stands on it, then repair` }),
    });
  }

  /** Roots, layers and other things in the directory of layers. Returns layers that roots stand on. */
  roots(): Map<string, string> {
    const layers = new Map<string, string>();
    const known = new Set(this.#view.layers.map((layer) => layerDirectory(this.#overlay, layer.chainId)));
    const recorded = new Set(this.#view.layers.map((layer) => layer.chainId));
    for (const name of list(this.#overlay)) {
      const path = join(this.#overlay, name);
      if (name === 'l' || known.has(path)) continue;
      if (name.startsWith('tmp-') || name.startsWith('probe-')) this.#temporary(path, this.#view.mend.discard);
      else if (ROOT_NAME.test(name)) this.#root(name, path, layers, recorded);
      else if (!this.#view.busy) {
        this.#found({
          kind: 'layer-orphan',
          subject: path,
          problem: `${path} is the directory of a layer that is not recorded`,
          remedy: 'it is removed',
          repair: () => this.#view.mend.discard(path),
        });
      }
    }
    return layers;
  }

  #root(name: string, path: string, layers: Map<string, string>, recorded: ReadonlySet<string>): void {
    const id = ROOT_NAME.exec(name)?.[1] ?? name;
    if (!this.#view.containers.has(id)) {
      this.#found({
        kind: 'root-orphan',
        subject: name,
        problem: `the root file system of ${id.slice(0, 12)} is on the disk, but there is no such container`,
        remedy: 'it is removed',
        repair: () => this.#view.mend.removeRoot(name),
      });
      return;
    }
    let wanted: readonly string[];
    try {
      wanted = (JSON.parse(readFileIfExists(join(path, 'lower')) ?? '') as { layers: string[] }).layers;
    } catch {
      // It is written anew, from the image, when the container starts.
      return;
    }
    for (const chain of wanted) layers.set(chain, id);
    const missing = wanted.find((chain) => !recorded.has(chain));
    if (missing === undefined) return;
    this.#found({
      kind: 'root-broken',
      subject: id,
      problem: `the root file system of container ${id.slice(0, 12)} needs layer ${shown(missing)}, which is gone`,
      remedy: 'the container cannot start any more: copy out what you need, and remove it',
    });
  }

  #temporary(path: string, remove: (path: string) => Promise<void> | void): void {
    if (this.#view.busy && ageMs(path, this.#view.nowMs) < TEMPORARY_MAX_MS) return;
    this.#found({
      kind: 'temporary-stale',
      subject: path,
      problem: `${path} was never completed, and nothing is under way that would`,
      remedy: 'it is removed',
      repair: () => remove(path),
    });
  }

  async blobs(deep: boolean): Promise<number> {
    const needed = new Map<string, string>();
    for (const id of this.#view.images) needed.set(id, `the configuration of image ${shown(id)}`);
    for (const { chainId, blob } of this.#view.layers)
      needed.set(blob.digest, `the archive of layer ${shown(chainId)}`);
    for (const [digest, what] of needed) {
      const file = statSync(this.#blobPath(digest), { throwIfNoEntry: false });
      if (file === undefined) this.#blobMissing(digest, what);
      else if (deep) await this.#blobDeep(digest, what, file);
    }
    const names = list(this.#blobs);
    for (const name of names) {
      const digest = `sha256:${name}`;
      if (needed.has(digest) || this.#view.held.blobs.has(digest) || this.#view.busy) continue;
      const path = join(this.#blobs, name);
      this.#found({
        kind: 'blob-orphan',
        subject: path,
        problem: `the blob ${name.slice(0, 12)} belongs to no image and no layer`,
        remedy: 'it is removed',
        repair: () => this.#view.mend.removeBlob(path),
      });
    }
    for (const name of list(join(this.#view.dataRoot, 'image', 'tmp'))) {
      this.#temporary(join(this.#view.dataRoot, 'image', 'tmp', name), this.#view.mend.removeBlob);
    }
    return names.length;
  }

  #blobMissing(digest: string, what: string): void {
    // A missing configuration is told as a damaged image.
    if (this.#view.images.includes(digest)) return;
    this.#found({
      kind: 'blob-missing',
      subject: digest,
      problem: `${what} (${shown(digest)}) is missing: containers run, but push and save cannot send it`,
      remedy: 'remove the image and pull or load it again',
    });
  }

  async #blobDeep(digest: string, what: string, file: Stats): Promise<void> {
    if (!file.isFile()) return;
    const hash = createHash('sha256');
    await readThrough(this.#blobPath(digest), (chunk) => void hash.update(chunk));
    if (`sha256:${hash.digest('hex')}` === digest || this.#view.images.includes(digest)) return;
    this.#found({
      kind: 'blob-damaged',
      subject: digest,
      problem: `${what} (${shown(digest)}) does not match its digest: push and save would send damaged data`,
      remedy: 'remove the image and pull or load it again',
    });
  }
}

function readLink(path: string): string | undefined {
  try {
    return readlinkSync(path);
  } catch {
    return undefined;
  }
}

/** Compares what is recorded of images and layers with what is on the disk. Reads every blob when `deep`. */
export async function checkStore(view: StoreView, deep: boolean, found: Found): Promise<Record<string, number>> {
  const check = new StoreCheck(view, found);
  const needed = check.images();
  const roots = check.roots();
  check.layers(needed, roots);
  const blobs = await check.blobs(deep);
  return { images: view.images.length, layers: view.layers.length, blobs };
}
