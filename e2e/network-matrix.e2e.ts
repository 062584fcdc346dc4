import { spawn, type ChildProcess } from 'node:child_process';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { must } from '../base/index.ts';
import { Bed, endGroups, NO_NAME_SERVER, until } from './kit/index.ts';
import { FAMILIES, inPool, plain, PROTOCOLS, question, readable, type Family, type Protocol } from './kit/probes.ts';

/**
 * The promise of networks as a table: {overlay, encrypted overlay, bridge, ingress, host mode} × family × {same host, other
 * host} × {TCP, UDP}: reached, seen with the right client address, and apart from other networks. Everything is made
 * once, all rows are asked side by side, and then judged one by one.
 */
const bed = new Bed('matrix');
const servers: ChildProcess[] = [];
const pids = new Map<string, number>();

const HOSTS = ['m1', 'w1', 'w2'];
const PORT = 9000;
const INGRESS_PORT = 9100;
const FAR_PORT = 9101;
const HOST_PORT = 9200;
const GATEWAY_HOST_PORT = 9300;
const BRIDGE_PORT = 9400;
/** Rows asked at the same time. */
const POOL_SIZE = 12;
/** Questions of one row that shall be answered. */
const ASKED_MAX = 4;
/** Clients on the bridges of a host. */
const CONTAINERS = ['plain-client', 'lan-client', 'quiet-client'];
const OVERLAYS = [
  { network: 'app', kind: 'overlay' },
  { network: 'vault', kind: 'encrypted overlay' },
] as const;

/** One question. */
interface Row {
  kind: string;
  family: Family;
  protocol: Protocol;
  what: string;
  /** A service, a container of w1, or `@HOST` for the host itself. */
  from: string;
  to: () => Promise<string> | string;
  port: number;
  /** What must be heard: nothing, the server's name alone (its client is translated), or the name and the client's address. */
  heard: { server: string; client?: () => Promise<string> | string } | undefined;
}
type Question = Omit<Row, 'kind' | 'family' | 'protocol'>;

// --- what there is ------------------------------------------------------------------------------------------------

const SERVERS = ['server', 'hostmode', 'mixed', 'lan-server', 'quiet-server', 'plain-server'];

const both = (published: string): string[] =>
  ['tcp', 'udp'].flatMap((protocol) => ['--publish', `${published},target=${PORT},protocol=${protocol}`]);

async function makeServices(web: string): Promise<void> {
  const flags = { app: [], other: [], vault: ['--opt', 'encrypted'] };
  for (const [network, more] of Object.entries(flags)) {
    await bed.client.run('network', 'create', '-d', 'overlay', '--ipv6', ...more, network);
  }
  const overlays = ['--network', 'app', '--network', 'vault'];
  const services: [name: string, host: string, flags: string[]][] = [
    ['server', 'w1', [...overlays, ...both(`published=${INGRESS_PORT}`)]],
    ['near', 'w1', overlays],
    // On the ingress network too, so that its tasks are of two hosts.
    ['far', 'w2', [...overlays, ...both(`published=${FAR_PORT}`)]],
    ['stranger-near', 'w1', ['--network', 'other']],
    ['stranger-far', 'w2', ['--network', 'other']],
    ['hostmode', 'w1', both(`mode=host,published=${HOST_PORT}`)],
    // Its way outward is docker_gwbridge.
    ['mixed', 'w1', ['--network', 'other', ...both(`mode=host,published=${GATEWAY_HOST_PORT}`)]],
  ];
  for (const [name, host, more] of services) {
    const where = ['--constraint', `node.hostname==${host}`];
    await bed.client.run('service', 'create', '--detach', '--quiet', '--name', name, ...where, ...more, `${web}:v1`);
  }
  for (const [name] of services) pids.set(name, must((await bed.theTask(name)).Status.ContainerStatus, name).PID);
}

