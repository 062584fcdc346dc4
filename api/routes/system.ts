import { hostname } from 'node:os';
import { isShoalError } from '../../base/index.ts';
import { readJson } from '../body.ts';
import type { JsonObject, Ports } from '../ports.ts';
import type { RequestContext, Route } from '../router.ts';
import { Fields } from '../shapes/fields.ts';
import { clusterToJson } from '../shapes/swarm.ts';
import { sendJson } from '../stream.ts';
import { API_VERSION, MIN_API_VERSION } from '../versions.ts';

/** Value of the `Swarm` header of /_ping. */
function swarmHeader(ports: Ports): string {
  const { localNodeState, controlAvailable } = ports.swarm.state();
  return localNodeState === 'active' ? `active/${controlAvailable ? 'manager' : 'worker'}` : localNodeState;
}

async function ping({ request, response, ports }: RequestContext): Promise<void> {
  response.writeHead(200, {
    'Content-Type': 'text/plain; charset=utf-8',
    'Cache-Control': 'no-cache, no-store, must-revalidate',
    Pragma: 'no-cache',
    'Builder-Version': '1',
    Swarm: swarmHeader(ports),
  });
  response.end(request.method === 'HEAD' ? undefined : 'OK');
}

async function version({ response, ports }: RequestContext): Promise<void> {
  const info = await ports.system.info();
  const facts = {
    Version: ports.system.version,
    ApiVersion: API_VERSION,
    MinAPIVersion: MIN_API_VERSION,
    GitCommit: ports.system.gitCommit,
    GoVersion: `node ${process.versions.node}`,
    Os: 'linux',
    Arch: process.arch === 'x64' ? 'amd64' : process.arch,
    KernelVersion: info['KernelVersion'],
    BuildTime: '',
  };
  const { Version, ...details } = facts;
  sendJson(response, {
    Platform: { Name: 'Shoal' },
    Components: [
      { Name: 'Engine', Version, Details: { ...details, Experimental: 'false' } },
      ...ports.system.components().map((part) => ({ Name: part.name, Version: part.version, Details: {} })),
    ],
    ...facts,
  });
}

/** The cluster part of /info; a manager without a leader still answers, with the reason. */
async function clusterInfo(ports: Ports): Promise<JsonObject> {
  const { controlAvailable, quorumLoss } = ports.swarm.state();
  if (!controlAvailable) return {};
  const counts = async (call: Ports['swarm']['call']): Promise<JsonObject> => {
    const { nodes } = await call('ListNodes', { filters: null });
    return { Nodes: nodes.length, Managers: nodes.filter((node) => node.manager_status !== null).length };
  };
  try {
    // What this manager last knew; the error says that it may be old.
    if (quorumLoss !== undefined) {
      return { ...(await counts((...args) => ports.swarm.callStale(...args))), Error: quorumLoss.line };
    }
    const [{ clusters }, counted] = await Promise.all([
      ports.swarm.call('ListClusters', { filters: null }),
      counts((...args) => ports.swarm.call(...args)),
    ]);
    const cluster = clusters[0];
    return {
      ...counted,
      Cluster: cluster === undefined ? undefined : clusterToJson(cluster, ports.swarm.issuer(), false),
    };
  } catch (error) {
    if (!isShoalError(error)) throw error;
    return { Error: error.message.split('\n')[0] };
  }
}

/** Warnings of the daemon, then those about the swarm; null when there are none, as Docker has it. */
function warnings(ports: Ports, given: unknown): string[] | null {
  const { quorumLoss, recovery } = ports.swarm.state();
  const [head = '', ...rest] = [...(quorumLoss?.lines ?? []), ...(recovery?.lines ?? [])];
  const ours = head === '' ? [] : [`WARNING: ${head}`, ...rest];
  const all = [...(Array.isArray(given) ? (given as string[]) : []), ...ours];
  return all.length === 0 ? null : all;
}

async function info({ response, ports }: RequestContext): Promise<void> {
  const state = ports.swarm.state();
  const facts = await ports.system.info();
  const containers = ports.engine.containers.list();
  const count = (wanted: string): number => containers.filter((c) => c.state === wanted).length;
  sendJson(response, {
    Containers: containers.length,
    ContainersRunning: count('running'),
    ContainersPaused: count('paused'),
    ContainersStopped: containers.length - count('running') - count('paused'),
    Images: ports.engine.images.list().length,
    Name: hostname(),
    ServerVersion: ports.system.version,
    OSType: 'linux',
    SystemTime: new Date().toISOString(),
    ...facts,
    Warnings: warnings(ports, facts['Warnings']),
    Swarm: {
      NodeID: state.nodeId,
      NodeAddr: state.nodeAddr,
      LocalNodeState: state.localNodeState,
      ControlAvailable: state.controlAvailable,
      Error: state.error,
      RemoteManagers:
        state.remoteManagers.length === 0
          ? null
          : state.remoteManagers.map((manager) => ({ NodeID: manager.nodeId, Addr: manager.addr })),
      ...(await clusterInfo(ports)),
    },
  });
}

/** Asks a registry whether credentials are good; the client keeps them. */
async function auth(context: RequestContext): Promise<void> {
  const json = new Fields(await readJson(context));
  const given = {
    username: json.string('username'),
    password: json.string('password'),
    identityToken: json.string('identitytoken'),
    registryToken: json.string('registrytoken'),
  };
  const credentials = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== ''));
  await context.ports.engine.images.login(json.string('serveraddress'), credentials, context.signal);
  sendJson(context.response, { Status: 'Login Succeeded', IdentityToken: '' });
}

export const systemRoutes: readonly Route[] = [
  { method: 'GET', path: '/_ping', handler: ping },
  { method: 'HEAD', path: '/_ping', handler: ping },
  { method: 'GET', path: '/version', handler: version },
  { method: 'GET', path: '/info', handler: info },
  { method: 'GET', path: '/plugins', handler: async ({ response }) => sendJson(response, []) },
  { method: 'POST', path: '/auth', handler: auth },
];
