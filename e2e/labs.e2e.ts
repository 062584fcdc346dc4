import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Bed, get, until } from './kit/index.ts';

/** Labs beside each other, and what is left of one that ended badly. */
const beds = [new Bed('left'), new Bed('right')] as const;
const [left, right] = beds;

beforeAll(async () => {
  for (const bed of beds) {
    await bed.up({ managers: 1, workers: 1 });
    const image = await bed.serveImages();
    await bed.client.run('network', 'create', '-d', 'overlay', 'front');
    const flags = ['--detach', '--quiet', '--name', 'web', '--replicas', '2', '--network', 'front'];
    await bed.client.run('service', 'create', ...flags, '--publish', '8080:80', `${image}:v1`);
  }
  for (const bed of beds) await bed.replicas('web', 2);
});
afterAll(async () => {
  for (const bed of beds) await bed.down();
});

const answers = (bed: Bed): Promise<string> =>
  until(`port 8080 of ${bed.lab.names.name}`, 5_000, () => get(`http://${bed.address('w1')}:8080/`));

describe('two labs', () => {
  it('have the same names of hosts, networks, services and ports, and nothing in common', async () => {
    expect(left.address('m1')).not.toBe(right.address('m1'));
    const ids = await Promise.all(beds.map((bed) => bed.client.run('info', '--format', '{{.Swarm.Cluster.ID}}')));
    expect(ids[0]).not.toBe(ids[1]);
    const seen = await Promise.all(beds.map(answers));
    expect(seen[0]).not.toBe(seen[1]);
    for (const bed of beds) {
      const ps = await Promise.all(['m1', 'w1'].map((host) => bed.on(host).lines('ps', '-q')));
      expect(ps.flat()).toHaveLength(2);
    }
  });

  it('are refused under the same name', async () => {
    await expect(left.lab.up({ managers: 1, workers: 0, subnet: '', swarm: false, daemonFlags: [] })).rejects.toThrow(
      /already up/,
    );
    await answers(left);
  });

  it('crash and end without the other noticing', async () => {
    const before = (await right.running('web')).map((task) => task.Status.ContainerStatus?.ContainerID ?? '').sort();
    for (const host of ['m1', 'w1']) await left.lab.crash(host);
    await answers(right);
    await left.down();
    expect(left.lab.leftovers()).toEqual([]);
    await answers(right);
    const after = (await right.running('web')).map((task) => task.Status.ContainerStatus?.ContainerID ?? '').sort();
    expect(after).toEqual(before);
  });

  it('are taken down after their daemons were killed, while containers run', async () => {
    for (const host of ['m1', 'w1']) await right.lab.kill(host);
    await right.down();
    expect(right.lab.leftovers()).toEqual([]);
  });

  it('are taken down twice without harm', async () => {
    for (const bed of beds) await bed.lab.down();
    expect(beds.flatMap((bed) => bed.lab.leftovers())).toEqual([]);
  });
});