/** Containers of one host, on its own networks. */
async function makeContainers(web: string): Promise<void> {
  const docker = bed.on('w1');
  await docker.run('network', 'create', '--ipv6', '--subnet', 'fd00:51::/64', 'lan');
  const apart = ['--opt', 'com.docker.network.bridge.enable_icc=false'];
  await docker.run('network', 'create', '--ipv6', '--subnet', 'fd00:52::/64', ...apart, 'quiet');
  const published = ['tcp', 'udp'].flatMap((protocol) => ['--publish', `${BRIDGE_PORT}:${PORT}/${protocol}`]);
  for (const [network, more] of [
    ['lan', published],
    ['quiet', []],
    ['bridge', []],
  ] as const) {
    const prefix = network === 'bridge' ? 'plain' : network;
    for (const role of ['server', 'client']) {
      const name = `${prefix}-${role}`;
      await docker.run('create', '--name', name, '--network', network, ...(role === 'server' ? more : []), `${web}:v1`);
      await docker.run('start', name);
      pids.set(name, (await docker.inspect<{ State: { Pid: number } }>('inspect', name)).State.Pid);
    }
  }
}

const pidOf = (name: string): number => must(pids.get(name), name);

/** A server in a container's namespace that tells each client its name and the client's address, over both families. */
async function serve(name: string, protocol: Protocol): Promise<void> {
  const listen =
    protocol === 'TCP' ? `TCP6-LISTEN:${PORT},ipv6only=0,fork,reuseaddr` : `UDP6-RECVFROM:${PORT},ipv6only=0,fork`;
  // What is sent is read first: a connection closed with bytes unread is reset, and the answer lost with it.
  const action = `SYSTEM:read x; echo ${name} $SOCAT_PEERADDR`;
  const args = ['--target', String(pidOf(name)), '--net', 'socat', listen, action];
  servers.push(spawn('nsenter', args, { stdio: 'ignore', detached: true }));
  await until(`${name} listens`, 5000, async () => {
    const table = await bed.inProcess(pidOf(name), 'netstat', protocol === 'TCP' ? '-ltn' : '-lun');
    return table.includes(`:${PORT} `);
  });
}

beforeAll(async () => {
  await bed.up({ managers: 1, workers: 2, daemonFlags: NO_NAME_SERVER });
  // The lab's hosts have IPv4 only.
  for (const host of HOSTS) {
    await bed.inside(host, ['ip', 'addr', 'add', `${hostAddress(host, 'IPv6')}/64`, 'dev', 'eth0', 'nodad']);
  }
  const web = await bed.serveImages();
  await makeServices(web);
  await makeContainers(web);
  await Promise.all(SERVERS.flatMap((name) => PROTOCOLS.map((protocol) => serve(name, protocol))));
}, 120_000);
afterAll(async () => {
  endGroups(servers);
  await bed.down();
});

// --- addresses ----------------------------------------------------------------------------------------------------

const isOf = (family: Family) => (address: string) => address.includes(':') === (family === 'IPv6');

function ofFamily(addresses: readonly string[], family: Family, what: string): string {
  return plain(must(addresses.find(isOf(family)), `${family} address of ${what}`).replace(/\/.*/, ''));
}

interface Attached {
  NetworksAttachments?: { Network: { Spec: { Name: string } }; Addresses: string[] }[];
}

/** Address of a service's task on a network of the swarm. */
async function taskAddress(service: string, network: string, family: Family): Promise<string> {
  const task = (await bed.theTask(service)) as unknown as Attached;
  const found = task.NetworksAttachments?.find((one) => one.Network.Spec.Name === network)?.Addresses ?? [];
  return ofFamily(found, family, `${service} on ${network}`);
}

async function virtualAddress(service: string, network: string, family: Family): Promise<string> {
  interface Service {
    Endpoint: { VirtualIPs: { NetworkID: string; Addr: string }[] };
  }
  const { Id } = await bed.client.inspect<{ Id: string }>('network', 'inspect', network);
  const { Endpoint } = await bed.client.inspect<Service>('service', 'inspect', service);
  const found = Endpoint.VirtualIPs.filter(({ NetworkID }) => NetworkID === Id).map(({ Addr }) => Addr);
  return ofFamily(found, family, `${service} on ${network}, virtual`);
}

/** A host's address of a family in the lab's own network. */
function hostAddress(host: string, family: Family): string {
  return family === 'IPv4' ? bed.address(host) : `fd00:77::${HOSTS.indexOf(host) + 1}`;
}

