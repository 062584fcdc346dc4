import { conflict, type Clock, type Logger, type Random, type Spawner } from '../../base/index.ts';
import type { UnusedImage } from '../pressure/pressure.ts';
import type { Found } from '../doctor/fault.ts';
import type { EngineEvent, Images } from '../types.ts';
import { hostPlatform, importRootArchive, loadArchive, type ArchiveContext } from './archives.ts';
import { Catalogue } from './catalogue.ts';
import { diskUse } from './disk-use.ts';
import { familiarName, repositoryOf, taggedReference } from './reference.ts';
import { openRegistry, type RegistryRules } from './registry/index.ts';
import { saveArchive } from './save.ts';
import { commitLayer } from './commit.ts';
import { pruneImages } from './prune.ts';
import { removeImage, type ImageUsers } from './removal.ts';

export interface ImagesOptions {
  /** Holds `image/` and `overlay2/`. */
  dataRoot: string;
  spawner: Spawner;
  clock: Clock;
  random: Random;
  log: Logger;
  /** `insecure`: hosts (with port) and networks in CIDR form; `mirrors`: base URLs tried before docker.io. */
  registries: RegistryRules;
  onEvent: (event: EngineEvent) => void;
  /** Ids of the containers that were made from an image. */
  usedBy: (imageId: string) => readonly string[];
  /** Whether one of these runs; without it every user counts as running. */
  isRunning?: (containerId: string) => boolean;
  /** Forces a storage driver; default: overlayfs where it works. */
  storageDriver?: 'overlay2' | 'vfs';
  /** For tests of crashes: is told after each step that changes the disk. */
  onStep?: (step: string) => void;
}

/** `Images`, and what the daemon around it needs. */
export interface ImageStore extends Images {
  readonly storageDriver: 'overlay2' | 'vfs';
  /** Why layers are copied although overlayfs was preferred; undefined when they are not. */
  readonly storageFallback: string | undefined;
  /** Other rules for registries from now on. */
  setRegistries(rules: RegistryRules): void;
  /** Container ids that have a root on disk; the containers' owner removes those it does not know. */
  roots(): string[];
  /** Faults of layers, blobs, images and roots. @param containers ids of all containers */
  examine(containers: ReadonlySet<string>, deep: boolean, found: Found): Promise<Record<string, number>>;
  /** Images that no container uses, those that arrived first in front. */
  unused(): UnusedImage[];
  /** Removes an image with all its names, unless a container uses it by now. @throws ShoalError Conflict */
  removeUnused(id: string): Promise<void>;
  close(): Promise<void>;
}

function unusedImages(catalogue: Catalogue, users: ImageUsers): UnusedImage[] {
  return [...catalogue.arrivals()]
    .filter(([id]) => users.usedBy(id).length === 0 && catalogue.childrenOf(id).length === 0)
    .sort(([, a], [, b]) => a - b)
    .map(([id, addedMs]) => ({ id, addedMs, names: catalogue.keysOf(id) }));
}

/** Opens the image store of a data root, recovering from whatever a crash left. */
export async function openImages(options: ImagesOptions): Promise<ImageStore> {
  const { clock, spawner, log } = options;
  const catalogue = await Catalogue.open(options);
  const platform = hostPlatform();
  const archives: ArchiveContext = { catalogue, spawner, clock, log, platform };
  const users: ImageUsers = { usedBy: options.usedBy, isRunning: options.isRunning ?? (() => true) };
  const registry = openRegistry({ ...options, catalogue, platform });
  return {
    storageDriver: catalogue.layers.driver.name,
    storageFallback: catalogue.layers.fallback,
    get: (reference) => catalogue.byId(catalogue.resolve(reference).id),
    list: () => catalogue.list(),
    pull: (reference, request) => registry.pull(reference, request),
    push: (reference, request) => registry.push(reference, request),
    login: (serverAddress, auth, signal) => registry.login(serverAddress, auth, signal),
    setRegistries: (rules) => registry.setRules(rules),
    diskUse: () => diskUse(catalogue),
    distribution: (reference, auth, signal) => registry.distribution(reference, auth, signal),
    load: (path, report) => loadArchive(archives, path, report),
    importArchive: (path, request) => importRootArchive(archives, path, request),
    save: (references, path) => saveArchive(archives, references, path),
    async tag(reference, repository, tag) {
      const target = taggedReference(repository, tag);
      const { id } = catalogue.resolve(reference);
      await catalogue.register(id, [`${repositoryOf(target)}:${target.tag}`]);
      catalogue.event('tag', id, familiarName(target));
    },
    remove: (reference, request) => removeImage(catalogue, users, reference, request),
    prune: (request) => pruneImages(catalogue, users, request),
    commit: (layer, request) => commitLayer(archives, layer, request),
    layerPaths: (imageId) =>
      catalogue
        .layersOf(catalogue.byId(imageId).id)
        .map(({ chainId }) => catalogue.layers.diffPath(chainId))
        .reverse(),
    search: (term, limit, auth, signal) => registry.search(term, limit, auth, signal),
    mountRoot(containerId, imageId, ids) {
      const layers = (): string[] => {
        const id = catalogue.has(imageId) ? imageId : catalogue.resolve(imageId).id;
        return catalogue.layersOf(id).map((layer) => layer.chainId);
      };
      return catalogue.layers.mountRoot(containerId, imageId, layers, ids);
    },
    rootParts: (containerId) => catalogue.layers.rootParts(containerId),
    unmountRoot: (containerId) => catalogue.layers.unmountRoot(containerId),
    async removeRoot(containerId) {
      await catalogue.layers.removeRoot(containerId);
      // The root may have been the last user of layers whose image is gone.
      await catalogue.collect();
    },
    roots: () => catalogue.layers.roots(),
    examine: (containers, deep, found) => catalogue.examine(containers, deep, found),
    unused: () => unusedImages(catalogue, users),
    async removeUnused(id) {
      if (users.usedBy(id).length > 0) throw conflict(`a container uses image ${id}`);
      await removeImage(catalogue, users, id, { force: true });
    },
    async close() {
      registry.close();
      await catalogue.close();
    },
  };
}
