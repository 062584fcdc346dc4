import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { systemClock } from '../base/index.ts';
import { Bed, until, type Outcome } from './kit/index.ts';

/** `shoal plan` tells what happens when the same is done afterwards, and changes nothing itself. */
const bed = new Bed('plan');
const ALL = ['m1', 'w1', 'w2'];
let web = '';
/** Memory of the smallest host, MiB. */
let memoryMiB = 0;

interface Plan {
  Services: {
    Name: string;
    Started: number;
    Stopped: number;
    Moved: number;
    Replaced: number;
    Ports: string[];
    Addresses: string[];
    Nodes: { Hostname: string; Before: number; After: number }[];
  }[];
  Waiting: { Service: string; Tasks: number; Reason: string; Already: boolean }[];
  Nodes: { Hostname: string; MemoryBytes: { Before: number; After: number } }[];
}

interface Versioned {
  ID: string;
  Version: { Index: number };
}

/** Ids and versions of everything that a plan could touch. */
async function versions(): Promise<string[]> {
  const all: string[] = [];
  for (const path of ['/services', '/nodes', '/tasks', '/swarm', '/networks']) {
    const objects = [await bed.api<Versioned | Versioned[]>(path)].flat();
    for (const { ID, Version } of objects) all.push(`${path} ${ID} ${Version?.Index}`);
  }
  return all.toSorted();
}

/** Waits until nothing changes any more. */
async function atRest(): Promise<string[]> {
  let last: string[] = [];
  await until('a cluster at rest', 20_000, async () => {
    const now = await versions();
    const same = now.join() === last.join();
    last = now;
    if (!same) await systemClock.sleep(700);
    return same;
  });
  return last;
}

/** Makes a plan, and shows that no object has changed meanwhile. */
async function plan(...args: string[]): Promise<{ plan: Plan; outcome: Outcome; text: Outcome }> {
  const before = await atRest();
  const client = bed.on(bed.first, 'shoal');
  // Options of a service end at its image.
  const [what = '', verb = '', ...rest] = args;
  const words = what === 'service' ? ['plan', what, verb] : ['plan', what];
  const after = what === 'service' ? rest : args.slice(1);
  const outcome = await client.try([...words, '--format', 'json', ...after]);
  const text = await client.try([...words, ...after]);
  expect(await versions()).toEqual(before);
  if (outcome.stdout === '') throw new Error(outcome.stderr);
  expect(text.code).toBe(outcome.code);
  return { plan: JSON.parse(outcome.stdout) as Plan, outcome, text };
}

/** Tasks of a service that run, by hostname. */
async function spread(service: string): Promise<Record<string, number>> {
  const counts: Record<string, number> = {};
  for (const task of await bed.running(service)) {
    const host = await bed.hostOf(task);
    counts[host] = (counts[host] ?? 0) + 1;
  }
  return counts;
}

/** The same as a plan foretells it, without nodes that have none. */
function foretold(answer: Plan, service: string): Record<string, number> {
  const nodes = answer.Services.find(({ Name }) => Name === service)?.Nodes ?? [];
  return Object.fromEntries(nodes.filter(({ After }) => After > 0).map(({ Hostname, After }) => [Hostname, After]));
}

const sorted = (counts: Record<string, number>): number[] => Object.values(counts).toSorted((a, b) => a - b);

beforeAll(async () => {
  await bed.up({ managers: 1, workers: 2 });
  web = `${await bed.serveImages()}:v1`;
  const nodes = await bed.api<{ Description: { Resources: { MemoryBytes: number } } }[]>('/nodes');
  memoryMiB = Math.floor(Math.min(...nodes.map((node) => node.Description.Resources.MemoryBytes)) / 2 ** 20);
});
afterAll(() => bed.down());

const flags = ['--no-resolve-image', '--detach', '--quiet'];

