import { writeFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Bed, until, type TaskFacts } from './kit/index.ts';

const bed = new Bed('conform');
let web = '';
/** Nothing waits for these updates. */
const QUICK = ['--update-monitor', '200ms'];
const ZONES: Readonly<Record<string, string>> = { m1: 'a', m2: 'a', m3: 'b', w1: 'b', w2: 'c' };

beforeAll(async () => {
  await bed.up({});
  web = await bed.serveImages();
  for (const [host, zone] of Object.entries(ZONES)) {
    await bed.client.run('node', 'update', '--label-add', `zone=${zone}`, host);
  }
});

afterAll(() => bed.down());

async function hostsOf(service: string): Promise<string[]> {
  return await Promise.all((await bed.running(service)).map((task) => bed.hostOf(task)));
}

function create(name: string, ...flags: string[]): Promise<string> {
  return bed.client.run('service', 'create', '--detach', '--no-resolve-image', '--name', name, ...flags, `${web}:v1`);
}

/** Error of the tasks that wait, once it is there. */
async function waitsBecause(service: string): Promise<string> {
  return await until(`${service} waits with a reason`, 20_000, async () => {
    const waiting = (await bed.tasks(service)).filter((task) => task.Status.State === 'pending');
    return waiting.map((task) => task.Status.Err ?? '').find((err) => err !== '');
  });
}

describe('a global service', () => {
  it('has one task on each node, none on nodes that its constraints exclude, and follows labels', async () => {
    await create('everywhere', '--mode', 'global', '--constraint', 'node.labels.zone != c', ...QUICK);
    await bed.replicas('everywhere', 4);
    expect((await hostsOf('everywhere')).sort()).toEqual(['m1', 'm2', 'm3', 'w1']);
    await bed.client.run('node', 'update', '--label-add', 'zone=d', 'w2');
    await bed.replicas('everywhere', 5);
    await bed.client.run('node', 'update', '--label-add', 'zone=c', 'w2');
    await bed.replicas('everywhere', 4);
  });

  it('keeps its task on a paused node, leaves a drained one and comes back', async () => {
    const before = (await bed.running('everywhere')).map((task) => task.ID).sort();
    await bed.client.run('node', 'update', '--availability', 'pause', 'w1');
    expect((await bed.running('everywhere')).map((task) => task.ID).sort()).toEqual(before);
    await bed.client.run('node', 'update', '--availability', 'drain', 'w1');
    await bed.replicas('everywhere', 3);
    await bed.client.run('node', 'update', '--availability', 'active', 'w1');
    await bed.replicas('everywhere', 4);
  });

  it('is updated node by node', async () => {
    await bed.client.run('service', 'update', '--detach', '--image', `${web}:v2`, 'everywhere');
    await until('all on v2', 40_000, async () => {
      const images = (await bed.running('everywhere')).map((task) => task.Spec.ContainerSpec?.Image);
      return images.length === 4 && images.every((image) => image?.startsWith(`${web}:v2`)) ? true : undefined;
    });
    await bed.client.run('service', 'rm', 'everywhere');
  });
});

