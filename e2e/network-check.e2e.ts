import { afterAll, beforeAll, expect, it } from 'vitest';
import { Bed, NO_NAME_SERVER } from './kit/index.ts';
import { Client } from './kit/client.ts';

/** `shoal network check` and `trace` on a swarm of three hosts: silent about what works, loud about what does not. */
const bed = new Bed('netcheck');
const shoal = (): Client => bed.on('m1', 'shoal');

beforeAll(async () => {
  await bed.up({ managers: 1, workers: 2, daemonFlags: NO_NAME_SERVER });
  const web = await bed.serveImages();
  await bed.client.run('network', 'create', '-d', 'overlay', 'app');
  const create = (...args: string[]): Promise<string> =>
    bed.client.run('service', 'create', '--detach', '--quiet', '--network', 'app', ...args);
  await create('--name', 'web', '--mode', 'global', '--publish', '8080:80', `${web}:v1`);
  await create('--name', 'robin', '--endpoint-mode', 'dnsrr', '--constraint', 'node.hostname==w1', `${web}:v1`);
  await bed.replicas('web', 3);
  await bed.replicas('robin', 1);
});
afterAll(() => bed.down());

interface Answer {
  OK: boolean;
  Networks: {
    Name: string;
    Nodes: {
      Hostname: string;
      Error: string;
      Tasks: number;
      Names: { Asked: number; Right: number };
      Faults: object[];
    }[];
  }[];
}

it('finds nothing wrong with overlay and ingress, between all hosts', async () => {
  const answer = JSON.parse(await shoal().run('network', 'check', '--format', 'json')) as Answer;
  expect(answer.Networks.map(({ Name }) => Name).sort()).toEqual(['app', 'ingress']);
  for (const { Nodes } of answer.Networks) {
    expect(Nodes.map(({ Hostname }) => Hostname).sort()).toEqual(['m1', 'w1', 'w2']);
    for (const node of Nodes) expect(node).toMatchObject({ Error: '', Faults: [] });
  }
  const app = answer.Networks.find(({ Name }) => Name === 'app');
  expect(app?.Nodes.find(({ Hostname }) => Hostname === 'w1')).toMatchObject({
    Tasks: 2,
    Names: { Asked: 4, Right: 4 },
  });
  expect(answer.OK).toBe(true);
  expect(await shoal().run('network', 'check', 'app')).toMatch(/app +w1 +w2 .*1450[^]*OK: 1 network checked, nothing/);
});

it('names a firewall that drops the tunnel of one host, with the hosts that it cuts off, and exits with 1', async () => {
  const rules = 'table inet fw { chain in { type filter hook input priority 0; udp dport 4789 drop; }; }';
  await bed.inside('w2', ['nft', rules]);
  try {
    const { code, stdout } = await shoal().try(['network', 'check', 'app']);
    expect(code).toBe(1);
    expect(stdout).toContain(`BROKEN app, on w1 towards w2: path: ${bed.address('w2')} itself answers`);
    expect(stdout).toMatch(
      /BROKEN app, on m1 towards w2: reachability: web\..* does not reach web\.[^]*\nBROKEN: \d+ faults/,
    );
    expect(stdout).not.toMatch(/on m1 towards w1/);
  } finally {
    await bed.inside('w2', ['nft', 'delete', 'table', 'inet', 'fw']);
  }
  expect(await shoal().run('network', 'check', 'app')).toContain('nothing is broken');
});

it('follows a connection from a task to a service, and stops where nothing listens', async () => {
  const robin = await bed.theTask('robin');
  const open = await shoal().run('network', 'trace', 'robin.1', 'web:80');
  expect(open).toMatch(/resolution +127\.0\.0\.11: web is 10\.[^]*listening[^]*OK: the whole way is open/);
  const { code, stdout } = await shoal().try(['network', 'trace', robin.ID, 'web:81']);
  expect(code).toBe(1);
  expect(stdout).toMatch(
    /ok +w1 +fdb[^]*BROKEN +w1 +connection +tcp .* is refused[^]*BROKEN +w2 +listening +tcp port 81: nothing/,
  );
  expect(await shoal().fails('network', 'trace', 'nobody', 'web:80')).toContain('no task has the id or name nobody');
  expect(await shoal().fails('network', 'check', 'nosuch')).toContain('network nosuch not found');
});

it('proves an encrypted network of both families', async () => {
  await bed.client.run('network', 'create', '-d', 'overlay', '--opt', 'encrypted', '--ipv6', 'vault');
  const image = `${bed.registry}/web:v1`;
  const create = ['service', 'create', '--detach', '--quiet', '--network', 'vault', '--mode', 'global'];
  await bed.client.run(...create, '--name', 'safe', image);
  await bed.replicas('safe', 3);
  expect(await shoal().run('network', 'check', 'vault')).toMatch(
    /vault +m1 +w2[^]*OK: 1 network checked, nothing is broken/,
  );
});

it('tells of a host that does not answer', async () => {
  await bed.lab.kill('w2');
  const { code, stdout } = await shoal().try(['network', 'check', 'app']);
  expect(code).toBe(1);
  expect(stdout).toMatch(/BROKEN app, on w2: /);
});