describe('plan, then do', () => {
  it('a new service: where its tasks go, its port', async () => {
    const args = ['--name', 'web', '--replicas', '5', '--publish', '8080:80', web];
    const { plan: answer, outcome, text } = await plan('service', 'create', '--no-resolve-image', ...args);
    expect(outcome.code).toBe(0);
    expect(answer.Services).toMatchObject([{ Name: 'web', Started: 5, Moved: 0, Ports: ['8080:80/tcp'] }]);
    expect(text.stdout).toMatch(/^web {2}m1: 0 → [12], w1: 0 → [12], w2: 0 → [12]; 5 tasks would start\n/);
    expect(text.stdout).toContain('Nothing was changed.');
    await bed.client.run('service', 'create', ...flags, ...args);
    await bed.replicas('web', 5);
    expect(sorted(await spread('web'))).toEqual(sorted(foretold(answer, 'web')));
  });

  it('more replicas than there is memory for', async () => {
    // Two fit on each of three nodes.
    const reserve = ['--reserve-memory', `${Math.floor(memoryMiB * 0.4)}m`];
    const args = ['--name', 'big', '--replicas', '8', ...reserve, web];
    const { plan: answer, outcome, text } = await plan('service', 'create', '--no-resolve-image', ...args);
    expect(outcome.code).toBe(2);
    expect(answer.Waiting).toMatchObject([{ Service: 'big', Tasks: 2, Already: false }]);
    expect(text.stdout).toMatch(/2 tasks of big would not fit: no suitable node \(insufficient resources on 3 nodes\)/);
    await bed.client.run('service', 'create', ...flags, ...args);
    await bed.replicas('big', 6);
    expect(await spread('big')).toEqual(foretold(answer, 'big'));
    await until('the reason is the foretold one', 10_000, async () =>
      (await bed.tasks('big')).some((task) => task.Status.Err === answer.Waiting[0]?.Reason),
    );
  });

  it('a change of a service: how many tasks are replaced', async () => {
    const { plan: answer, outcome } = await plan('service', 'update', '--env-add', 'A=b', 'web');
    expect(outcome.code).toBe(0);
    const [one] = answer.Services;
    expect((one?.Moved ?? 0) + (one?.Replaced ?? 0)).toBe(5);
    const { plan: smaller } = await plan('service', 'update', '--replicas', '3', 'web');
    expect(smaller.Services).toMatchObject([{ Name: 'web', Stopped: 2, Moved: 0, Replaced: 0 }]);
    await bed.client.run('service', 'update', '--detach', '--quiet', '--replicas', '3', 'web');
    await bed.replicas('web', 3);
    expect(sorted(await spread('web'))).toEqual(sorted(foretold(smaller, 'web')));
  });

  it('a node that is drained', async () => {
    await bed.client.run('service', 'rm', 'big');
    await until('its tasks are gone', 15_000, async () => (await bed.api<object[]>('/tasks')).length === 3);
    const { plan: answer, outcome } = await plan('node-drain', 'w1');
    expect(outcome.code).toBe(0);
    await bed.client.run('node', 'update', '--availability', 'drain', 'w1');
    await until('w1 is empty', 20_000, async () => (await spread('web'))['w1'] === undefined);
    await bed.replicas('web', 3);
    expect(await spread('web')).toEqual(foretold(answer, 'web'));
    await bed.client.run('node', 'update', '--availability', 'active', 'w1');
  });

  it('a lost node whose tasks fit nowhere else', async () => {
    const reserve = ['--reserve-memory', `${Math.floor(memoryMiB * 0.6)}m`];
    await bed.client.run('service', 'create', ...flags, '--name', 'wide', '--replicas', '3', ...reserve, web);
    await bed.replicas('wide', 3);
    const { plan: answer, outcome, text } = await plan('node-down', 'w2');
    expect(outcome.code).toBe(2);
    expect(answer.Waiting).toMatchObject([{ Service: 'wide', Tasks: 1, Already: false }]);
    expect(text.stdout).toContain('1 task of wide would not fit: no suitable node');
    await bed.lab.kill('w2');
    await until('w2 is down', 15_000, async () => (await bed.node('w2')).Status.State === 'down');
    const state = (tasks: { Status: { State: string } }[]): number =>
      tasks.filter(({ Status }) => Status.State === 'pending').length;
    await until('one waits', 10_000, async () => state(await bed.tasks('wide')) === 1);
    const lost = (await bed.node('w2')).ID;
    const stays = async (): Promise<number> => (await bed.running('web')).filter((task) => task.NodeID !== lost).length;
    await until('web runs elsewhere', 15_000, async () => (await stays()) === 3);
    expect(foretold(answer, 'wide')).toEqual({ m1: 1, w1: 1 });
    await bed.lab.start('w2');
    await bed.replicas('wide', 3);
  });

  it('the removal of a service', async () => {
    const { plan: answer, outcome } = await plan('service', 'rm', 'wide');
    expect([outcome.code, answer.Services]).toMatchObject([0, [{ Name: 'wide', Stopped: 3 }]]);
    expect(ALL.filter((host) => foretold(answer, 'wide')[host] !== undefined)).toEqual([]);
  });
});

describe('a plan', () => {
  it('of what is refused is refused in the same words', async () => {
    const client = bed.on('m1', 'shoal');
    const taken = ['service', 'create', '--no-resolve-image', '--name', 'web', web];
    const port = ['service', 'create', '--no-resolve-image', '--name', 'x', '--publish', '8080:80', web];
    for (const args of [taken, port]) {
      const planned = await client.fails('plan', ...args);
      expect(planned).toBe(await client.fails(...args));
    }
    expect(await client.fails('plan', 'node-down', 'nobody')).toContain('node nobody not found');
    expect(await bed.on('w1', 'shoal').fails('plan', 'node-down', 'w1')).toContain('This node is not a swarm manager');
  });
});

describe('the end', () => {
  it('leaves nothing behind', async () => {
    await bed.down();
    expect(bed.lab.leftovers()).toEqual([]);
  });
});
