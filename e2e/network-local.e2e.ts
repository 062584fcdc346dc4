import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Bed, NO_NAME_SERVER, until } from './kit/index.ts';

/** Networks of one host, as `docker network` and `docker create` make them; looked at from inside and from outside. */
const bed = new Bed('local');
const IMAGE = 'box:v1';
const HOST = 'm1';

beforeAll(async () => {
  await bed.up({
    managers: 1,
    workers: 1,
    swarm: false,
    daemonFlags: ['--fixed-cidr-v6', 'fd00:17::/64', ...NO_NAME_SERVER],
  });
  await bed.client.run('import', await bed.archive(), IMAGE);
});
afterAll(() => bed.down());

const docker = (...args: string[]): Promise<string> => bed.client.run(...args);
const fails = (...args: string[]): Promise<string> => bed.client.fails(...args);

interface Shown {
  Id: string;
  State: { Pid: number };
  HostConfig: { NetworkMode: string };
  NetworkSettings: {
    Networks: Record<string, { IPAddress: string; GlobalIPv6Address: string; NetworkID: string; Gateway: string }>;
  };
}

const shown = (name: string): Promise<Shown> => bed.client.inspect<Shown>('inspect', name);
const address = async (name: string, network: string): Promise<string> =>
  (await shown(name)).NetworkSettings.Networks[network]?.IPAddress ?? '';

/** Makes and starts a container that serves its name on port 80, over both families. */
async function serve(name: string, ...flags: string[]): Promise<void> {
  const script = `mkdir /www; echo ${name} >/www/index.html; exec httpd -f -p [::]:80 -h /www`;
  await docker('create', '--name', name, ...flags, IMAGE, 'sh', '-c', script);
  await started(name);
}

/** Starts a container that serves, and waits until it does. */
async function started(name: string): Promise<void> {
  await docker('start', name);
  await until(`${name} serves`, 5_000, async () => (await within(name, 'busybox', 'netstat', '-ltn')).includes(':80 '));
}

/** Runs a program in the network of a container. */
async function within(name: string, ...command: string[]): Promise<string> {
  const { Pid } = (await shown(name)).State;
  return await bed.inside(HOST, ['nsenter', `--net=/proc/${Pid}/ns/net`, ...command]);
}

const file = async (name: string, path: string): Promise<string> =>
  readFileSync(`/proc/${(await shown(name)).State.Pid}/root${path}`, 'utf8');

/** What is served at an address; empty when it cannot be reached. `from` is a container, or the host. */
async function fetched(url: string, from?: string): Promise<string> {
  const command = ['timeout', '3', 'busybox', 'wget', '-qO-', url];
  try {
    return from === undefined ? await bed.inside(HOST, command) : await within(from, ...command);
  } catch {
    return '';
  }
}

const resolved = (name: string, from: string): Promise<string> =>
  within(from, 'busybox', 'nslookup', name, '127.0.0.11').catch(() => '');

/** Names made here are gone at the end of each group. */
async function clear(): Promise<void> {
  const left = (await docker('ps', '-aq')).split('\n').filter((id) => id !== '');
  if (left.length > 0) await docker('rm', '-f', ...left);
  await docker('network', 'prune', '-f');
}

