import { afterAll, beforeAll, expect, it } from 'vitest';
import { Bed, until } from './kit/index.ts';

/** Ports of the routing mesh that something else on a host has: told, not only logged. */
const bed = new Bed('ports');
let web = '';

beforeAll(async () => {
  await bed.up({ managers: 1, workers: 1 });
  web = `${await bed.serveImages()}:v1`;
  await bed.on('w1').run('import', await bed.archive(), 'box:v1');
});
afterAll(() => bed.down());

const errors = (): Promise<string> => bed.client.run('service', 'ps', '--no-trunc', '--format', '{{.Error}}', 'web');
const publish = (port: number): Promise<string> =>
  bed.client.run(
    ...['service', 'create', '--detach', '--quiet', '--name', 'web', '--publish', `${port}:80`],
    ...['--constraint', 'node.role==manager', web],
  );

it('a container that has the port first is named in service ps, why and events, until it is gone', async () => {
  await bed.on('w1').run('create', '--name', 'early', '-p', '8080:80', 'box:v1', 'sleep', '600');
  await bed.on('w1').run('start', 'early');
  await publish(8080);
  await bed.replicas('web', 1);
  const words = 'port 8080/tcp is also held by container early on node w1';
  await until('the clash', 40_000, async () => (await errors()).includes(words));
  expect(await bed.on('m1', 'shoal').run('why', 'web')).toContain(words);
  const ofNode = await bed.on('m1', 'shoal').run('why', 'w1');
  expect(ofNode).toContain('port 8080/tcp, which a service publishes, is also held by container early');
  const events = ['events', '--since', '10m', '--until', String(Math.ceil(Date.now() / 1000) + 1)];
  expect(await bed.client.run(...events, '--filter', 'type=node')).toContain('portclash.new=8080/tcp container early');
  await bed.on('w1').run('rm', '-f', 'early');
  await until('no clash', 40_000, async () => (await errors()) === '');
  expect(await bed.inside('m1', ['busybox', 'wget', '-qO-', `http://${bed.address('w1')}:8080/`])).toMatch(/^v1 /);
});

it('one host-mode port serves two services on two addresses of a node; all addresses are too many', async () => {
  const create = (name: string, ip: string): Promise<string> =>
    bed.client.run(
      ...['service', 'create', '--detach', '--quiet', '--name', name, '--constraint', 'node.role==worker'],
      ...[
        '--publish',
        'mode=host,published=8090,target=80',
        ...(ip === '' ? [] : ['--label', `shoal.publish.ip=${ip}`]),
      ],
      web,
    );
  const own = bed.address('w1');
  await create('inner', '127.0.0.1');
  await create('outer', own);
  await bed.replicas('inner', 1);
  await bed.replicas('outer', 1);
  const [inner, outer] = [await bed.theTask('inner'), await bed.theTask('outer')];
  const page = async (url: string): Promise<string> => bed.inside('w1', ['busybox', 'wget', '-qO-', url]);
  const host = (id: string | undefined): string => `v1 ${id?.slice(0, 12)}`;
  expect(await page('http://127.0.0.1:8090/')).toBe(host(inner.Status.ContainerStatus?.ContainerID));
  expect(await page(`http://${own}:8090/`)).toBe(host(outer.Status.ContainerStatus?.ContainerID));
  await create('everywhere', '');
  const error = (): Promise<string> =>
    bed.client.run('service', 'ps', '--no-trunc', '--format', '{{.Error}}', 'everywhere');
  await until('the refusal', 10_000, async () => (await error()).includes('host-mode port already in use on 1 node'));
  await bed.client.run('service', 'rm', 'inner', 'outer');
  await bed.replicas('everywhere', 1);
});
