import { spawn, type ChildProcess } from 'node:child_process';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { must } from '../base/index.ts';
import { Bed, endGroups, until } from './kit/index.ts';

/**
 * The promise of networks as a table: {overlay, ingress, host-mode, bridge} × family × {same host, other host} × {TCP, UDP}:
 * reached, seen with the right client address, and apart from other networks. Services are made once, rows only ask.
 */
const bed = new Bed('matrix');
const servers: ChildProcess[] = [];
const pids = new Map<string, number>();

const FAMILIES = ['IPv4', 'IPv6'] as const;
/** Containers get IPv6 from overlays: one that is on the hosts' own bridge alone has none to be reached by. */
const HOST_MODE_FAMILIES = ['IPv4'] as const satisfies readonly Family[];
const PROTOCOLS = ['TCP', 'UDP'] as const;
type Family = (typeof FAMILIES)[number];
type Protocol = (typeof PROTOCOLS)[number];

const HOSTS = ['m1', 'w1', 'w2'];
const PORT = 9000;
const INGRESS_PORT = 9100;
const HOST_PORT = 9200;
/** Time for one question, s. A question that must not be answered takes all of it. */
const ASK_S = 2;

beforeAll(async () => {
  await bed.up({ managers: 1, workers: 2, daemonFlags: ['--dns', '127.0.0.1'] });
  // The lab's hosts have IPv4 only.
  for (const [index, host] of HOSTS.entries()) {
    await bed.inside(host, ['ip', 'addr', 'add', `fd00:77::${index + 1}/64`, 'dev', 'eth0', 'nodad']);
  }
  const web = await bed.serveImages();
  for (const network of ['app', 'other']) await bed.client.run('network', 'create', '-d', 'overlay', '--ipv6', network);
  const on = async (host: string, name: string, ...args: string[]): Promise<void> => {
    const where = ['--constraint', `node.hostname==${host}`];
    await bed.client.run('service', 'create', '--detach', '--quiet', '--name', name, ...where, ...args, `${web}:v1`);
  };
  const both = (published: string): string[] =>
    ['tcp', 'udp'].flatMap((protocol) => ['--publish', `${published},target=${PORT},protocol=${protocol}`]);
  await on('w1', 'server', '--network', 'app', ...both(`published=${INGRESS_PORT}`));
  await on('w1', 'hostmode', ...both(`mode=host,published=${HOST_PORT}`));
  await on('w1', 'near', '--network', 'app');
  await on('w2', 'far', '--network', 'app');
  await on('w1', 'stranger-near', '--network', 'other');
  await on('w2', 'stranger-far', '--network', 'other');
  await on('w1', 'neighbour', ...both('mode=host,published=9300'));
  for (const name of ['server', 'hostmode', 'near', 'far', 'stranger-near', 'stranger-far', 'neighbour']) {
    pids.set(name, must((await bed.theTask(name)).Status.ContainerStatus, name).PID);
  }
  for (const name of ['server', 'hostmode']) for (const protocol of PROTOCOLS) await serve(name, protocol);
}, 120_000);
afterAll(async () => {
  endGroups(servers);
  await bed.down();
});

const pidOf = (service: string): number => must(pids.get(service), service);

/** A server in a task's namespace that tells each client its service and the client's address, over both families. */
async function serve(service: string, protocol: Protocol): Promise<void> {
  const listen =
    protocol === 'TCP' ? `TCP6-LISTEN:${PORT},ipv6only=0,fork,reuseaddr` : `UDP6-RECVFROM:${PORT},ipv6only=0,fork`;
  // What is sent is read first: a connection closed with bytes unread is reset, and the answer lost with it.
  const action = `SYSTEM:read x; echo ${service} $SOCAT_PEERADDR`;
  const args = ['--target', String(pidOf(service)), '--net', 'socat', listen, action];
  servers.push(spawn('nsenter', args, { stdio: 'ignore', detached: true }));
  await until(`${service} listens`, 5000, async () => {
    const table = await bed.inProcess(pidOf(service), 'netstat', protocol === 'TCP' ? '-ltn' : '-lun');
    return table.includes(`:${PORT} `);
  });
}

