import { must, ShoalError } from '../../base/index.ts';
import { ClusterSpec, type Cluster } from '../../proto/index.ts';
import { queryBool, queryVersion, readJson } from '../body.ts';
import type { JsonObject, Ports } from '../ports.ts';
import type { RequestContext, Route } from '../router.ts';
import { Fields } from '../shapes/fields.ts';
import { clusterSpecFromJson, clusterToJson } from '../shapes/swarm.ts';
import { sendEmpty, sendJson } from '../stream.ts';

async function theCluster(ports: Ports): Promise<Cluster> {
  const { clusters } = await ports.swarm.call('ListClusters', { filters: null });
  return must(clusters[0], 'the cluster object');
}

async function inspect({ response, ports }: RequestContext): Promise<void> {
  sendJson(response, clusterToJson(await theCluster(ports), ports.swarm.issuer(), true));
}

async function init(context: RequestContext): Promise<void> {
  const body = await readJson(context);
  const json = new Fields(body);
  const id = await context.ports.swarm.init({
    listenAddr: json.string('ListenAddr'),
    advertiseAddr: json.string('AdvertiseAddr'),
    dataPathAddr: json.string('DataPathAddr'),
    dataPathPort: json.number('DataPathPort'),
    forceNewCluster: json.bool('ForceNewCluster'),
    autoLockManagers: json.bool('AutoLockManagers'),
    availability: json.string('Availability'),
    // Shoal's own.
    nodeLabels: json.stringMap('NodeLabels'),
    defaultAddrPool: json.strings('DefaultAddrPool'),
    subnetSize: json.number('SubnetSize'),
    spec: (body['Spec'] ?? {}) as JsonObject,
  });
  sendJson(context.response, id);
}

async function join(context: RequestContext): Promise<void> {
  const json = new Fields(await readJson(context));
  await context.ports.swarm.join({
    listenAddr: json.string('ListenAddr'),
    advertiseAddr: json.string('AdvertiseAddr'),
    dataPathAddr: json.string('DataPathAddr'),
    remoteAddrs: json.strings('RemoteAddrs'),
    joinToken: json.string('JoinToken'),
    availability: json.string('Availability'),
    nodeLabels: json.stringMap('NodeLabels'),
  });
  sendEmpty(context.response);
}

async function leave({ response, ports, query }: RequestContext): Promise<void> {
  await ports.swarm.leave(queryBool(query, 'force'));
  sendEmpty(response);
}

async function update(context: RequestContext): Promise<void> {
  const { ports, query } = context;
  const version = queryVersion(query, 'swarm');
  const body = await readJson(context);
  const json = new Fields(body);
  const cluster = await theCluster(ports);
  await ports.swarm.call('UpdateCluster', {
    cluster_id: cluster.id,
    cluster_version: { index: version },
    spec: clusterSpecFromJson(body, cluster.spec ?? ClusterSpec.create()),
    rotation: {
      worker_join_token: queryBool(query, 'rotateWorkerToken'),
      manager_join_token: queryBool(query, 'rotateManagerToken'),
      manager_unlock_key: queryBool(query, 'rotateManagerUnlockKey'),
    },
    // Shoal's own: Docker chooses the pools once, when a swarm is made.
    address_pools: { pools: json.strings('DefaultAddrPool'), subnet_size: json.number('SubnetSize') },
  });
  sendEmpty(context.response);
}

async function unlock(context: RequestContext): Promise<void> {
  const key = new Fields(await readJson(context)).string('UnlockKey');
  if (key === '') throw new ShoalError('InvalidArgument', 'an unlock key is needed');
  await context.ports.swarm.unlock(key);
  sendEmpty(context.response);
}

export const swarmRoutes: readonly Route[] = [
  { method: 'GET', path: '/swarm', handler: inspect },
  { method: 'POST', path: '/swarm/init', handler: init },
  { method: 'POST', path: '/swarm/join', handler: join },
  { method: 'POST', path: '/swarm/leave', handler: leave },
  { method: 'POST', path: '/swarm/update', handler: update },
  { method: 'POST', path: '/swarm/unlock', handler: unlock },
  {
    method: 'GET',
    path: '/swarm/unlockkey',
    handler: async ({ response, ports }) => sendJson(response, { UnlockKey: await ports.swarm.unlockKey() }),
  },
];
