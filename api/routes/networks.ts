import { conflict, isShoalError, must, notFound, ShoalError } from '../../base/index.ts';
import type { Network } from '../../proto/index.ts';
import { queryBool, readJson } from '../body.ts';
import { Filters } from '../filters.ts';
import type { JsonObject, LocalNetworkFacts, Ports } from '../ports.ts';
import type { RequestContext, Route } from '../router.ts';
import { Fields } from '../shapes/fields.ts';
import { endpointFromJson } from '../shapes/container-create.ts';
import {
  localNetworkFromJson,
  localNetworkToJson,
  networkContainers,
  networkSpecFromJson,
  networkToJson,
} from '../shapes/network.ts';
import { networkUseToJson, type NetworkUse } from '../shapes/network-use.ts';
import { sendEmpty, sendJson } from '../stream.ts';

const PREDEFINED = ['bridge', 'host', 'none'];
const GATEWAY_NETWORK = 'docker_gwbridge';
/** Label of swarm networks that stand for a network of every host. */
const PREDEFINED_LABEL = 'com.docker.swarm.predefined';

async function swarmNetworks(ports: Ports, predefined: boolean): Promise<Network[]> {
  if (!ports.swarm.state().controlAvailable) return ports.engine.networks.overlayNetworks();
  try {
    const { networks } = await ports.swarm.call('ListNetworks', { filters: null });
    // host and bridge exist in the swarm too, for services to name; users see this host's own.
    return networks.filter((network) => predefined || !(PREDEFINED_LABEL in (network.spec?.annotations?.labels ?? {})));
  } catch (error) {
    // Without a leader the networks of this host can still be shown.
    if (isShoalError(error, 'Unavailable')) return [];
    throw error;
  }
}

type Found = { swarm: Network } | { local: LocalNetworkFacts };

/** By full id, then name (swarm first), then a unique prefix of an id. @throws ShoalError NotFound */
async function find(ports: Ports, reference: string, scope: string): Promise<Found> {
  const swarm = scope === 'local' ? [] : await swarmNetworks(ports, scope === 'swarm');
  const local = scope === 'swarm' ? [] : ports.engine.networks.localNetworks();
  const name = (network: Network): string => network.spec?.annotations?.name ?? '';
  const tests: ((id: string, label: string) => boolean)[] = [
    (id) => id === reference,
    (_id, label) => label === reference,
    (id) => id.startsWith(reference),
  ];
  for (const test of tests) {
    const found: Found[] = [
      ...swarm.filter((n) => test(n.id, name(n))).map((n) => ({ swarm: n })),
      ...local.filter((n) => test(n.id, n.name)).map((n) => ({ local: n })),
    ];
    if (found.length > 1 && test === tests[2]) {
      throw new ShoalError('InvalidArgument', `network ${reference} is ambiguous (${found.length} matches found)`);
    }
    if (found[0] !== undefined) return found[0];
  }
  throw notFound(`network ${reference} not found`);
}

function passes(json: JsonObject, filters: Filters, used: ReadonlySet<string>): boolean {
  const text = (key: string): string => String(json[key]);
  const builtIn = PREDEFINED.includes(text('Name')) && json['Scope'] === 'local';
  return (
    filters.some('driver', (wanted) => text('Driver') === wanted) &&
    filters.found('id', text('Id')) &&
    filters.found('name', text('Name')) &&
    filters.some('scope', (wanted) => text('Scope') === wanted) &&
    filters.some('dangling', (wanted) => {
      const dangling = !builtIn && !used.has(text('Id')) && !used.has(text('Name'));
      return ['1', 't', 'true', 'True', 'TRUE'].includes(wanted) === dangling;
    }) &&
    filters.some('type', (wanted) => (wanted === 'builtin') === builtIn) &&
    filters.matchesLabels((json['Labels'] ?? {}) as Record<string, string>)
  );
}

/** Ids and names of networks that some container of this host is on, or shall be on when it starts. */
function networksInUse(ports: Ports): Set<string> {
  const containers = ports.engine.containers.list();
  const wanted = containers.flatMap(({ config }) => config.network.endpoints ?? []).map(({ networkId }) => networkId);
  return new Set([...wanted, ...containers.flatMap(({ endpoints }) => endpoints.map(({ networkId }) => networkId))]);
}

