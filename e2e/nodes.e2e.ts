import { existsSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { must, systemClock } from '../base/index.ts';
import { Bed, seconds, until, type TaskFacts } from './kit/index.ts';

/** Nodes as an operator handles them: they join with labels, are paused, drained, cut off, lost, and come back. */
const bed = new Bed('nodes');
let web = '';
let token = '';

beforeAll(async () => {
  await bed.up({ managers: 1, workers: 3, swarm: false });
  web = await bed.serveImages();
  await shoal('m1').run('swarm', 'init', '--advertise-addr', bed.address('m1'), '--label', 'zone=m');
  token = await bed.client.run('swarm', 'join-token', '-q', 'worker');
});
afterAll(() => bed.down());

const shoal = (host = 'm1') => bed.on(host, 'shoal');
const remote = (): string => `${bed.address('m1')}:2377`;
const create = (name: string, ...flags: string[]): Promise<string> =>
  shoal().run('service', 'create', '--detach', '--quiet', '--name', name, ...flags, `${web}:v1`);

const join = (host: string, ...flags: string[]): Promise<string> =>
  shoal(host).run('swarm', 'join', '--token', token, ...flags, remote());

const labelsOf = async (host: string): Promise<unknown> => {
  const node = await bed.client.inspect<{ Spec: { Labels: unknown } }>('node', 'inspect', host);
  return node.Spec.Labels;
};

const isReady = (host: string): Promise<boolean> =>
  until(`${host} is ready`, 15_000, async () => (await bed.node(host)).Status.State === 'ready');

/** Running tasks of a service by host. */
async function spread(service: string): Promise<Record<string, number>> {
  const nodes = new Map((await bed.nodes()).map((node) => [node.ID, node.Description.Hostname]));
  const counts: Record<string, number> = {};
  for (const task of await bed.running(service)) {
    const host = nodes.get(task.NodeID ?? '') ?? '';
    counts[host] = (counts[host] ?? 0) + 1;
  }
  return counts;
}

const tasksOn = async (host: string, service: string): Promise<TaskFacts[]> => {
  const { ID } = await bed.node(host);
  return (await bed.tasks(service)).filter((task) => task.NodeID === ID);
};
const runningOn = async (host: string, service: string): Promise<TaskFacts[]> => {
  const { ID } = await bed.node(host);
  return (await bed.running(service)).filter((task) => task.NodeID === ID);
};
const pidOf = (task: TaskFacts): number => must(task.Status.ContainerStatus, 'container').PID;

/** Least number of running tasks that a service has while `action` goes on. */
async function leastRunning(service: string, action: () => Promise<unknown>): Promise<number> {
  let least = Infinity;
  let over = false;
  const watch = (async () => {
    while (!over) {
      least = Math.min(least, (await bed.running(service)).length);
      await systemClock.sleep(30);
    }
  })();
  try {
    await action();
  } finally {
    over = true;
    await watch;
  }
  return least;
}

describe('joining', () => {
  it('brings labels that count before the first task is placed', async () => {
    await create('not-c', '--mode', 'global', '--constraint', 'node.labels.zone!=c');
    await create('everywhere', '--mode', 'global');
    await join('w1', '--label', 'zone=a', '--label', 'ssd');
    await bed.on('w2').run('swarm', 'join', '--token', token, remote());
    await join('w3', '--label', 'zone=c', '--availability', 'active');
    await bed.replicas('everywhere', 4);
    await bed.replicas('not-c', 3);
    expect(await labelsOf('m1')).toEqual({ zone: 'm' });
    expect(await labelsOf('w1')).toEqual({ zone: 'a', ssd: '' });
    expect(await labelsOf('w2')).toEqual({});
    expect(await tasksOn('w3', 'not-c')).toEqual([]);
    expect(await tasksOn('w3', 'everywhere')).toHaveLength(1);
    await bed.client.run('service', 'rm', 'not-c');
    await bed.client.run('node', 'update', '--label-add', 'zone=b', 'w2');
  });

  it('refuses labels without a name and leaves the host outside', async () => {
    await bed.on('w3').run('swarm', 'leave');
    expect(await shoal('w3').fails('swarm', 'join', '--token', token, '--label', '=x', remote())).toContain(
      'a node label needs a name',
    );
    expect(await bed.on('w3').run('info', '--format', '{{.Swarm.LocalNodeState}}')).toBe('inactive');
    const id = (await bed.node('w3')).ID;
    expect(await bed.client.fails('node', 'rm', 'm1')).toContain('is a cluster manager and is a member of the raft');
    expect(await bed.client.fails('node', 'rm', 'w1')).toContain("is not down and can't be removed");
    await until('w3 is down', 10_000, async () => (await bed.node('w3')).Status.State === 'down');
    await bed.client.run('node', 'rm', id);
  });
});

describe('settings of heartbeats', () => {
  const shown = async (): Promise<string> => (await shoal().run('info')).replace(/\s+/g, ' ');

  it('are checked, shown, and kept by the stock client', async () => {
    expect(await shoal().fails('swarm', 'update', '--node-down-after', '1500ms')).toContain(
      'the silence (--node-down-after) must be at least 2 heartbeats (--dispatcher-heartbeat)',
    );
    expect(await shown()).toContain('Heartbeat Period: 1 second Node Down After: 5 seconds');
    await shoal().run('swarm', 'update', '--node-down-after', '8s', '--dispatcher-heartbeat', '2s');
    await bed.client.run('swarm', 'update', '--task-history-limit', '6');
    expect(await shown()).toContain('Heartbeat Period: 2 seconds Node Down After: 8 seconds');
    await shoal().run('swarm', 'update', '--dispatcher-heartbeat', '1s');
    expect(await shown()).toContain('Heartbeat Period: 1 second Node Down After: 5 seconds');
  });
});

describe('availability', () => {
  it('pause keeps what runs and takes nothing new', async () => {
    await create('web', '--replicas', '4', '--constraint', 'node.role==worker');
    await bed.replicas('web', 4);
    const before = (await runningOn('w2', 'web')).map((task) => task.ID);
    expect(before).toHaveLength(2);
    await bed.client.run('node', 'update', '--availability', 'pause', 'w2');
    await bed.client.run('service', 'scale', '--detach', 'web=6');
    await bed.replicas('web', 6);
    expect((await runningOn('w2', 'web')).map((task) => task.ID).sort()).toEqual(before.sort());
    expect(await spread('web')).toEqual({ w1: 4, w2: 2 });
    expect(await shoal().run('node', 'activate', 'w2')).toBe('w2');
    expect((await bed.node('w2')).Spec.Availability).toBe('active');
  });

  it('drain moves tasks with no replica missing, and --wait returns when all is done', async () => {
    const least = await leastRunning('web', async () => {
      expect(await shoal().run('node', 'drain', 'w1', '--wait')).toMatch(/w1: drained$/);
    });
    expect(least).toBeGreaterThanOrEqual(6);
    expect(await spread('web')).toEqual({ w2: 6 });
    expect(await runningOn('w1', 'everywhere')).toEqual([]);
    expect(await bed.on('w1').lines('ps', '-q')).toEqual([]);
    await bed.client.run('node', 'update', '--availability', 'active', 'w1');
    await until('the global task is back', 10_000, async () => (await runningOn('w1', 'everywhere')).length === 1);
    expect(await spread('web')).toEqual({ w2: 6 });
  });

  it('drain says at its timeout what cannot move, and why', async () => {
    await create('bound', '--constraint', 'node.labels.zone==b');
    await bed.replicas('bound', 1);
    const outcome = await shoal().try(['node', 'drain', 'w2', '--wait', '--timeout', '5s']);
    expect(outcome.code).toBe(1);
    expect(outcome.stderr).toContain('node w2 is not drained after 5s:');
    expect(outcome.stderr).toMatch(/the replacement of bound\.1 is pending: no suitable node \(.*constraints/);
    expect(outcome.stderr).not.toContain('web.');
    await shoal().run('node', 'activate', 'w2');
    await bed.replicas('bound', 1);
    await bed.client.run('service', 'rm', 'bound', 'everywhere');
  });

  it('service rebalance levels the tasks out by hand', async () => {
    expect(await spread('web')).toEqual({ w1: 6 });
    const least = await leastRunning('web', async () => {
      expect(await shoal().run('service', 'rebalance', 'web')).toMatch(/w1: 3, w2: 3\nweb: done$/);
    });
    expect(least).toBeGreaterThanOrEqual(6);
    expect(await spread('web')).toEqual({ w1: 3, w2: 3 });
  });
});

describe('a node that is cut off', () => {
  it('for 3 s keeps everything as it was', async () => {
    const facts = async (): Promise<string[]> =>
      (await bed.tasks('web')).map(({ ID, DesiredState, Status }) =>
        [ID, DesiredState, Status.State, Status.ContainerStatus?.PID].join(' '),
      );
    const before = await facts();
    await bed.lab.partition(['w1'], false);
    await systemClock.sleep(3_000);
    await bed.lab.heal(['w1']);
    const began = systemClock.monotonic();
    while (systemClock.monotonic() - began < 5_000) {
      expect((await bed.node('w1')).Status.State).toBe('ready');
      await systemClock.sleep(250);
    }
    expect((await facts()).sort()).toEqual(before.sort());
  });

  it('for longer is replaced, said to run on perhaps, and stops what is too much when it returns', async () => {
    const old = await runningOn('w2', 'web');
    const pids = old.map(pidOf);
    await bed.lab.partition(['w2'], false);
    const lost = await seconds(() => until('replacements', 20_000, async () => (await spread('web'))['w1'] === 6));
    expect(pids.every((pid) => existsSync(`/proc/${pid}`))).toBe(true);
    const table = await bed.client.run('service', 'ps', '--no-trunc', 'web');
    expect(table).toContain('node w2 is down: nobody can tell whether this task still runs there');
    await systemClock.sleep(3_000);
    await bed.lab.heal(['w2']);
    const gone = await seconds(() =>
      until('the old containers end', 15_000, () => pids.every((pid) => !existsSync(`/proc/${pid}`))),
    );
    console.log(
      `replacements Running ${lost.toFixed(2)} s after the cut; old containers ended ${gone.toFixed(2)} s after it`,
    );
    expect(gone).toBeLessThan(5);
    await isReady('w2');
    expect(await bed.client.run('service', 'ps', '--no-trunc', 'web')).not.toContain('still runs there');
    expect(await spread('web')).toEqual({ w1: 6 });
  });
});

describe('rebalancing', () => {
  it('follows a node that joins, one task after the other, none missing', async () => {
    await shoal().run('service', 'update', '--detach', '--quiet', '--rebalance', 'web');
    const least = await leastRunning('web', async () => {
      await join('w3', '--label', 'zone=c');
      await until('level', 60_000, async () => {
        const counts = await spread('web');
        return counts['w1'] === 2 && counts['w2'] === 2 && counts['w3'] === 2;
      });
    });
    expect(least).toBeGreaterThanOrEqual(6);
    const ids = (await bed.running('web')).map((task) => task.ID).sort();
    await systemClock.sleep(3_000);
    expect((await bed.running('web')).map((task) => task.ID).sort()).toEqual(ids);
  });
});
