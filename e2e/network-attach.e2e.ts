import { afterAll, beforeAll, expect, it } from 'vitest';
import { Bed, until } from './kit/index.ts';

/** Plain containers on attachable overlays, on managers and workers, through the stock client. */
const bed = new Bed('attach');
const IMAGE = 'box:v1';
let web = '';

beforeAll(async () => {
  await bed.up({ managers: 1, workers: 1 });
  web = `${await bed.serveImages()}:v1`;
  for (const host of ['m1', 'w1']) await bed.on(host).run('import', await bed.archive(), IMAGE);
  await bed.client.run('network', 'create', '-d', 'overlay', '--attachable', '--subnet', '10.91.0.0/24', 'open');
  await bed.client.run('network', 'create', '-d', 'overlay', 'shut');
  const create = ['service', 'create', '--detach', '--quiet', '--network', 'open', '--name', 'web'];
  await bed.client.run(...create, '--constraint', 'node.role==worker', web);
  await bed.replicas('web', 1);
});
afterAll(() => bed.down());

interface Shown {
  Id: string;
  State: { Pid: number; Running: boolean };
  NetworkSettings: { Networks: Record<string, { IPAddress: string; GlobalIPv6Address?: string; NetworkID: string }> };
}
const shown = (host: string, name: string): Promise<Shown> => bed.on(host).inspect<Shown>('inspect', name);
const address = async (host: string, name: string): Promise<string> =>
  (await shown(host, name)).NetworkSettings.Networks['open']?.IPAddress ?? '';

/** Runs a program in the network of a container. */
async function within(host: string, name: string, ...command: string[]): Promise<string> {
  const { Pid } = (await shown(host, name)).State;
  return await bed.inside(host, ['nsenter', `--net=/proc/${Pid}/ns/net`, ...command]);
}

/** What is served at a name or address, asked from a container. */
async function fetched(host: string, from: string, target: string): Promise<string> {
  const resolved = /^[\d.]+$/.test(target) ? target : await resolve(host, from, target);
  if (resolved === '') return '';
  return within(host, from, 'timeout', '3', 'busybox', 'wget', '-qO-', `http://${resolved}/`).catch(() => '');
}

async function resolve(host: string, from: string, name: string): Promise<string> {
  const answer = await within(host, from, 'busybox', 'nslookup', '-type=a', name, '127.0.0.11').catch(() => '');
  const found = [...answer.matchAll(/^Address(?:\s\d+)?:\s*(\d+\.\d+\.\d+\.\d+)\s*$/gm)];
  return found.at(-1)?.[1] ?? '';
}

/** Makes and starts a container that serves its name on port 80. */
async function serve(host: string, name: string, ...flags: string[]): Promise<void> {
  const script = `mkdir /www; echo ${name} >/www/index.html; exec httpd -f -p 80 -h /www`;
  await bed.on(host).run('create', '--name', name, ...flags, IMAGE, 'sh', '-c', script);
  await bed.on(host).run('start', name);
}

/** Addresses that managers have given to plain containers. */
async function places(): Promise<number> {
  const { Containers, Peers } = await bed.client.inspect<{ Containers: object; Peers?: object[] }>(
    ...['network', 'inspect', 'open'],
  );
  return Object.keys(Containers).length + (Peers?.length ?? 0);
}

