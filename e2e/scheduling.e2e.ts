import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Bed, until } from './kit/index.ts';

/** Placement beyond Swarm's: affinity, binpack, preemption. */
const bed = new Bed('scheduling');
let web = '';

beforeAll(async () => {
  await bed.up({ managers: 1, workers: 2 });
  web = await bed.serveImages();
});
afterAll(() => bed.down());

const shoal = () => bed.on('m1', 'shoal');
const create = (name: string, ...flags: string[]): Promise<string> =>
  shoal().run('service', 'create', '--detach', '--quiet', '--name', name, ...flags, `${web}:v1`);
const remove = (...names: string[]): Promise<string> => bed.client.run('service', 'rm', ...names);

/** Hosts of a service's running tasks, sorted. */
async function hostsOf(service: string): Promise<string[]> {
  const names = new Map((await bed.nodes()).map((node) => [node.ID, node.Description.Hostname]));
  return (await bed.running(service)).map((task) => names.get(task.NodeID ?? '') ?? '').sort();
}

describe('affinity', () => {
  it('puts tasks beside a service, and anti-affinity keeps them off it, in both directions', async () => {
    await create('db', '--constraint', 'node.hostname==w2');
    await bed.replicas('db', 1);
    await create('near', '--replicas', '2', '--affinity', 'service.name==db');
    await create('off', '--replicas', '4', '--anti-affinity', 'service.name==db');
    await bed.replicas('near', 2);
    await bed.replicas('off', 4);
    expect(await hostsOf('near')).toEqual(['w2', 'w2']);
    expect(await hostsOf('off')).toEqual(['m1', 'm1', 'w1', 'w1']);
    await bed.client.run('service', 'scale', '--detach', 'db=0');
    await until('db is gone', 20_000, async () => (await bed.running('db')).length === 0);
    await create('two', '--replicas', '1', '--constraint', 'node.hostname==m1', '--affinity', 'service.name==none');
    await until('the task says what it misses', 10_000, async () =>
      (await bed.tasks('two')).some((task) => task.Status.Err?.includes('affinity not satisfied on') === true),
    );
    await remove('db', 'near', 'off', 'two');
  });
});

describe('binpack', () => {
  it('fills one node, by the service and by the swarm', async () => {
    await create('packed', '--replicas', '3', '--reserve-cpu', '0.1', '--placement-strategy', 'binpack');
    await bed.replicas('packed', 3);
    expect(new Set(await hostsOf('packed')).size).toBe(1);
    await remove('packed');
    expect(await shoal().fails('swarm', 'update', '--scheduler-strategy', 'random')).toContain(
      "shoal.scheduler.strategy: 'random' is not one of spread, binpack",
    );
    await shoal().run('swarm', 'update', '--scheduler-strategy', 'binpack');
    await create('packed2', '--replicas', '3', '--reserve-cpu', '0.1');
    await bed.replicas('packed2', 3);
    expect(new Set(await hostsOf('packed2')).size).toBe(1);
    await shoal().run('swarm', 'update', '--scheduler-strategy', 'spread');
    await remove('packed2');
  });
});

describe('preemption', () => {
  it('pushes off as few as it needs; they wait and say why', async () => {
    const cpus = Number(await bed.client.run('info', '--format', '{{.NCPU}}'));
    // Three hosts, each filled by two tasks.
    await create('batch', '--replicas', '6', '--reserve-cpu', String(cpus / 2));
    await bed.replicas('batch', 6);
    const flags = ['--priority', '10', '--preempt', '--reserve-cpu', String(cpus)];
    await create('urgent', ...flags);
    await bed.replicas('urgent', 1);
    await until('four of the others are left', 20_000, async () => (await bed.running('batch')).length === 4);
    await until('two wait and say why', 20_000, async () => {
      const waiting = (await bed.tasks('batch')).filter((task) => task.Status.State === 'pending');
      const says = (text: string | undefined): boolean =>
        text?.startsWith('no suitable node (insufficient resources on 3 nodes); nearest fit: ') === true;
      return waiting.length === 2 && waiting.every((task) => says(task.Status.Err));
    });
    await remove('urgent');
    await bed.replicas('batch', 6);
    await remove('batch');
  });
});
