import { existsSync } from 'node:fs';
import { invalidArgument } from '../../base/index.ts';
import type { ContainerFacts, JsonObject, Ports } from '../ports.ts';
import type { RequestContext, Route } from '../router.ts';
import { containerSummary } from '../shapes/container.ts';
import { imageSummary } from '../shapes/image.ts';
import { sendJson } from '../stream.ts';
import { volumeToJson } from './volumes.ts';

const TYPES = ['container', 'image', 'volume', 'build-cache'];

async function containers(ports: Ports, all: readonly ContainerFacts[], signal: AbortSignal): Promise<JsonObject[]> {
  const sizes = await ports.engine.files.sizes(
    all.map(({ id }) => id),
    signal,
  );
  const now = Date.now();
  return all.map((container) => {
    const size = sizes.get(container.id);
    const bytes = { SizeRw: size?.rw || undefined, SizeRootFs: size?.rootFs ?? 0 };
    return { ...containerSummary(container, now), ...bytes };
  });
}

function images({ ports, version }: RequestContext, all: readonly ContainerFacts[]): JsonObject[] {
  const { sharedBytes } = ports.engine.images.diskUse();
  return ports.engine.images.list().map((image) =>
    imageSummary(image, version, {
      containers: all.filter(({ imageId }) => imageId === image.id).length,
      sharedBytes: sharedBytes.get(image.id) ?? 0,
    }),
  );
}

async function volumes(ports: Ports, all: readonly ContainerFacts[], signal: AbortSignal): Promise<JsonObject[]> {
  const found = ports.engine.volumes.list();
  // What a plugin has is not there while nobody uses it: its size is unknown.
  const known = found.filter(({ mountpoint }) => mountpoint !== '' && existsSync(mountpoint));
  const sizes = await ports.engine.files.treeSizes(
    known.map(({ mountpoint }) => mountpoint),
    signal,
  );
  return found.map((volume) => {
    const users = all.filter(({ mounts }) => mounts.some(({ name }) => name === volume.name));
    const Size = sizes[known.indexOf(volume)] ?? -1;
    return { ...volumeToJson(volume), UsageData: { RefCount: users.length, Size } };
  });
}

/** GET /system/df: what takes space, of the types asked for. */
async function diskUsage(context: RequestContext): Promise<void> {
  const { ports, query, response, signal } = context;
  const types = query.getAll('type');
  const unknown = types.find((type) => !TYPES.includes(type));
  if (unknown !== undefined) throw invalidArgument(`unknown object type: ${unknown}`);
  const wants = (type: string): boolean => types.length === 0 || types.includes(type);
  const all = ports.engine.containers.list();
  sendJson(response, {
    ...(wants('image')
      ? { LayersSize: ports.engine.images.diskUse().layersBytes, Images: images(context, all) }
      : { LayersSize: 0, Images: null }),
    Containers: wants('container') ? await containers(ports, all, signal) : null,
    Volumes: wants('volume') ? await volumes(ports, all, signal) : null,
    BuildCache: wants('build-cache') ? [] : null,
  });
}

export const diskUsageRoutes: readonly Route[] = [
  { method: 'GET', path: '/system/df', handler: diskUsage },
  {
    method: 'POST',
    path: '/build/prune',
    // Nothing is built here, so no cache is ever there; `docker system prune` asks for it all the same.
    handler: async ({ response }) => sendJson(response, { CachesDeleted: null, SpaceReclaimed: 0 }),
  },
];