it('containers of a manager and of a worker join, with addresses and names, services included', async () => {
  await serve('m1', 'ca', '--network', 'open', '--network-alias', 'first');
  await serve('w1', 'cb', '--network', 'open', '--ip', '10.91.0.77');
  expect(await address('m1', 'ca')).toMatch(/^10\.91\.0\.\d+$/);
  expect(await address('w1', 'cb')).toBe('10.91.0.77');
  await until('the names', 5_000, async () => (await resolve('m1', 'ca', 'cb')) === '10.91.0.77');
  expect(await fetched('m1', 'ca', 'cb')).toBe('cb');
  expect(await fetched('w1', 'cb', 'ca')).toBe('ca');
  expect(await fetched('w1', 'cb', 'first')).toBe('ca');
  expect(await fetched('m1', 'ca', 'web')).toMatch(/^v1 /);
  const task = await bed.theTask('web');
  expect(await bed.inTask(task, 'wget', '-qO-', 'http://ca/')).toBe('ca');
  const seen = await bed.inTask(task, 'wget', '-qO-', `http://${await address('m1', 'ca')}/`);
  expect(seen).toBe('ca');
  const network = await bed.client.inspect<{ Containers: Record<string, { Name: string }> }>(
    'network',
    'inspect',
    'open',
  );
  expect(Object.values(network.Containers).map(({ Name }) => Name)).toEqual(['ca']);
  const there = await bed
    .on('w1')
    .inspect<{ Containers: Record<string, { Name: string }> }>('network', 'inspect', 'open');
  expect(Object.values(there.Containers).map(({ Name }) => Name)).toContain('cb');
  expect(await bed.client.run('node', 'ps', 'self', '--format', '{{.Name}}')).not.toContain('ca');
  expect(await bed.client.fails('network', 'rm', 'open')).toContain('is in use by');
  expect(await bed.on('m1', 'shoal').run('network', 'check', 'open')).toContain('nothing is broken');
});

it('what is not attachable, or not there, is refused in Docker’s words', async () => {
  for (const host of ['m1', 'w1']) {
    await bed.on(host).run('create', '--name', 'no', '--network', 'shut', IMAGE, 'sleep', '9');
    expect(await bed.on(host).fails('start', 'no')).toContain(
      'Could not attach to network shut: rpc error: code = PermissionDenied desc = network shut not manually attachable',
    );
    await bed.on(host).run('rm', 'no');
  }
  await bed.on('w1').run('create', '--name', 'no', '--network', 'nowhere', IMAGE, 'sleep', '9');
  expect(await bed.on('w1').fails('start', 'no')).toContain('network nowhere not found');
  await bed.on('w1').run('rm', 'no');
});

it('a running container is plugged in and out', async () => {
  await serve('w1', 'cc');
  await bed.on('w1').run('network', 'connect', '--alias', 'late', 'open', 'cc');
  await until('the alias', 5_000, async () => (await fetched('m1', 'ca', 'late')) === 'cc');
  expect(await bed.on('w1').fails('network', 'connect', 'shut', 'cc')).toContain('not manually attachable');
  expect(await bed.on('w1').fails('network', 'connect', 'open', 'cc')).toContain('already exists in network open');
  const before = await address('w1', 'cc');
  await bed.on('w1').run('network', 'disconnect', 'open', 'cc');
  await until('the name to go', 5_000, async () => (await resolve('m1', 'ca', 'late')) === '');
  expect(await fetched('m1', 'ca', before)).toBe('');
  expect((await shown('w1', 'cc')).State.Running).toBe(true);
  await bed.on('w1').run('rm', '-f', 'cc');
});

it('the place goes with the container, and comes back with it', async () => {
  await bed.client.run('stop', '-t', '0', 'ca');
  await until('the name to go', 5_000, async () => (await resolve('w1', 'cb', 'ca')) === '');
  await bed.client.run('start', 'ca');
  await until('the name', 5_000, async () => (await fetched('w1', 'cb', 'ca')) === 'ca');
});