describe('connect and disconnect', () => {
  beforeAll(async () => {
    await docker('network', 'create', '--subnet', '10.41.0.0/24', 'front');
    await docker('network', 'create', '--subnet', '10.42.0.0/24', 'back');
    await serve('wa', '--network', 'front');
    await serve('wb', '--network', 'back', '--network-alias', 'friend');
  });
  afterAll(clear);

  it('plug a running container in and out, with names, files and default route', async () => {
    const b = await address('wb', 'back');
    expect(await fetched(`http://${b}/`, 'wa')).toBe('');
    await docker('network', 'connect', '--ip', '10.42.0.50', '--alias', 'first', 'back', 'wa');
    expect(await fetched(`http://${b}/`, 'wa')).toBe('wb');
    expect(await resolved('friend', 'wa')).toContain(b);
    expect(await resolved('first', 'wb')).toContain('10.42.0.50');
    expect(await file('wa', '/etc/hosts')).toMatch(/^10\.42\.0\.50\t[0-9a-f]{12}$/m);
    expect(await within('wa', 'ip', 'route', 'show', 'default')).toContain('via 10.42.0.1 dev eth1');
    const network = await bed.client.inspect<{ Containers: Record<string, { Name: string; IPv4Address: string }> }>(
      ...['network', 'inspect', 'back'],
    );
    const names = Object.values(network.Containers).map((one) => `${one.Name} ${one.IPv4Address}`);
    expect(names.sort()).toEqual(['wa 10.42.0.50/24', `wb ${b}/24`]);
    expect(await fails('network', 'connect', 'back', 'wa')).toContain(
      'endpoint with name wa already exists in network back',
    );
    expect(await fails('network', 'rm', 'back')).toContain('has active endpoints');
    await docker('network', 'disconnect', 'back', 'wa');
    expect(await fetched(`http://${b}/`, 'wa')).toBe('');
    expect(await file('wa', '/etc/hosts')).not.toContain('10.42.0.50');
    expect(await within('wa', 'ip', 'route', 'show', 'default')).toContain('via 10.41.0.1 dev eth0');
    expect(await fails('network', 'disconnect', 'back', 'wa')).toContain('is not connected to network back');
    expect(await fails('network', 'disconnect', '-f', 'back', 'nobody')).toContain('endpoint nobody not found');
  });

  it('of a stopped container hold with its next start', async () => {
    await docker('stop', '-t', '0', 'wa');
    await docker('network', 'connect', '--ip', '10.42.0.51', 'back', 'wa');
    await docker('network', 'disconnect', 'front', 'wa');
    await started('wa');
    const { Networks } = (await shown('wa')).NetworkSettings;
    expect(Object.keys(Networks)).toEqual(['back']);
    expect(Networks['back']?.IPAddress).toBe('10.42.0.51');
    expect(await fetched('http://10.42.0.51/', 'wb')).toBe('wa');
  });

  it('turn the resolver of a container of the default bridge on and off', async () => {
    await serve('plain');
    expect(await file('plain', '/etc/resolv.conf')).not.toContain('127.0.0.11');
    await docker('network', 'connect', 'front', 'plain');
    expect(await file('plain', '/etc/resolv.conf')).toContain('nameserver 127.0.0.11');
    await docker('network', 'disconnect', 'front', 'plain');
    expect(await file('plain', '/etc/resolv.conf')).not.toContain('127.0.0.11');
  });

  it('are told as events', async () => {
    const since = String(Math.floor(Date.now() / 1000) - 1);
    await docker('network', 'create', 'told');
    await docker('network', 'connect', 'told', 'plain');
    await docker('network', 'disconnect', 'told', 'plain');
    await docker('network', 'rm', 'told');
    const until = String(Math.ceil(Date.now() / 1000) + 1);
    const format = '{{.Action}} {{.Actor.Attributes.name}} {{.Actor.Attributes.type}} {{.Actor.Attributes.container}}';
    const args = ['--filter', 'type=network', '--since', since, '--until', until, '--format', format];
    const { Id } = await shown('plain');
    const lines = (await docker('events', ...args)).split('\n').filter((line) => line.includes(' told '));
    expect(lines).toEqual([
      'create told bridge <no value>',
      `connect told bridge ${Id}`,
      `disconnect told bridge ${Id}`,
      'destroy told bridge <no value>',
    ]);
  });
});

describe('published ports', () => {
  afterAll(clear);

  it('come as one, as a range, on one address, and as any', async () => {
    const own = bed.address(HOST);
    await serve('p1', '-p', '8000-8010:80', '-p', '127.0.0.1:8100:80', '-p', '3000-3002:3000-3002/udp', '-P');
    await serve('p2', '-p', '8000-8010:80');
    expect(await docker('port', 'p1', '80')).toBe('0.0.0.0:8000\n127.0.0.1:8100\n[::]:8000');
    expect(await docker('port', 'p2')).toBe('80/tcp -> 0.0.0.0:8001\n80/tcp -> [::]:8001');
    expect((await docker('port', 'p1')).split('\n')).toContain('3002/udp -> 0.0.0.0:3002');
    expect(await fetched(`http://${own}:8000/`)).toBe('p1');
    expect(await fetched('http://127.0.0.1:8001/')).toBe('p2');
    expect(await fetched('http://127.0.0.1:8100/')).toBe('p1');
    expect(await fetched(`http://${own}:8100/`)).toBe('');
    await docker('create', '--name', 'p3', '-p', '8000:80', IMAGE, 'sleep', '9');
    expect(await fails('start', 'p3')).toContain('Bind for 0.0.0.0:8000 failed: port is already allocated');
    await docker('create', '--name', 'p4', '-p', '8000-8001:80', IMAGE, 'sleep', '9');
    expect(await fails('start', 'p4')).toContain('Bind for 0.0.0.0:8000-8001 failed: all ports are allocated');
    await serve('p5', '--expose', '80', '-P');
    expect(await docker('port', 'p5', '80')).toMatch(/^0\.0\.0\.0:(\d{5})\n\[::\]:\1$/);
  });

  it('answer over IPv6 where the container has it, as those of the default bridge do', async () => {
    await serve('p0', '-p', '8150:80');
    expect((await shown('p0')).NetworkSettings.Networks['bridge']?.GlobalIPv6Address).toMatch(/^fd00:17::/);
    for (const own of ['127.0.0.1', '[::1]']) expect(await fetched(`http://${own}:8150/`)).toBe('p0');
    await docker('network', 'create', '--ipv6', 'six');
    await serve('p6', '--network', 'six', '-p', '8200:80');
    expect(await docker('port', 'p6', '80')).toBe('0.0.0.0:8200\n[::]:8200');
    const { GlobalIPv6Address: own } = (await shown('p6')).NetworkSettings.Networks['six'] ?? { GlobalIPv6Address: '' };
    expect(await fetched(`http://[${own}]/`)).toBe('p6');
    for (const own of ['127.0.0.1', '[::1]']) expect(await fetched(`http://${own}:8200/`)).toBe('p6');
    await bed.inside(HOST, ['ip', 'addr', 'add', 'fd00:99::1/64', 'dev', 'lo']);
    expect(await fetched('http://[fd00:99::1]:8200/')).toBe('p6');
  });
});