describe('placement', () => {
  it.each([
    ['node.hostname == w2', ['w2']],
    ['node.role != manager', ['w1', 'w2']],
    ['node.labels.zone == b', ['m3', 'w1']],
    ['node.platform.os == linux', ['m1', 'm2', 'm3', 'w1', 'w2']],
    ['node.labels.no-such != x', ['m1', 'm2', 'm3', 'w1', 'w2']],
  ])('obeys %s', async (constraint, allowed) => {
    await create('bound', '--replicas', String(allowed.length), '--constraint', constraint);
    await bed.replicas('bound', allowed.length);
    expect((await hostsOf('bound')).sort()).toEqual(allowed);
    await bed.client.run('service', 'rm', 'bound');
    await until('bound is gone', 20_000, async () =>
      (await bed.tasks('bound').catch(() => [])).length === 0 ? true : undefined,
    );
  });

  it('obeys an address, and an id', async () => {
    const { ID } = await bed.node('w1');
    await create('by-id', '--constraint', `node.id == ${ID}`, '--constraint', `node.ip == ${bed.address('w1')}`);
    await bed.replicas('by-id', 1);
    expect(await hostsOf('by-id')).toEqual(['w1']);
    await bed.client.run('service', 'rm', 'by-id');
  });

  it('spreads over the values of a label, as far as they are there', async () => {
    await create('spread', '--replicas', '6', '--placement-pref', 'spread=node.labels.zone');
    await bed.replicas('spread', 6);
    const zones = (await hostsOf('spread')).map((host) => ZONES[host]);
    const perZone = [...new Set(zones)].map((zone) => zones.filter((one) => one === zone).length);
    expect(perZone).toEqual([2, 2, 2]);
    await bed.client.run('service', 'rm', 'spread');
  });

  it('keeps to the most replicas per node, and says why the rest waits', async () => {
    const flags = ['--replicas', '3', '--replicas-max-per-node', '1', '--constraint', 'node.role == worker'];
    await create('few', ...flags);
    await bed.replicas('few', 2);
    expect(await waitsBecause('few')).toMatch(/^no suitable node \(.*max replicas per node/);
    await bed.client.run('service', 'rm', 'few');
  });

  it('keeps to what is reserved, and to host ports', async () => {
    await create('huge', '--reserve-memory', '900g');
    expect(await waitsBecause('huge')).toMatch(/^no suitable node \(insufficient resources on 5 nodes/);
    await bed.client.run('service', 'rm', 'huge');
    const port = ['--publish', 'mode=host,published=8097,target=80'];
    await create('ported', '--replicas', '3', '--constraint', 'node.role == worker', ...port);
    await bed.replicas('ported', 2);
    expect(await waitsBecause('ported')).toMatch(/^no suitable node \(.*host-mode port already in use/);
    await bed.client.run('service', 'rm', 'ported');
  });
});

describe('the history of tasks', () => {
  it('is as long as the swarm says, per slot', async () => {
    await bed.client.run('swarm', 'update', '--task-history-limit', '2');
    await create('past', '--stop-grace-period', '1s', ...QUICK);
    for (let i = 0; i < 3; i++) {
      await bed.replicas('past', 1);
      await bed.client.run('service', 'update', '--detach', '--force', 'past');
      await until(`update ${i} completed`, 30_000, async () => {
        const state = await bed.client.run('service', 'inspect', '--format', '{{.UpdateStatus.State}}', 'past');
        return state === 'completed' ? true : undefined;
      });
    }
    await until('history trimmed', 20_000, async () => ((await bed.tasks('past')).length <= 2 ? true : undefined));
    expect(await bed.running('past')).toHaveLength(1);
    await bed.client.run('swarm', 'update', '--task-history-limit', '5');
    await bed.client.run('service', 'rm', 'past');
  });
});

describe('a stack', () => {
  const stack = (image: string): string => `services:
  web:
    image: ${web}:${image}
    networks: [front]
    deploy:
      replicas: 2
      update_config: { parallelism: 2, monitor: 200ms }
  cache:
    image: ${web}:v1
    networks: [front]
    deploy: { replicas: 1, labels: { shoal.rebalance: "true" } }
networks:
  front: {}
`;
  const file = (): string => bed.file('stack.yml');
  const deploy = async (image: string): Promise<void> => {
    writeFileSync(file(), stack(image));
    await bed
      .on('m1', 'docker')
      .run('stack', 'deploy', '--detach=true', '--resolve-image', 'never', '-c', file(), 'shop');
  };
  const ids = (tasks: TaskFacts[]): string[] => tasks.map((task) => task.ID).sort();
  let cache: string[] = [];

  it('is deployed: services, network and tasks carry its name', async () => {
    await deploy('v1');
    await bed.replicas('shop_web', 2);
    await bed.replicas('shop_cache', 1);
    const docker = bed.on('m2', 'docker');
    expect(await docker.run('stack', 'ls', '--format', '{{.Name}} {{.Services}}')).toBe('shop 2');
    expect((await docker.lines('stack', 'services', 'shop', '--format', '{{.Name}} {{.Replicas}}')).sort()).toEqual([
      'shop_cache 1/1',
      'shop_web 2/2',
    ]);
    expect(await docker.lines('stack', 'ps', 'shop', '--format', '{{.Name}}')).toHaveLength(3);
    expect(await docker.run('network', 'ls', '--filter', 'name=shop_front', '--format', '{{.Driver}}')).toBe('overlay');
    expect(await bed.inTask((await bed.running('shop_web'))[0]!, 'nslookup', 'cache')).toMatch(/Address/);
  });

  it('deployed again without change restarts nothing', async () => {
    const before = ids(await bed.tasks('shop_web'));
    cache = ids(await bed.tasks('shop_cache'));
    await deploy('v1');
    const update = await bed.client.run('service', 'inspect', '--format', '{{json .UpdateStatus}}', 'shop_web');
    expect(update).toMatch(/^(null|\{.*"completed".*\})?$/);
    expect(ids(await bed.tasks('shop_web'))).toEqual(before);
    expect(ids(await bed.tasks('shop_cache'))).toEqual(cache);
  });

  it('restarts only the service that changed', async () => {
    await deploy('v2');
    await until('web on v2', 40_000, async () => {
      const images = (await bed.running('shop_web')).map((task) => task.Spec.ContainerSpec?.Image);
      return images.length === 2 && images.every((image) => image === `${web}:v2`) ? true : undefined;
    });
    expect(ids(await bed.tasks('shop_cache'))).toEqual(cache);
  });

  it('is removed with all that belongs to it', async () => {
    await bed.on('m1', 'docker').run('stack', 'rm', 'shop');
    await until('nothing is left', 30_000, async () => {
      const services = await bed.client.run('service', 'ls', '--quiet', '--filter', 'name=shop_');
      const networks = await bed.client.run('network', 'ls', '--quiet', '--filter', 'name=shop_');
      return services === '' && networks === '' ? true : undefined;
    });
  });
});