async function list({ response, ports, query }: RequestContext): Promise<void> {
  const filters = Filters.parse(query, ['driver', 'id', 'label', 'name', 'scope', 'type', 'dangling']);
  // Docker makes the way outward of overlays when a host joins a swarm. Here it is always there; it is shown from then on.
  const isInSwarm = ports.swarm.state().localNodeState !== 'inactive';
  const locals = ports.engine.networks.localNetworks().filter(({ name }) => isInSwarm || name !== GATEWAY_NETWORK);
  const all = [...locals.map(localNetworkToJson), ...(await swarmNetworks(ports, false)).map(networkToJson)];
  const used = filters.has('dangling') ? networksInUse(ports) : new Set<string>();
  sendJson(
    response,
    all.filter((network) => passes(network, filters, used)),
  );
}

async function networkUse(ports: Ports, verbose: boolean): Promise<NetworkUse> {
  const { swarm } = ports;
  const [{ tasks }, { nodes }] = await Promise.all([
    swarm.call('ListTasks', { filters: null }),
    swarm.call('ListNodes', { filters: null }),
  ]);
  const services = verbose ? (await swarm.call('ListServices', { filters: null })).services : undefined;
  return { tasks, nodes, services, nodeId: swarm.state().nodeId };
}

async function inspect({ response, ports, params, query }: RequestContext): Promise<void> {
  const found = await find(ports, must(params['id'], 'id'), query.get('scope') ?? '');
  if ('local' in found) {
    const Containers = networkContainers(found.local.id, ports.engine.containers.list());
    return sendJson(response, { ...localNetworkToJson(found.local), Containers });
  }
  // As Docker: the swarm's own view (that clients ask for before they create services) names no users.
  if (query.get('scope') === 'swarm' && !queryBool(query, 'verbose')) {
    return sendJson(response, networkToJson(found.swarm));
  }
  if (!ports.swarm.state().controlAvailable) {
    const Containers = networkContainers(found.swarm.id, ports.engine.containers.list());
    return sendJson(response, { ...networkToJson(found.swarm), Containers });
  }
  const use = await networkUse(ports, queryBool(query, 'verbose'));
  sendJson(response, { ...networkToJson(found.swarm), ...networkUseToJson(found.swarm, use) });
}

async function create(context: RequestContext): Promise<void> {
  const { ports, response } = context;
  const json = new Fields(await readJson(context));
  const name = json.string('Name');
  const driver = json.string('Driver') || 'bridge';
  if (driver === 'overlay' || json.string('Scope') === 'swarm') {
    const { network } = await ports.swarm.call('CreateNetwork', { spec: networkSpecFromJson(json) });
    sendJson(response, { Id: must(network, 'network').id, Warning: '' }, 201);
    return;
  }
  if (driver === 'host' || driver === 'null') {
    throw new ShoalError('PermissionDenied', `only one instance of "${driver}" network is allowed`);
  }
  if (driver !== 'bridge' && driver !== 'macvlan' && driver !== 'ipvlan')
    throw notFound(`plugin "${driver}" not found`);
  if (PREDEFINED.includes(name)) {
    throw new ShoalError('PermissionDenied', `operation is not permitted on predefined ${name} network `);
  }
  // A name stands for one network, wherever it is valid.
  const taken = ports.engine.networks.localNetworks().some((network) => network.name === name);
  if (taken || (await swarmNetworks(ports, false)).some((network) => network.spec?.annotations?.name === name)) {
    throw conflict(`network with name ${name} already exists`);
  }
  const network = await ports.engine.networks.createLocalNetwork(localNetworkFromJson(json, driver));
  sendJson(response, { Id: network.id, Warning: '' }, 201);
}

async function remove({ response, ports, params }: RequestContext): Promise<void> {
  const found = await find(ports, must(params['id'], 'id'), '');
  if ('swarm' in found) {
    await ports.swarm.call('RemoveNetwork', { network_id: found.swarm.id });
  } else {
    if (PREDEFINED.includes(found.local.name)) {
      throw new ShoalError('PermissionDenied', `${found.local.name} is a pre-defined network and cannot be removed`);
    }
    await ports.engine.networks.removeLocalNetwork(found.local.id);
  }
  sendEmpty(response, 204);
}

