import { afterAll, beforeAll, expect, it } from 'vitest';
import { Bed } from './kit/index.ts';

/** The verbs `network …` of our own client, as people use them. */
const bed = new Bed('netclient');
const IMAGE = 'box:v1';
beforeAll(async () => {
  await bed.up({ managers: 1, workers: 0 });
  await bed.client.run('import', await bed.archive(), IMAGE);
});
afterAll(() => bed.down());

const shoal = (...args: string[]): Promise<string> => bed.on('m1', 'shoal').run('network', ...args);
const fails = (...args: string[]): Promise<string> => bed.on('m1', 'shoal').fails('network', ...args);
interface Shown {
  Name: string;
  Id: string;
  Driver: string;
  Attachable: boolean;
  Internal: boolean;
  EnableIPv6: boolean;
  IPAM: { Config: Record<string, unknown>[] };
  Labels: Record<string, string>;
  Options: Record<string, string>;
  Containers: Record<string, { Name: string; IPv4Address: string }> | null;
}
const inspect = async (name: string): Promise<Shown> => (JSON.parse(await shoal('inspect', name)) as Shown[])[0]!;

it('create takes what docker takes', async () => {
  const id = await shoal(
    ...['create', '--subnet', '10.71.0.0/16', '--ip-range', '10.71.4.0/24', '--gateway', '10.71.0.9'],
    ...['--aux-address', 'router=10.71.4.1', '--label', 'a=b', '--opt', 'com.docker.network.driver.mtu=1400', 'local1'],
  );
  expect(id).toMatch(/^[0-9a-f]{64}$/);
  const local = await inspect('local1');
  expect(local).toMatchObject({ Id: id, Driver: 'bridge', Labels: { a: 'b' } });
  expect(local.IPAM.Config).toEqual([
    {
      Subnet: '10.71.0.0/16',
      IPRange: '10.71.4.0/24',
      Gateway: '10.71.0.9',
      AuxiliaryAddresses: { router: '10.71.4.1' },
    },
  ]);
  expect(local.Options['com.docker.network.driver.mtu']).toBe('1400');
  await shoal('create', '-d', 'overlay', '--attachable', '--ipv6', '--internal', 'over1');
  expect(await inspect('over1')).toMatchObject({
    Driver: 'overlay',
    Attachable: true,
    EnableIPv6: true,
    Internal: true,
  });
  expect(await fails('create', 'local1')).toContain('network with name local1 already exists');
  expect(await fails('create', '--subnet', 'nonsense', 'x1')).toContain('nonsense');
  expect(await fails('create')).toMatch(/NETWORK/);
});

it('ls, with filters, quiet and formats', async () => {
  const table = await shoal('ls');
  expect(table).toMatch(/NETWORK ID\s+NAME\s+DRIVER\s+SCOPE/);
  expect(table).toMatch(/local1\s+bridge\s+local/);
  expect(table).toMatch(/over1\s+overlay\s+swarm/);
  expect(await shoal('ls', '--filter', 'driver=overlay', '--filter', 'name=over', '--format', '{{.Name}}')).toBe(
    'over1',
  );
  expect(await shoal('ls', '-q', '--filter', 'name=local1')).toMatch(/^[0-9a-f]{12}$/);
  expect(await shoal('ls', '-q', '--no-trunc', '--filter', 'name=local1')).toMatch(/^[0-9a-f]{64}$/);
});

it('connect and disconnect', async () => {
  await bed.client.run('create', '--name', 'box', IMAGE, 'sleep', '600');
  await bed.client.run('start', 'box');
  await shoal('connect', '--ip', '10.71.4.50', '--alias', 'friend', 'local1', 'box');
  await shoal('connect', 'over1', 'box');
  expect(Object.values((await inspect('local1')).Containers ?? {})).toMatchObject([
    { Name: 'box', IPv4Address: '10.71.4.50/16' },
  ]);
  expect(Object.values((await inspect('over1')).Containers ?? {})).toMatchObject([{ Name: 'box' }]);
  expect(await fails('connect', 'local1', 'box')).toContain('already exists in network local1');
  expect(await fails('connect', 'nowhere', 'box')).toContain('network nowhere not found');
  expect(await fails('connect', 'local1', 'nobody')).toContain('No such container: nobody');
  expect(await fails('rm', 'local1')).toContain('has active endpoints');
  await shoal('disconnect', 'local1', 'box');
  await shoal('disconnect', '--force', 'over1', 'box');
  expect(await fails('disconnect', 'local1', 'box')).toContain('is not connected to network local1');
  expect(await fails('connect', 'local1')).toMatch(/CONTAINER/);
});

it('rm and prune', async () => {
  expect(await shoal('rm', 'local1', 'over1')).toBe('local1\nover1');
  expect(await fails('rm', 'bridge')).toContain('pre-defined network and cannot be removed');
  expect(await fails('inspect', 'local1')).toContain('network local1 not found');
  expect(await shoal('rm', '-f', 'local1')).toBe('');
  await shoal('create', 'idle');
  expect(await shoal('prune', '-f')).toContain('idle');
});