const question = (protocol: Protocol, family: Family, address: string, port: number): string => {
  const where = family === 'IPv6' ? `[${address}]` : address;
  const limit = protocol === 'TCP' ? `,connect-timeout=${ASK_S}` : '';
  const target = `${protocol}${family === 'IPv6' ? 6 : 4}:${where}:${port}${limit}`;
  return `echo x | timeout ${ASK_S + 1} socat -t${ASK_S} -T${ASK_S} - ${target} 2>/dev/null | head -1`;
};

/** `SERVER CLIENT-ADDRESS` in one form, whatever form the socket had it in; empty when there was no answer. */
function readable(answer: string): string {
  const [server = '', address = ''] = answer.trim().split(' ');
  return server === '' ? '' : `${server} ${plain(address)}`;
}

/** An address as people write it: without brackets, mapped ones as IPv4, others shortened by the one rule of URLs. */
function plain(address: string): string {
  const bare = address.replace(/^\[|\]$/g, '');
  if (!bare.includes(':')) return bare;
  const short = new URL(`http://[${bare}]/`).hostname.slice(1, -1);
  const mapped = /^::ffff:([0-9a-f]+):([0-9a-f]+)$/.exec(short);
  if (mapped === null) return short;
  const [high, low] = [parseInt(mapped[1] ?? '', 16), parseInt(mapped[2] ?? '', 16)];
  return [high >> 8, high & 255, low >> 8, low & 255].join('.');
}

/** Asks from inside a task's network namespace. */
async function fromTask(service: string, protocol: Protocol, family: Family, address: string): Promise<string> {
  const args = ['--target', String(pidOf(service)), '--net', 'sh', '-c', question(protocol, family, address, PORT)];
  return readable(await bed.inside('m1', ['nsenter', ...args]));
}

async function fromHost(host: string, protocol: Protocol, family: Family, at: string, port: number): Promise<string> {
  return readable(await bed.inside(host, ['sh', '-c', question(protocol, family, at, port)]));
}

interface Attached {
  NetworksAttachments?: { Network: { Spec: { Name: string } }; Addresses: string[] }[];
}
const ofFamily = (family: Family) => (address: string) => address.includes(':') === (family === 'IPv6');

async function addressOf(service: string, network: string, family: Family): Promise<string> {
  const task = (await bed.theTask(service)) as unknown as Attached;
  const found = task.NetworksAttachments?.find((one) => one.Network.Spec.Name === network)?.Addresses ?? [];
  return must(found.find(ofFamily(family)), `${family} address of ${service} on ${network}`).replace(/\/.*/, '');
}

async function vipOf(service: string, family: Family): Promise<string> {
  interface Service {
    Endpoint: { VirtualIPs: { NetworkID: string; Addr: string }[] };
  }
  const { Id } = await bed.client.inspect<{ Id: string }>('network', 'inspect', 'app');
  const { Endpoint } = await bed.client.inspect<Service>('service', 'inspect', service);
  const found = Endpoint.VirtualIPs.filter(({ NetworkID }) => NetworkID === Id).map(({ Addr }) => Addr);
  return must(found.find(ofFamily(family)), `${family} virtual address`).replace(/\/.*/, '');
}

/** A host's address of a family in the lab's own network. */
function hostAddress(host: string, family: Family): string {
  return family === 'IPv4' ? bed.address(host) : `fd00:77::${HOSTS.indexOf(host) + 1}`;
}