/** The `until` filter: a time, or an age such as 24h or 10m; everything up to now when absent. */
function pruneUntilMs(text: string | undefined, nowMs: number): number {
  if (text === undefined) return nowMs;
  const age = /^(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?$/.exec(text);
  const [hours, minutes, seconds] = (age ?? []).slice(1).map((part) => Number(part ?? 0));
  const given =
    age === null ? Date.parse(text) : nowMs - (((hours ?? 0) * 60 + (minutes ?? 0)) * 60 + (seconds ?? 0)) * 1000;
  if (text === '' || Number.isNaN(given)) throw new ShoalError('InvalidArgument', `invalid filter 'until=${text}'`);
  return given;
}

async function prune({ response, ports, query }: RequestContext): Promise<void> {
  const filters = Filters.parse(query, ['label', 'until']);
  const untilMs = pruneUntilMs(filters.get('until')[0], Date.now());
  const used = networksInUse(ports);
  const removed: string[] = [];
  for (const network of ports.engine.networks.localNetworks()) {
    // Docker also keeps what stopped containers shall be on when they start again.
    if (PREDEFINED.includes(network.name) || network.createdMs > untilMs) continue;
    if (used.has(network.id) || used.has(network.name) || network.name === GATEWAY_NETWORK) continue;
    if (!filters.matchesLabels(network.labels)) continue;
    try {
      await ports.engine.networks.removeLocalNetwork(network.id);
      removed.push(network.name);
    } catch (error) {
      // In use: stays. Anything else is a real fault.
      if (!isShoalError(error, 'PermissionDenied', 'Conflict', 'FailedPrecondition')) throw error;
    }
  }
  ports.engine.control.networksPruned();
  sendJson(response, { NetworksDeleted: removed });
}

/**
 * The name by which the engine knows a network. A worker knows those of the swarm only that it has a part in: managers
 * judge the others.
 * @throws ShoalError NotFound
 */
export async function networkKey(ports: Ports, reference: string): Promise<string> {
  try {
    const found = await find(ports, reference, '');
    return 'swarm' in found ? (found.swarm.spec?.annotations?.name ?? found.swarm.id) : found.local.name;
  } catch (error) {
    const { localNodeState, controlAvailable } = ports.swarm.state();
    if (isShoalError(error, 'NotFound') && localNodeState === 'active' && !controlAvailable) return reference;
    throw error;
  }
}

async function connect(context: RequestContext): Promise<void> {
  const { ports, params, response } = context;
  const json = new Fields(await readJson(context));
  const network = await networkKey(ports, must(params['id'], 'id'));
  const endpoint = endpointFromJson(network, json.object('EndpointConfig'));
  await ports.engine.containers.connect(json.string('Container'), endpoint);
  sendEmpty(response, 200);
}

/** `Force` also takes what is left of a container that is gone; there is nothing left here, as its end clears all. */
async function disconnect(context: RequestContext): Promise<void> {
  const { ports, params, response } = context;
  const json = new Fields(await readJson(context));
  const network = await networkKey(ports, must(params['id'], 'id'));
  try {
    await ports.engine.containers.disconnect(json.string('Container'), network);
  } catch (error) {
    if (!json.bool('Force') || !isShoalError(error, 'NotFound')) throw error;
    throw notFound(`endpoint ${json.string('Container')} not found`);
  }
  sendEmpty(response, 200);
}

export const networkRoutes: readonly Route[] = [
  { method: 'GET', path: '/networks', handler: list },
  { method: 'POST', path: '/networks/create', handler: create },
  { method: 'POST', path: '/networks/prune', handler: prune },
  { method: 'GET', path: '/networks/{id}', handler: inspect },
  { method: 'DELETE', path: '/networks/{id}', handler: remove },
  { method: 'POST', path: '/networks/{id}/connect', handler: connect },
  { method: 'POST', path: '/networks/{id}/disconnect', handler: disconnect },
];
