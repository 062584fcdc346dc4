import { afterAll, beforeAll, expect, it } from 'vitest';
import { Bed, NO_NAME_SERVER, until } from './kit/index.ts';

/**
 * Many services on a network of the default pool. Swarm's users run out of addresses with some 200: each service takes one
 * of its network's, and of a pool of 256 subnets or fewer each network takes one.
 */
const bed = new Bed('services');
const SERVICES = 200;
/** Services with a task; the others have none, so that two hosts of one machine hold them. */
const RUNNING = 20;
const NETWORKS = 40;
/** Clients at the same time. */
const AT_ONCE = 8;
const PORT = 31_000;
let web = '';

interface ServiceFacts {
  Spec: { Name: string };
  Endpoint: { VirtualIPs: { NetworkID: string; Addr: string }[] };
}

interface NetworkFacts {
  Id: string;
  IPAM: { Config: { Subnet: string; Gateway: string }[] };
}

beforeAll(async () => {
  await bed.up({ managers: 1, workers: 1, daemonFlags: NO_NAME_SERVER });
  web = await bed.serveImages();
}, 60_000);
afterAll(() => bed.down());

const nameOf = (i: number): string => `s${i}`;

/** Runs `work` for 0 to count−1, a bounded number at a time. */
async function each(count: number, work: (i: number) => Promise<unknown>): Promise<void> {
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < count) await work(next++);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
}

/** What each service was given on a network; without mask. */
async function virtualAddresses(networkId: string): Promise<Map<string, string>> {
  const names = Array.from({ length: SERVICES }, (_, i) => nameOf(i));
  const services = JSON.parse(await bed.client.run('service', 'inspect', ...names)) as ServiceFacts[];
  return new Map(
    services.map(({ Spec, Endpoint }) => {
      const own = Endpoint.VirtualIPs.find(({ NetworkID }) => NetworkID === networkId);
      return [Spec.Name, (own?.Addr ?? '').replace(/\/.*/, '')];
    }),
  );
}

it(`${SERVICES} services (${RUNNING} of them with a task) get addresses on one network of the default pool`, async () => {
  await bed.client.run('network', 'create', '-d', 'overlay', 'app');
  await each(SERVICES, async (i) => {
    const running = i < RUNNING;
    const more = running ? ['--publish', `${PORT + i}:80`] : ['--replicas', '0'];
    const args = ['--detach', '--quiet', '--name', nameOf(i), '--network', 'app', ...more];
    await bed.client.run('service', 'create', ...args, `${web}:v1`);
  });
  await each(RUNNING, (i) => bed.theTask(nameOf(i)));
  const { Id } = await bed.client.inspect<NetworkFacts>('network', 'inspect', 'app');
  const given = [...(await virtualAddresses(Id)).values()];
  expect(given).not.toContain('');
  expect(new Set(given).size).toBe(SERVICES);
}, 120_000);

it('their names resolve to these addresses in containers of both hosts, and those with a task answer', async () => {
  const { Id } = await bed.client.inspect<NetworkFacts>('network', 'inspect', 'app');
  const given = await virtualAddresses(Id);
  const tasks = (await Promise.all(Array.from({ length: RUNNING }, (_, i) => bed.running(nameOf(i))))).flat();
  const hosts = new Map(tasks.map((task) => [task.NodeID, task]));
  expect(hosts.size).toBe(2);
  for (const probe of hosts.values()) {
    const ask = `for i in $(seq 0 ${SERVICES - 1}); do nslookup -type=a s$i 127.0.0.11 | tail -3 | grep -o '[0-9.]*$' | tail -1; done`;
    const told = (await bed.inTask(probe, 'sh', '-c', ask)).split('\n');
    expect(told).toEqual(Array.from({ length: SERVICES }, (_, i) => given.get(nameOf(i))));
    const get = `for i in $(seq 0 ${RUNNING - 1}); do wget -q -O- http://s$i/; done`;
    const answers = (await bed.inTask(probe, 'sh', '-c', get)).split('\n');
    expect(new Set(answers).size).toBe(RUNNING);
  }
  const published = `for i in $(seq 0 ${RUNNING - 1}); do busybox wget -q -O- http://${bed.address('w1')}:$((${PORT}+i))/; done`;
  const answers = (await bed.inside('m1', ['sh', '-c', published])).split('\n');
  expect(new Set(answers).size).toBe(RUNNING);
}, 60_000);

it(`${NETWORKS} further networks get subnets of their own, which come back`, async () => {
  await each(NETWORKS, (i) => bed.client.run('network', 'create', '-d', 'overlay', `n${i}`));
  const names = Array.from({ length: NETWORKS }, (_, i) => `n${i}`);
  const inspected = JSON.parse(
    await bed.client.run('network', 'inspect', 'app', 'ingress', ...names),
  ) as NetworkFacts[];
  const subnets = inspected.map(({ IPAM }) => IPAM.Config[0]?.Subnet ?? '');
  for (const subnet of subnets) expect(subnet).toMatch(/^10\.\d+\.\d+\.0\/\d+$/);
  expect(new Set(subnets).size).toBe(NETWORKS + 2);
  // The last of them is as good as the first.
  await bed.client.run(
    'service',
    'create',
    '--detach',
    '--quiet',
    '--name',
    'last',
    '--network',
    `n${NETWORKS - 1}`,
    `${web}:v1`,
  );
  await bed.theTask('last');
  await bed.client.run('service', 'rm', 'last');
  const last = names.pop() ?? '';
  await bed.client.run('network', 'rm', ...names);
  await until('the network whose task has just ended goes', 20_000, () => bed.client.run('network', 'rm', last));
}, 90_000);