describe('modes, names and links', () => {
  afterAll(clear);

  it('container:ID shares the namespace and the files of its owner', async () => {
    await serve('owner', '--hostname', 'lord', '--domainname', 'example.org', '--add-host', 'gate:host-gateway');
    await docker('create', '--name', 'guest', '--network', 'container:owner', IMAGE, 'sleep', '600');
    await docker('start', 'guest');
    expect(await fetched('http://127.0.0.1/', 'guest')).toBe('owner');
    const hosts = await file('guest', '/etc/hosts');
    expect(hosts).toBe(await file('owner', '/etc/hosts'));
    expect(hosts).toContain(`${await address('owner', 'bridge')}\tlord.example.org lord\n`);
    expect(hosts).toMatch(/^172\.17\.\d+\.1\tgate$/m);
    expect((await shown('guest')).HostConfig.NetworkMode).toMatch(/^container:/);
    const clash = await fails('create', '--network', 'container:owner', '-p', '80:80', IMAGE, 'true');
    expect(clash).toContain('conflicting options: port publishing and the container type network mode');
    const words = await fails('network', 'connect', 'bridge', 'guest');
    expect(words).toContain('container sharing network namespace with another container or host cannot be connected');
    await docker('rm', '-f', 'guest');
    await docker('stop', '-t', '0', 'owner');
    await docker('create', '--name', 'late', '--network', 'container:owner', IMAGE, 'sleep', '600');
    expect(await fails('start', 'late')).toContain('cannot join network of a non running container');
    await started('owner');
    await docker('start', 'late');
    expect(await fetched('http://127.0.0.1/', 'late')).toBe('owner');
  });

  it('host and none', async () => {
    await docker('create', '--name', 'naked', '--network', 'host', IMAGE, 'sleep', '600');
    await docker('create', '--name', 'alone', '--network', 'none', IMAGE, 'sleep', '600');
    await docker('start', 'naked', 'alone');
    expect(await within('naked', 'ip', '-4', '-o', 'addr')).toContain(bed.address(HOST));
    expect(await within('alone', 'ip', '-o', 'link')).not.toContain('eth0');
    expect(await fails('network', 'connect', 'bridge', 'naked')).toContain('connected to host network');
    expect(await fails('network', 'connect', 'bridge', 'alone')).toContain('private (none) mode');
  });

  it('links tell of a container of the default bridge by hosts file and environment', async () => {
    await serve('db', '--expose', '80', '--env', 'SECRET=x');
    await serve('app', '--link', 'db:store');
    const db = await address('db', 'bridge');
    expect(await file('app', '/etc/hosts')).toMatch(new RegExp(`^${db}\tstore [0-9a-f]{12} db$`, 'm'));
    const environment = (
      await file('app', '/proc/1/environ').catch(async () => {
        return readFileSync(`/proc/${(await shown('app')).State.Pid}/environ`, 'utf8');
      })
    ).split('\0');
    expect(environment).toContain('STORE_NAME=/app/store');
    expect(environment).toContain(`STORE_PORT_80_TCP=tcp://${db}:80`);
    expect(environment).toContain('STORE_ENV_SECRET=x');
    expect(await fails('create', '--link', 'nobody', IMAGE, 'true')).toContain('could not get container for nobody');
    // Another container takes its address while it is down.
    await docker('stop', '-t', '0', 'db');
    for (let n = 0; n < 20 && (n === 0 || (await address(`taker${n - 1}`, 'bridge')) !== db); n++) {
      await docker('create', '--name', `taker${n}`, IMAGE, 'sleep', '600');
      await docker('start', `taker${n}`);
    }
    await docker('start', 'db');
    const moved = await address('db', 'bridge');
    expect(moved).not.toBe(db);
    const line = new RegExp(`^${moved}\tstore [0-9a-f]{12} db$`, 'm');
    await until('the new address', 3_000, async () => line.test(await file('app', '/etc/hosts')));
    expect(await file('app', '/etc/hosts')).not.toContain(`${db}\t`);
    // The container's own line stays, and the link holds when the linking one restarts.
    await docker('restart', '-t', '0', 'app').catch(async () => {
      await docker('stop', '-t', '0', 'app');
      await docker('start', 'app');
    });
    expect(await file('app', '/etc/hosts')).toMatch(line);
  });

  it('links on a user’s network are names that one container knows', async () => {
    await docker('network', 'create', 'named');
    await serve('n1', '--network', 'named');
    await serve('n2', '--network', 'named', '--link', 'n1:only');
    expect(await resolved('only', 'n2')).toContain(await address('n1', 'named'));
    expect(await resolved('only', 'n1')).not.toContain(await address('n1', 'named'));
  });
});

