import { invalidArgument, isShoalError, must, ShoalError } from '../../base/index.ts';
import { queryBool, readJson } from '../body.ts';
import type { ContainerRequestFacts, JsonObject, Ports } from '../ports.ts';
import type { RequestContext, Route } from '../router.ts';
import { containerFromJson } from '../shapes/container-create.ts';
import { containerToJson, sizesToJson } from '../shapes/container.ts';
import { Fields } from '../shapes/fields.ts';
import { sendEmpty, sendJson } from '../stream.ts';
import { stopOptions } from './container-control.ts';
import { olderThan } from '../versions.ts';
import { networkKey } from './networks.ts';

const name = ({ params }: RequestContext): string => must(params['id'], 'id');

async function wait(context: RequestContext): Promise<void> {
  const { ports, query, response, signal } = context;
  const condition = query.get('condition') || 'not-running';
  if (condition !== 'not-running' && condition !== 'next-exit' && condition !== 'removed') {
    throw invalidArgument(`invalid condition: "${condition}"`);
  }
  const { id } = ports.engine.containers.inspect(name(context));
  response.writeHead(200, { 'Content-Type': 'application/json' });
  // The client starts the container only when it has seen these headers.
  response.flushHeaders();
  const { exitCode, error } = await ports.engine.containers.wait(id, condition, signal);
  // Who waits for the removal is not told here why the start failed: the answer to the start has told it.
  const fault = error === undefined || condition === 'removed' ? {} : { Error: { Message: error } };
  response.end(`${JSON.stringify({ StatusCode: exitCode, ...fault })}\n`);
}

async function stop(context: RequestContext): Promise<void> {
  await context.ports.engine.containers.stop(name(context), stopOptions(context.query));
  sendEmpty(context.response, 204);
}

async function kill(context: RequestContext): Promise<void> {
  const { ports, query, response } = context;
  try {
    await ports.engine.containers.kill(name(context), query.get('signal') || 'SIGKILL');
  } catch (error) {
    if (!isShoalError(error, 'InvalidArgument', 'Conflict', 'NotFound')) throw error;
    throw new ShoalError(error.code, `cannot kill container: ${name(context)}: ${error.message}`);
  }
  sendEmpty(response, 204);
}

async function remove(context: RequestContext): Promise<void> {
  const { ports, query, response } = context;
  if (queryBool(query, 'link')) await ports.engine.control.removeLink(name(context));
  else {
    const options = { force: queryBool(query, 'force'), volumes: queryBool(query, 'v') };
    await ports.engine.containers.remove(name(context), options);
  }
  sendEmpty(response, 204);
}

/** What a container's files take, when that was asked for. */
async function sizesOf({ ports, query, signal }: RequestContext, id: string): Promise<JsonObject> {
  return queryBool(query, 'size') ? sizesToJson((await ports.engine.files.sizes([id], signal)).get(id), false) : {};
}

/** Networks are kept by name, however they were told. One that is not found is judged when the container starts. */
async function withNames(ports: Ports, config: ContainerRequestFacts): Promise<ContainerRequestFacts> {
  const { network } = config;
  if (network.mode !== 'sandbox') return config;
  const local = new Set(ports.engine.networks.localNetworks().map((one) => one.name));
  const endpoints = [];
  for (const endpoint of network.endpoints) {
    const { networkId } = endpoint;
    const known = local.has(networkId) ? networkId : await networkKey(ports, networkId).catch(() => networkId);
    endpoints.push({ ...endpoint, networkId: known });
  }
  return { ...config, network: { ...network, endpoints } };
}

async function create(context: RequestContext): Promise<void> {
  const { ports, query, response } = context;
  const json = new Fields(await readJson(context));
  const local = ports.engine.networks.localNetworks();
  const { config, warnings } = containerFromJson((query.get('name') ?? '').replace(/^\//, ''), json, local);
  if (olderThan(context.version, '1.48') && config.mounts.some(({ type }) => type === 'image')) {
    throw invalidArgument('Mount type "Image" needs API v1.48 or newer');
  }
  const platform = query.get('platform') ?? '';
  const asked = { ...(await withNames(ports, config)), ...(platform === '' ? {} : { platform }) };
  const made = await ports.engine.containers.create(asked);
  sendJson(response, { Id: made.id, Warnings: [...warnings, ...made.warnings] }, 201);
}

/** Where a container's files stand on the host; null before its first start. */
function graphData(ports: Ports, id: string): JsonObject | null {
  try {
    const { merged, upper, work, layers } = ports.engine.images.rootParts(id);
    if (work === '') return null;
    const lower = layers.map(({ path }) => path).join(':');
    return { LowerDir: lower, MergedDir: merged, UpperDir: upper, WorkDir: work };
  } catch (error) {
    if (isShoalError(error, 'NotFound')) return null;
    throw error;
  }
}

export const containerRoutes: readonly Route[] = [
  { method: 'POST', path: '/containers/create', handler: create },
  {
    method: 'GET',
    path: '/containers/{id}/json',
    handler: async (context) => {
      const { engine, system } = context.ports;
      const container = engine.containers.inspect(name(context));
      const execIds = engine.terminals.execIds(container.id);
      sendJson(context.response, {
        ...containerToJson(container, system.storageDriver),
        GraphDriver: { Name: system.storageDriver, Data: graphData(context.ports, container.id) },
        ...(execIds.length > 0 ? { ExecIDs: execIds } : {}),
        ...(await sizesOf(context, container.id)),
      });
    },
  },
  { method: 'POST', path: '/containers/{id}/wait', handler: wait },
  {
    method: 'POST',
    path: '/containers/{id}/start',
    handler: async (context) => {
      await context.ports.engine.containers.start(name(context));
      sendEmpty(context.response, 204);
    },
  },
  { method: 'POST', path: '/containers/{id}/stop', handler: stop },
  { method: 'POST', path: '/containers/{id}/kill', handler: kill },
  // A link that is to be removed has a path: /parent/alias.
  { method: 'DELETE', path: '/containers/{id*}', handler: remove },
];
