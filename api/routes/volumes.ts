import { isShoalError, must, newHexId } from '../../base/index.ts';
import { queryBool, readJson } from '../body.ts';
import { Filters } from '../filters.ts';
import type { JsonObject, VolumeFacts } from '../ports.ts';
import type { RequestContext, Route } from '../router.ts';
import { Fields } from '../shapes/fields.ts';
import { sendEmpty, sendJson } from '../stream.ts';

export function volumeToJson(volume: VolumeFacts): JsonObject {
  return {
    CreatedAt: new Date(volume.createdMs).toISOString(),
    Driver: volume.driver,
    Labels: volume.labels,
    Mountpoint: volume.mountpoint,
    Name: volume.name,
    Options: volume.options,
    Scope: 'local',
  };
}

async function list({ response, ports, query }: RequestContext): Promise<void> {
  const filters = Filters.parse(query, ['dangling', 'driver', 'label', 'name']);
  const volumes = ports.engine.volumes
    .list()
    .filter((volume) => filters.found('name', volume.name))
    .filter((volume) => filters.matches('driver', volume.driver) && filters.matchesLabels(volume.labels));
  sendJson(response, { Volumes: volumes.map(volumeToJson), Warnings: null });
}

async function create(context: RequestContext): Promise<void> {
  const json = new Fields(await readJson(context));
  const volume = await context.ports.engine.volumes.create({
    name: json.string('Name') || newHexId(),
    driver: json.string('Driver') || 'local',
    labels: json.stringMap('Labels'),
    options: json.stringMap('DriverOpts'),
  });
  sendJson(context.response, volumeToJson(volume), 201);
}

async function prune({ response, ports }: RequestContext): Promise<void> {
  const removed: string[] = [];
  for (const volume of ports.engine.volumes.list()) {
    try {
      await ports.engine.volumes.remove(volume.name, false);
      removed.push(volume.name);
    } catch (error) {
      // In use: stays.
      if (!isShoalError(error, 'Conflict')) throw error;
    }
  }
  sendJson(response, { VolumesDeleted: removed, SpaceReclaimed: 0 });
}

export const volumeRoutes: readonly Route[] = [
  { method: 'GET', path: '/volumes', handler: list },
  { method: 'POST', path: '/volumes/create', handler: create },
  { method: 'POST', path: '/volumes/prune', handler: prune },
  {
    method: 'GET',
    path: '/volumes/{name}',
    handler: async ({ response, ports, params }) =>
      sendJson(response, volumeToJson(ports.engine.volumes.get(must(params['name'], 'name')))),
  },
  {
    method: 'DELETE',
    path: '/volumes/{name}',
    handler: async ({ response, ports, params, query }) => {
      await ports.engine.volumes.remove(must(params['name'], 'name'), queryBool(query, 'force'));
      sendEmpty(response, 204);
    },
  },
];
