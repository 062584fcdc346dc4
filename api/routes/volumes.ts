import { invalidArgument, isShoalError, must, notFound, ShoalError } from '../../base/index.ts';
import { queryBool, queryVersion, readJson } from '../body.ts';
import { Filters } from '../filters.ts';
import type { JsonObject, VolumeFacts } from '../ports.ts';
import type { RequestContext, Route } from '../router.ts';
import { Fields } from '../shapes/fields.ts';
import { sendEmpty, sendJson } from '../stream.ts';
import { olderThan } from '../versions.ts';

/** Docker has null where nobody gave any. */
const orNull = (map: Readonly<Record<string, string>>): object | null => (Object.keys(map).length === 0 ? null : map);

/** A volume as clients read it. */
export function volumeToJson(volume: VolumeFacts): JsonObject {
  return {
    CreatedAt: new Date(volume.createdMs).toISOString().replace(/\.\d+Z$/, 'Z'),
    Driver: volume.driver,
    Labels: orNull(volume.labels),
    Mountpoint: volume.mountpoint,
    Name: volume.name,
    Options: orNull(volume.options),
    Scope: volume.scope ?? 'local',
    ...(volume.status === undefined ? {} : { Status: volume.status }),
  };
}

/** A filter that is true, false, or not there. @throws ShoalError InvalidArgument */
function flag(filters: Filters, key: string): boolean | undefined {
  if (!filters.has(key)) return undefined;
  const values = filters.get(key);
  if (values.every((value) => /^(1|t|true)$/i.test(value))) return true;
  if (values.every((value) => /^(0|f|false)$/i.test(value))) return false;
  throw invalidArgument(`invalid filter '${key}=[${values.join(' ')}]'`);
}

async function list({ response, ports, query }: RequestContext): Promise<void> {
  const filters = Filters.parse(query, ['dangling', 'driver', 'label', 'name']);
  const dangling = flag(filters, 'dangling');
  const { volumes, warnings } = await ports.engine.volumes.listAll();
  const found = volumes
    .filter((volume) => filters.found('name', volume.name))
    .filter((volume) => filters.matches('driver', volume.driver) && filters.matchesLabels(volume.labels))
    .filter(({ name }) => dangling === undefined || (ports.engine.volumes.usersOf(name).length === 0) === dangling);
  sendJson(response, { Volumes: found.map(volumeToJson), Warnings: warnings.length === 0 ? null : warnings });
}

async function create(context: RequestContext): Promise<void> {
  const json = new Fields(await readJson(context));
  if (json.has('ClusterVolumeSpec')) {
    throw new ShoalError(
      'Unimplemented',
      'cluster volumes (CSI) are not supported: use a volume plugin with scope global',
    );
  }
  const name = json.string('Name');
  const wanted = { name, driver: json.string('Driver'), labels: json.stringMap('Labels') };
  const options = json.stringMap('DriverOpts');
  const volume = await context.ports.engine.volumes.create({ ...wanted, options }).catch((error: unknown) => {
    // Docker's words for what is wrong with the request tell which volume was asked for.
    if (!isShoalError(error, 'InvalidArgument', 'NotFound')) throw error;
    throw new ShoalError(error.code, `create ${name}: ${error.message}`);
  });
  sendJson(context.response, volumeToJson(volume), 201);
}

/** Only volumes of the cluster can be changed, of which there are none. */
async function update({ ports, params, query }: RequestContext): Promise<void> {
  if (!ports.swarm.state().controlAvailable) {
    throw new ShoalError('Unavailable', 'volume update only valid for cluster volumes, but swarm is unavailable');
  }
  queryVersion(query, 'volume');
  throw notFound(`volume ${must(params['name'], 'name')} not found`);
}

async function prune({ response, ports, query, version }: RequestContext): Promise<void> {
  const filters = Filters.parse(query, ['all', 'label', 'label!']);
  // Clients of before did not tell anonymous volumes from others.
  const all = flag(filters, 'all') ?? olderThan(version, '1.42');
  const unwanted = (volume: VolumeFacts): boolean =>
    filters.get('label!').some((label) => new Filters(new Map([['label', [label]]])).matchesLabels(volume.labels));
  const { deleted, reclaimedBytes } = await ports.engine.volumes.prune({
    all,
    matches: (volume) => filters.matchesLabels(volume.labels) && !unwanted(volume),
  });
  sendJson(response, { VolumesDeleted: deleted, SpaceReclaimed: reclaimedBytes });
}

export const volumeRoutes: readonly Route[] = [
  { method: 'GET', path: '/volumes', handler: list },
  { method: 'POST', path: '/volumes/create', handler: create },
  { method: 'POST', path: '/volumes/prune', handler: prune },
  {
    method: 'GET',
    path: '/volumes/{name}',
    handler: async ({ response, ports, params }) =>
      sendJson(response, volumeToJson(await ports.engine.volumes.inspect(must(params['name'], 'name')))),
  },
  { method: 'PUT', path: '/volumes/{name}', handler: update },
  {
    method: 'DELETE',
    path: '/volumes/{name}',
    handler: async ({ response, ports, params, query }) => {
      await ports.engine.volumes.remove(must(params['name'], 'name'), queryBool(query, 'force'));
      sendEmpty(response, 204);
    },
  },
];