const loopbackAddress = (family: Family): string => (family === 'IPv4' ? '127.0.0.1' : '::1');

/** Address of a container on the network of its host that it is on. */
async function localAddress(name: string, family: Family): Promise<string> {
  const text = await bed.inProcess(pidOf(name), 'ip', '-o', 'addr', 'show', 'dev', 'eth0', 'scope', 'global');
  return ofFamily(
    [...text.matchAll(/inet6? ([0-9a-f.:]+)\//g)].map(([, address = '']) => address),
    family,
    name,
  );
}

// --- rows ---------------------------------------------------------------------------------------------------------

function overlayRows(network: string, family: Family): Question[] {
  const address = (): Promise<string> => taskAddress('server', network, family);
  const virtual = (): Promise<string> => virtualAddress('server', network, family);
  const places = [
    { place: 'the same host', client: 'near', stranger: 'stranger-near' },
    { place: 'another host', client: 'far', stranger: 'stranger-far' },
  ];
  const rows = places.flatMap(({ place, client, stranger }) =>
    [
      { to: address, name: 'address' },
      { to: virtual, name: 'virtual address' },
    ].flatMap(({ to, name }): Question[] => {
      const own = (): Promise<string> => taskAddress(client, network, family);
      return [
        {
          what: `reached from ${place} by ${name}`,
          from: client,
          to,
          port: PORT,
          heard: { server: 'server', client: own },
        },
        { what: `apart from another network on ${place} by ${name}`, from: stranger, to, port: PORT, heard: undefined },
      ];
    }),
  );
  const apart = ['@w1', '@m1', 'plain-client'].map((from): Question => {
    return { what: `apart from ${from}`, from, to: address, port: PORT, heard: undefined };
  });
  return [...rows, ...apart];
}

function ingressRows(family: Family): Question[] {
  const at = (host: string) => () => hostAddress(host, family);
  const client = at('m1');
  const entered = ['w1', 'w2', 'm1'].map((entry): Question => {
    const what = entry === 'w1' ? "reached by the task's host" : `reached by another host, ${entry}`;
    return { what, from: '@m1', to: at(entry), port: INGRESS_PORT, heard: { server: 'server', client } };
  });
  const own = ['w1', 'w2'].map((host): Question => {
    const heard = { server: 'server', client: at(host) };
    return { what: `reached from ${host} itself`, from: `@${host}`, to: at(host), port: INGRESS_PORT, heard };
  });
  const local = ['w1', 'w2'].map((host): Question => {
    const heard = { server: 'server' };
    return {
      what: `reached by loopback of ${host}`,
      from: `@${host}`,
      to: () => loopbackAddress(family),
      port: INGRESS_PORT,
      heard,
    };
  });
  const tasks = ['near', 'far', 'mixed', 'stranger-near', 'stranger-far', ...CONTAINERS].map((from): Question => {
    return { what: `reached from ${from}`, from, to: at('w1'), port: INGRESS_PORT, heard: { server: 'server' } };
  });
  const direct = { from: 'far', to: (): Promise<string> => taskAddress('server', 'ingress', family), port: PORT };
  const seen = { server: 'server', client: (): Promise<string> => taskAddress('far', 'ingress', family) };
  const peer: Question = { what: 'task reached from a task of another host', ...direct, heard: seen };
  const apart = ['stranger-near', 'stranger-far', 'plain-client', '@w1', '@m1'].map((from): Question => {
    const to = (): Promise<string> => taskAddress('server', 'ingress', family);
    return { what: `task apart from ${from}`, from, to, port: PORT, heard: undefined };
  });
  return [...entered, ...own, ...local, ...tasks, peer, ...apart];
}

/** Ports that one host publishes: of services with mode=host, and of containers. */
function publishedRows(server: string, port: number, family: Family): Question[] {
  const at = (host: string) => () => hostAddress(host, family);
  const heard = { server };
  return [
    { what: 'reached from another host', from: '@m1', to: at('w1'), port, heard: { server, client: at('m1') } },
    { what: 'reached from the host itself', from: '@w1', to: at('w1'), port, heard: { server, client: at('w1') } },
    { what: 'reached by loopback', from: '@w1', to: () => loopbackAddress(family), port, heard },
    ...CONTAINERS.map((from): Question => ({ what: `reached from ${from}`, from, to: at('w1'), port, heard })),
    { what: 'reached from an overlay task of the host', from: 'near', to: at('w1'), port, heard },
    {
      what: 'reached from a task of another host',
      from: 'far',
      to: at('w1'),
      port,
      heard: { server, client: at('w2') },
    },
    { what: 'on no other host', from: '@m1', to: at('w2'), port, heard: undefined },
  ];
}

function bridgeRows(family: Family): Question[] {
  const of = (name: string) => (): Promise<string> => localAddress(name, family);
  const reached = ['lan', 'plain'].map((prefix): Question => {
    const [server, client] = [`${prefix}-server`, `${prefix}-client`];
    const heard = { server, client: of(client) };
    return { what: `${server} reached from ${client}`, from: client, to: of(server), port: PORT, heard };
  });
  const from = '@w1';
  const quiet = { what: 'quiet-server reached from its host', from, to: of('quiet-server'), port: PORT };
  const apart = [
    ['quiet-client', 'quiet-server'],
    ['plain-client', 'lan-server'],
    ['lan-client', 'plain-server'],
    ['quiet-client', 'lan-server'],
    ['near', 'lan-server'],
    ['far', 'lan-server'],
    ['@m1', 'lan-server'],
    ['@w2', 'plain-server'],
  ].map(([from = '', server = '']): Question => {
    return { what: `${server} apart from ${from}`, from, to: of(server), port: PORT, heard: undefined };
  });
  return [...reached, { ...quiet, heard: { server: 'quiet-server' } }, ...apart];
}

const combinations = FAMILIES.flatMap((family) => PROTOCOLS.map((protocol) => ({ family, protocol })));
const rows: readonly Row[] = combinations.flatMap(({ family, protocol }) => {
  const groups: [kind: string, questions: Question[]][] = [
    ...OVERLAYS.map(({ network, kind }): [string, Question[]] => [kind, overlayRows(network, family)]),
    ['bridge', bridgeRows(family)],
    ['bridge, published port', publishedRows('lan-server', BRIDGE_PORT, family)],
    ['ingress', ingressRows(family)],
    ['host mode', publishedRows('hostmode', HOST_PORT, family)],
    ['host mode beside an overlay', publishedRows('mixed', GATEWAY_HOST_PORT, family)],
  ];
  return groups.flatMap(([kind, questions]) => questions.map((one): Row => ({ kind, family, protocol, ...one })));
});

async function ask({ family, protocol, from, to, port }: Row): Promise<string> {
  const script = ['sh', '-c', question(protocol, family, await to(), port)];
  if (from.startsWith('@')) return readable(await bed.inside(from.slice(1), script));
  return readable(await bed.inside('m1', ['nsenter', '--target', String(pidOf(from)), '--net', ...script]));
}

describe('the matrix', () => {
  const answers = new Map<Row, string>();

  beforeAll(async () => {
    await inPool(rows, POOL_SIZE, async (row) => {
      // A packet may be lost on a busy machine: WireGuard repeats the first handshake of two hosts after 5 s only. Where no
      // answer may come, one question is enough.
      const most = row.heard === undefined ? 1 : ASKED_MAX;
      for (let asked = 0; asked < most && !answers.get(row); asked++) answers.set(row, await ask(row));
    });
  }, 120_000);

  it.each(rows)('$kind, $family, $protocol: $what', async (row) => {
    const { heard } = row;
    const answer = must(answers.get(row), 'an answer');
    if (heard === undefined) expect(answer).toBe('');
    else if (heard.client === undefined) expect(answer.split(' ')[0]).toBe(heard.server);
    else expect(answer).toBe(`${heard.server} ${await heard.client()}`);
  });
});

it('finds the same by its own check', async () => {
  expect(await bed.on('m1', 'shoal').run('network', 'check')).toContain('nothing is broken');
});