describe('addresses', () => {
  afterAll(clear);

  it('are refused in Docker’s words', async () => {
    const subnet = ['--subnet', '10.51.0.0/16'];
    const range = ['--ip-range', '10.51.7.0/29', '--aux-address', 'router=10.51.7.1'];
    await docker('network', 'create', ...subnet, ...range, '--gateway', '10.51.0.9', 'planned');
    await docker('network', 'create', 'free');
    await serve('x1', '--network', 'planned');
    expect(await address('x1', 'planned')).toMatch(/^10\.51\.7\.[02-7]$/);
    expect((await shown('x1')).NetworkSettings.Networks['planned']?.Gateway).toBe('10.51.0.9');
    const overlap = await fails('network', 'create', ...subnet, 'again');
    expect(overlap).toContain('Pool overlaps with other one on this address space');
    expect(await fails('network', 'create', 'planned')).toContain('network with name planned already exists');
    const bad = await fails('create', '--network', 'bridge', '--ip', '172.17.0.9', IMAGE, 'true');
    expect(bad).toContain('user specified IP address is supported on user defined networks only');
    const without = await fails('create', '--network', 'free', '--ip', '172.18.0.9', IMAGE, 'true');
    expect(without).toContain('only when connecting to networks with user configured subnets');
    await docker(
      'create',
      '--name',
      'x2',
      '--network',
      'planned',
      '--ip',
      await address('x1', 'planned'),
      IMAGE,
      'true',
    );
    expect(await fails('start', 'x2')).toContain('Address already in use');
    const foreign = await fails('network', 'connect', '--ip', '10.9.9.9', 'planned', 'x2');
    expect(foreign).toContain('already exists in network planned');
    expect(await fails('network', 'rm', 'bridge')).toContain('bridge is a pre-defined network and cannot be removed');
    expect(await docker('network', 'rm', '-f', 'nothing')).toBe('');
  });

  it('lists and prune tell what is in use', async () => {
    const names = async (...filters: string[]): Promise<string[]> => {
      const flags = filters.flatMap((filter) => ['--filter', filter]);
      return (await docker('network', 'ls', '--format', '{{.Name}}', ...flags)).split('\n').sort();
    };
    expect(await names('dangling=true')).toContain('free');
    expect(await names('dangling=false')).toContain('planned');
    expect(await names('type=custom', 'driver=bridge')).not.toContain('bridge');
    expect(await docker('network', 'prune', '-f')).toContain('free');
    expect(await names('name=planned')).toEqual(['planned']);
  });

  it('macvlan needs a link that is there; ipvlan is not offered', async () => {
    const words = await fails('network', 'create', '-d', 'macvlan', '-o', 'parent=eth9', 'lan');
    expect(words).toContain('invalid subinterface vlan name eth9, example formatting is eth0.10');
    expect(await fails('network', 'create', '-d', 'ipvlan', 'lan')).toContain('ipvlan is not supported');
    expect(await fails('network', 'create', '-d', 'host', 'h2')).toContain('only one instance of "host" network');
  });
});

it('a daemon that is started anew takes over what was plugged', async () => {
  await docker('network', 'create', '--subnet', '10.61.0.0/24', 'kept');
  await serve('stay', '-p', '8300:80');
  await docker('network', 'connect', '--ip', '10.61.0.7', 'kept', 'stay');
  await bed.lab.kill(HOST);
  await bed.lab.start(HOST);
  await until('the daemon', 20_000, () => docker('version'));
  const { Networks } = (await shown('stay')).NetworkSettings;
  expect(Object.keys(Networks).sort()).toEqual(['bridge', 'kept']);
  expect(await fetched('http://127.0.0.1:8300/')).toBe('stay');
  await docker('network', 'disconnect', 'bridge', 'stay');
  expect(await fetched('http://127.0.0.1:8300/')).toBe('stay');
  await clear();
});
