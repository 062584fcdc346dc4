import { afterAll, beforeAll, expect, it } from 'vitest';
import { Bed, NO_NAME_SERVER, until } from './kit/index.ts';

/** Names as containers see them through their own resolver, on two hosts. */
const bed = new Bed('dns');
let image = '';

beforeAll(async () => {
  await bed.up({ managers: 1, workers: 1, daemonFlags: NO_NAME_SERVER });
  image = `${await bed.serveImages()}:v1`;
  await bed.client.run('network', 'create', '-d', 'overlay', 'front');
  const create = (...args: string[]): Promise<string> =>
    bed.client.run('service', 'create', '--detach', '--quiet', '--network', 'front', '--restart-delay', '30s', ...args);
  await create('--name', 'web', '--replicas', '2', '--publish', '8080:80', '--constraint', 'node.role==worker', image);
  await create('--name', 'probe', '--constraint', 'node.role==manager', image);
  await bed.replicas('web', 2);
  await bed.replicas('probe', 1);
});
afterAll(() => bed.down());

/** What the resolver of the probe's container says, in nslookup's words. */
async function ask(type: string, name: string): Promise<string> {
  const script = `nslookup -type=${type} ${name} 127.0.0.11 2>&1 || true`;
  return bed.inTask(await bed.theTask('probe'), 'sh', '-c', script);
}

async function tasksOf(service: string): Promise<string[]> {
  const answers = (await ask('a', `tasks.${service}`)).split(/\n\s*\n/).slice(1);
  return [...answers.join('\n').matchAll(/^Address(?:\s\d+)?:\s*(\d+\.\d+\.\d+\.\d+)/gm)].map((m) => m[1] ?? '').sort();
}

it('addresses lead back to names, ports of a service are found, and no family is made up', async () => {
  const [address = ''] = await tasksOf('web');
  const backwards = address.split('.').reverse().join('.');
  expect(await ask('ptr', `${backwards}.in-addr.arpa`)).toMatch(/web\.\d\.\w+\.front/);
  expect(await ask('srv', '_tcp.web')).toMatch(/0 1 80 web\.front/);
  const none = await ask('aaaa', 'web');
  expect(none).not.toMatch(/NXDOMAIN|SERVFAIL|timed out/);
  expect(await ask('a', 'tasks.nobody')).toContain('NXDOMAIN');
});

it('a task that is told to stop leaves the names', async () => {
  expect(await tasksOf('web')).toHaveLength(2);
  await bed.client.run('service', 'scale', '--detach', 'web=1');
  await until('one address of web', 10_000, async () => (await tasksOf('web')).length === 1);
});

it("port 53 is the container's own", async () => {
  const task = await bed.theTask('probe');
  const script = 'nc -l -p 53 </dev/null >/dev/null 2>&1 & sleep 0.5; netstat -ltn; kill $!';
  expect(await bed.inTask(task, 'sh', '-c', script)).toMatch(/(0\.0\.0\.0|::):53\s/);
  expect(await tasksOf('web')).toHaveLength(1);
});