it('a killed daemon takes its attached containers over, and gives back what ended meanwhile', async () => {
  await serve('w1', 'cd', '--network', 'open');
  const gone = await address('w1', 'cd');
  await until('the name', 5_000, async () => (await resolve('m1', 'ca', 'cd')) === gone);
  const { Pid } = (await shown('w1', 'cd')).State;
  await bed.lab.kill('w1');
  process.kill(Pid, 'SIGKILL');
  await bed.lab.start('w1');
  await until('the daemon', 20_000, () => bed.on('w1').run('version'));
  await until('the stale name to go', 15_000, async () => (await resolve('m1', 'ca', 'cd')) === '');
  expect(await fetched('m1', 'ca', 'cb')).toBe('cb');
  expect(await address('w1', 'cb')).toBe('10.91.0.77');
  // The address is free again.
  await serve('w1', 'ce', '--network', 'open', '--ip', gone);
  await until('the new one', 5_000, async () => (await fetched('m1', 'ca', gone)) === 'ce');
  await bed.on('w1').run('rm', '-f', 'cd', 'ce');
});

it('a container that starts with the daemon waits for the swarm', async () => {
  await serve('m1', 'cr', '--network', 'open', '--restart', 'always');
  const { Pid } = (await shown('m1', 'cr')).State;
  await bed.lab.kill('m1');
  process.kill(Pid, 'SIGKILL');
  await bed.lab.start('m1');
  await until('the daemon', 20_000, () => bed.client.run('version'));
  await until('the container', 30_000, async () => (await fetched('w1', 'cb', 'cr')) === 'cr');
});

it('with --ipv6 a container has an address and a name of each family, and both lead across hosts', async () => {
  await bed.client.run('network', 'create', '-d', 'overlay', '--attachable', '--ipv6', 'both');
  const script = 'mkdir /www; echo six >/www/index.html; exec httpd -f -p [::]:80 -h /www';
  await bed.client.run('create', '--name', 'c6', '--network', 'both', IMAGE, 'sh', '-c', script);
  await bed.client.run('start', 'c6');
  await serve('w1', 'd6', '--network', 'both');
  const { Networks } = (await shown('m1', 'c6')).NetworkSettings;
  const { IPAddress, GlobalIPv6Address = '' } = Networks['both'] ?? { IPAddress: '' };
  expect(IPAddress).toMatch(/^10\./);
  expect(GlobalIPv6Address).toMatch(/^fd/);
  const ask = (): Promise<string> => within('w1', 'd6', 'busybox', 'nslookup', '-type=aaaa', 'c6', '127.0.0.11');
  await until('the name', 5_000, async () => (await ask().catch(() => '')).includes(GlobalIPv6Address));
  const get = ['timeout', '3', 'busybox', 'wget', '-qO-'];
  expect(await within('w1', 'd6', ...get, `http://[${GlobalIPv6Address}]/`)).toBe('six');
  expect(await within('w1', 'd6', ...get, `http://${IPAddress}/`)).toBe('six');
  // Outwards by docker_gwbridge, which has both families.
  expect(await within('m1', 'c6', 'ip', '-6', 'route', 'show', 'default')).toMatch(/via fd.* dev eth1/);
  expect(await within('m1', 'c6', 'ip', '-4', 'route', 'show', 'default')).toContain('via 172.');
  await bed.client.run('rm', '-f', 'c6');
  await bed.on('w1').run('rm', '-f', 'd6');
  await until('the network to be free', 10_000, () => bed.client.run('network', 'rm', 'both'));
});

it('containers leave the networks of the swarm with their node', async () => {
  await serve('w1', 'cz', '--network', 'open');
  expect(await address('w1', 'cz')).not.toBe('');
  await bed.on('w1').run('swarm', 'leave');
  expect((await shown('w1', 'cz')).State.Running).toBe(true);
  expect(await address('w1', 'cz')).toBe('');
  await bed.on('w1').run('rm', '-f', 'cz');
});

it('all places are given back in the end', async () => {
  await bed.client.run('rm', '-f', 'ca', 'cr');
  await bed.on('w1').run('rm', '-f', 'cb');
  await bed.client.run('node', 'rm', '--force', 'w1');
  await bed.client.run('service', 'rm', 'web');
  await until('the network to be free', 20_000, async () => (await places()) === 0);
  await bed.client.run('network', 'rm', 'open');
});