/** Address inside a container of the local bridge that it is on. */
async function bridgeAddress(service: string): Promise<string> {
  const text = await bed.inProcess(pidOf(service), 'ip', '-4', '-o', 'addr', 'show', 'dev', 'eth0');
  return must(/inet ([0-9.]+)\//.exec(text)?.[1], `bridge address of ${service}`);
}

const hostModeRows = HOST_MODE_FAMILIES.flatMap((family) => PROTOCOLS.map((protocol) => ({ family, protocol })));
const rows = FAMILIES.flatMap((family) => PROTOCOLS.map((protocol) => ({ family, protocol })));

describe.each(rows)('overlay, $family, $protocol', ({ family, protocol }) => {
  it.each([
    ['the same host', 'near'],
    ['another host', 'far'],
  ])('is reached from %s, by address and virtual address, which sees the client', async (_, client) => {
    const own = plain(await addressOf(client, 'app', family));
    for (const address of [await addressOf('server', 'app', family), await vipOf('server', family)]) {
      expect(await fromTask(client, protocol, family, address)).toBe(`server ${own}`);
    }
  });

  it.each([
    ['the same host', 'stranger-near'],
    ['another host', 'stranger-far'],
  ])('is apart from tasks of another network on %s', async (_, client) => {
    for (const address of [await addressOf('server', 'app', family), await vipOf('server', family)]) {
      expect(await fromTask(client, protocol, family, address)).toBe('');
    }
  });

  it('is apart from the hosts', async () => {
    const address = await addressOf('server', 'app', family);
    expect(await fromHost('w1', protocol, family, address, PORT)).toBe('');
  });
});

describe.each(rows)('ingress, $family, $protocol', ({ family, protocol }) => {
  it.each([
    ['the host of the task', 'w1'],
    ['another host', 'w2'],
  ])('is reached by %s, which sees the client', async (_, entry) => {
    const answer = await fromHost('m1', protocol, family, hostAddress(entry, family), INGRESS_PORT);
    expect(answer).toBe(`server ${hostAddress('m1', family)}`);
  });

  it.each(['w1', 'w2'])('is reached from %s itself', async (host) => {
    expect(await fromHost(host, protocol, family, hostAddress(host, family), INGRESS_PORT)).toMatch(/^server /);
  });
});

describe.each(hostModeRows)('host mode, $family, $protocol', ({ family, protocol }) => {
  it('is reached from another host, which is seen', async () => {
    const answer = await fromHost('m1', protocol, family, hostAddress('w1', family), HOST_PORT);
    expect(answer).toBe(`hostmode ${hostAddress('m1', family)}`);
  });

  it('is reached from the host itself', async () => {
    expect(await fromHost('w1', protocol, family, hostAddress('w1', family), HOST_PORT)).toMatch(/^hostmode /);
  });

  it('answers on no other host', async () => {
    expect(await fromHost('m1', protocol, family, hostAddress('w2', family), HOST_PORT)).toBe('');
  });
});

describe.each(PROTOCOLS)('bridge, IPv4, %s', (protocol) => {
  it('is reached by a container of the same bridge through the published port', async () => {
    const at = hostAddress('w1', 'IPv4');
    const script = question(protocol, 'IPv4', at, HOST_PORT);
    const answer = await bed.inside('m1', [
      'nsenter',
      '--target',
      String(pidOf('neighbour')),
      '--net',
      'sh',
      '-c',
      script,
    ]);
    expect(readable(answer)).toMatch(/^hostmode /);
  });

  it('is apart from tasks of overlays, on the same host and on another', async () => {
    const address = await bridgeAddress('hostmode');
    for (const client of ['stranger-near', 'stranger-far']) {
      expect(await fromTask(client, protocol, 'IPv4', address)).toBe('');
    }
  });

  it('is apart from other hosts', async () => {
    expect(await fromHost('m1', protocol, 'IPv4', await bridgeAddress('hostmode'), PORT)).toBe('');
  });
});

it('finds the same by its own check', async () => {
  expect(await bed.on('m1', 'shoal').run('network', 'check')).toContain('nothing is broken');
});
