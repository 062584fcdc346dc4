import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { httpCall } from '../base/index.ts';
import { Bed, get, PROGRAMS, until } from './kit/index.ts';

/** A swarm formed by hand and used as an operator would: each case goes on where the one before it stopped. */
const bed = new Bed('swarm');
const DETACH = '--detach';
let web = '';
let tokens = { worker: '', manager: '' };

beforeAll(async () => {
  await bed.up({ managers: 3, workers: 2, swarm: false });
  web = await bed.serveImages();
});
afterAll(() => bed.down());

const join = (host: string, token: string): Promise<string> =>
  bed.on(host).run('swarm', 'join', '--token', token, `${bed.address('m1')}:2377`);

const column = async (...args: string[]): Promise<string[]> =>
  (await bed.client.lines(...args)).map((line) => line.trim()).sort();

describe('forming a swarm', () => {
  it('begins with init, which prints how others join', async () => {
    expect(await bed.on('m1').run('info', '--format', '{{.Swarm.LocalNodeState}}')).toBe('inactive');
    expect(await bed.on('m1').fails('node', 'ls')).toContain('This node is not a swarm manager.');
    const text = await bed.on('m1').run('swarm', 'init', '--advertise-addr', bed.address('m1'));
    expect(text).toMatch(/Swarm initialized: current node \([a-z0-9]{25}\) is now a manager\./);
    expect(text).toContain(`${bed.address('m1')}:2377`);
    tokens = {
      worker: await bed.on('m1').run('swarm', 'join-token', '-q', 'worker'),
      manager: await bed.on('m1').run('swarm', 'join-token', '-q', 'manager'),
    };
    expect(text).toContain(tokens.worker);
    expect(tokens.manager).toMatch(/^SWMTKN-1-[0-9a-z]{50}-[0-9a-z]{25}$/);
  });

  it('lets managers and workers join by their tokens', async () => {
    expect(await join('m2', tokens.manager)).toContain('This node joined a swarm as a manager.');
    expect(await join('m3', tokens.manager)).toContain('This node joined a swarm as a manager.');
    expect(await join('w1', tokens.worker)).toContain('This node joined a swarm as a worker.');
    expect(await join('w2', tokens.worker)).toContain('This node joined a swarm as a worker.');
    await until('five ready nodes', 10_000, async () => {
      const rows = await column('node', 'ls', '--format', '{{.Hostname}} {{.Status}} {{.ManagerStatus}}');
      expect(rows).toEqual(['m1 Ready Leader', 'm2 Ready Reachable', 'm3 Ready Reachable', 'w1 Ready', 'w2 Ready']);
      return true;
    });
  });

  it.each(PROGRAMS)('is seen alike by every manager through %s', async (program) => {
    for (const host of ['m1', 'm2', 'm3']) {
      const rows = await bed.on(host, program).lines('node', 'ls', '--format', '{{.Hostname}} {{.Availability}}');
      expect(rows.sort()).toEqual(['m1', 'm2', 'm3', 'w1', 'w2'].map((name) => `${name} Active`));
    }
    const table = await bed.on('m2', program).run('node', 'ls');
    expect(table.split('\n')[0]).toMatch(/^ID\s+HOSTNAME\s+STATUS\s+AVAILABILITY\s+MANAGER STATUS\s+ENGINE VERSION/);
    expect(table).toMatch(/^[a-z0-9]{25} \*\s+m2\s+Ready/m);
  });

  it.each(PROGRAMS)('is told by info and version through %s', async (program) => {
    const client = bed.on('m1', program);
    expect(await client.run('info', '--format', '{{.Swarm.LocalNodeState}} {{.Swarm.ControlAvailable}}')).toBe(
      'active true',
    );
    expect(await client.run('info', '--format', '{{.Swarm.Nodes}} {{.Swarm.Managers}}')).toBe('5 3');
    expect(await client.run('info')).toContain('Swarm: active');
    expect(await client.run('version', '--format', '{{.Server.APIVersion}}')).toMatch(/^1\.\d+$/);
    const worker = bed.on('w1', program);
    expect(await worker.run('info', '--format', '{{.Swarm.LocalNodeState}} {{.Swarm.ControlAvailable}}')).toBe(
      'active false',
    );
  });

  it('answers ping with its place in the swarm', async () => {
    const ask = async (host: string): Promise<unknown> => {
      const answer = await httpCall({ host: bed.host(host).docker_host, method: 'HEAD', path: '/_ping' });
      answer.body.resume();
      return answer.headers;
    };
    expect(await ask('m1')).toMatchObject({
      swarm: 'active/manager',
      'api-version': expect.stringMatching(/^1\.\d+$/),
    });
    expect(await ask('w1')).toMatchObject({ swarm: 'active/worker' });
  });

  it('refuses a token once it has been rotated, in Docker words', async () => {
    await bed.on('w2').run('swarm', 'leave');
    const fresh = await bed.on('m1').run('swarm', 'join-token', '--rotate', '-q', 'worker');
    expect(fresh).not.toBe(tokens.worker);
    const words = await bed.on('w2').fails('swarm', 'join', '--token', tokens.worker, `${bed.address('m1')}:2377`);
    expect(words).toMatch(/A valid join token is necessary to join this cluster/);
    tokens.worker = fresh;
    await join('w2', tokens.worker);
    const down = await until('the left node is down', 10_000, async () => {
      const rows = await bed.client.lines('node', 'ls', '--format', '{{.ID}} {{.Hostname}} {{.Status}}');
      return rows.find((row) => row.endsWith('w2 Down'));
    });
    await bed.client.run('node', 'rm', down.split(' ')[0] ?? '');
    expect(await column('node', 'ls', '--format', '{{.Hostname}}')).toEqual(['m1', 'm2', 'm3', 'w1', 'w2']);
  });
});

describe('a service', () => {
  it('is created on an overlay network and converges while the client waits', async () => {
    await bed.client.run('network', 'create', '-d', 'overlay', 'front');
    const flags = ['--name', 'web', '--replicas', '6', '--network', 'front', '--publish', '8080:80'];
    const updates = ['--update-parallelism', '3', '--update-monitor', '1s', '--rollback-monitor', '1s'];
    const rollback = ['--rollback-parallelism', '3'];
    const outcome = await bed.client.try(['service', 'create', ...flags, ...updates, ...rollback, `${web}:v1`]);
    expect(outcome.stderr).toBe('');
    expect(outcome.code).toBe(0);
    expect(outcome.stdout).toMatch(/verify: Service \S+ converged/);
    const nodes = new Set((await bed.running('web')).map((task) => task.NodeID));
    expect(nodes.size).toBe(5);
  });

  it.each(PROGRAMS)('is shown by ls, ps and inspect through %s', async (program) => {
    const client = bed.on('m2', program);
    expect(await client.run('service', 'ls', '--format', '{{.Name}} {{.Mode}} {{.Replicas}} {{.Image}}')).toBe(
      `web replicated 6/6 ${web}:v1`,
    );
    expect(await client.run('service', 'ls')).toMatch(/web\s+replicated\s+6\/6\s+\S+web:v1\s+\*:8080->80\/tcp/);
    const rows = await client.lines(
      'service',
      'ps',
      'web',
      '--format',
      '{{.Name}} {{.DesiredState}} {{.CurrentState}}',
    );
    expect(rows).toHaveLength(6);
    for (const row of rows) expect(row).toMatch(/^web\.[1-6] Running Running .* ago$/);
    interface Service {
      Spec: { Name: string; Mode: { Replicated: { Replicas: number } } };
      Endpoint: { Ports: { PublishedPort: number; TargetPort: number }[]; VirtualIPs: { Addr: string }[] };
    }
    const service = await client.inspect<Service>('service', 'inspect', 'web');
    expect(service.Spec).toMatchObject({ Name: 'web', Mode: { Replicated: { Replicas: 6 } } });
    expect(service.Endpoint.Ports).toMatchObject([{ PublishedPort: 8080, TargetPort: 80 }]);
    // One on its network, and one of each family on the ingress network.
    expect(service.Endpoint.VirtualIPs).toHaveLength(3);
    expect(service.Endpoint.VirtualIPs.filter(({ Addr }) => Addr.includes(':'))).toHaveLength(1);
    expect(await client.run('service', 'inspect', '--pretty', 'web')).toMatch(/Replicas:\s+6/);
  });

  it.each(PROGRAMS)('has its logs read from any manager through %s', async (program) => {
    const lines = await until('a line of each replica', 10_000, async () => {
      const found = await bed.on('m3', program).lines('service', 'logs', 'web');
      return found.length >= 6 ? found : undefined;
    });
    for (const line of lines) expect(line).toMatch(/^web\.[1-6]\.[a-z0-9]+@(m|w)\d\s+\| serving v1$/);
    expect(new Set(lines.map((line) => line.split('.')[1])).size).toBe(6);
    expect(await bed.on('m3', program).run('service', 'logs', '--raw', '--tail', '1', 'web')).toContain('serving v1');
  });

  it('is scaled up and down by a client that waits', async () => {
    expect(await bed.client.run('service', 'scale', 'web=9')).toMatch(/web scaled to 9[\s\S]*converged/);
    expect(await bed.running('web')).toHaveLength(9);
    await bed.client.run('service', 'scale', DETACH, 'web=6');
    await bed.replicas('web', 6);
  });

  it('is updated to another image and ends converged', async () => {
    const text = await bed.client.run('service', 'update', '--image', `${web}:v2`, 'web');
    expect(text).toMatch(/verify: Service \S+ converged/);
    expect(await get(`http://${bed.address('m2')}:8080/`)).toMatch(/^v2 /);
    const images = await bed.client.lines(
      'service',
      'ps',
      '-f',
      'desired-state=running',
      'web',
      '--format',
      '{{.Image}}',
    );
    expect(new Set(images)).toEqual(new Set([`${web}:v2`]));
    const update = await bed.client.run('service', 'inspect', '--format', '{{.UpdateStatus.State}}', 'web');
    expect(update).toBe('completed');
  });

  it('is rolled back', async () => {
    const text = await bed.client.run('service', 'update', '--rollback', 'web');
    expect(text).toMatch(/rollback: manually requested rollback[\s\S]*converged/);
    expect(await get(`http://${bed.address('w1')}:8080/`)).toMatch(/^v1 /);
    const update = await bed.client.run('service', 'inspect', '--format', '{{.UpdateStatus.State}}', 'web');
    expect(update).toBe('rollback_completed');
  });
});

describe('nodes', () => {
  it('are drained and taken back', async () => {
    await bed.client.run('node', 'update', '--availability', 'drain', 'w1');
    const w1 = (await bed.node('w1')).ID;
    await until('no task on w1, six elsewhere', 30_000, async () => {
      const tasks = await bed.running('web');
      return tasks.length === 6 && tasks.every((task) => task.NodeID !== w1);
    });
    await until('no container on w1', 15_000, async () => (await bed.on('w1').lines('ps', '-q')).length === 0);
    expect(await bed.client.run('service', 'ls', '--format', '{{.Replicas}}')).toBe('6/6');
    await bed.client.run('node', 'update', '--availability', 'active', 'w1');
    await bed.client.run('service', 'scale', DETACH, 'web=10');
    const tasks = await bed.replicas('web', 10);
    expect(tasks.some((task) => task.NodeID === w1)).toBe(true);
    await bed.client.run('service', 'scale', DETACH, 'web=6');
  });

  it('carry labels that placement follows', async () => {
    await bed.client.run('node', 'update', '--label-add', 'disk=fast', 'w2');
    const flags = ['--name', 'pinned', '--constraint', 'node.labels.disk==fast', '--replicas', '2'];
    await bed.client.run('service', 'create', DETACH, '--quiet', ...flags, `${web}:v1`);
    const tasks = await bed.replicas('pinned', 2);
    const w2 = (await bed.node('w2')).ID;
    expect(tasks.map((task) => task.NodeID)).toEqual([w2, w2]);
    await bed.client.run('service', 'rm', 'pinned');
  });

  it('are promoted and demoted', async () => {
    await bed.client.run('node', 'promote', 'w1');
    await until('w1 is a reachable manager', 20_000, async () => {
      const node = await bed.node('w1');
      return node.ManagerStatus?.Reachability === 'reachable';
    });
    await until('w1 answers for the swarm', 10_000, async () => (await bed.on('w1').lines('node', 'ls')).length === 6);
    await bed.client.run('node', 'demote', 'w1');
    await until('w1 is a worker', 20_000, async () => {
      expect(await bed.on('w1').fails('node', 'ls')).toContain("Worker nodes can't be used to view or modify");
      return (await bed.node('w1')).ManagerStatus === undefined;
    });
    await until('w1 is ready', 10_000, async () => (await bed.node('w1')).Status.State === 'ready');
  });

  it('leave and are removed; their tasks run elsewhere', async () => {
    const w2 = await bed.node('w2');
    expect(await bed.client.fails('node', 'rm', 'w2')).toMatch(/node \S+ is not down and can't be removed/);
    expect(await bed.on('w2').run('swarm', 'leave')).toBe('Node left the swarm.');
    await until('six replicas elsewhere', 20_000, async () => {
      const tasks = await bed.running('web');
      return tasks.length === 6 && tasks.every((task) => task.NodeID !== w2.ID);
    });
    await until('w2 is down', 10_000, async () => (await bed.node('w2')).Status.State === 'down');
    expect(await bed.client.run('node', 'rm', 'w2')).toBe('w2');
    expect(await bed.on('w2').lines('ps', '-aq')).toEqual([]);
    expect(await bed.on('w2').run('info', '--format', '{{.Swarm.LocalNodeState}}')).toBe('inactive');
  });

  it('refuse to leave as managers without force', async () => {
    expect(await bed.on('m3').fails('swarm', 'leave')).toContain('participating as a manager');
    expect((await bed.nodes()).length).toBe(4);
  });
});

describe('events', () => {
  it('tell of services created and removed', async () => {
    const since = Math.floor(Date.now() / 1000) - 1;
    await bed.client.run('service', 'create', DETACH, '--quiet', '--name', 'short', `${web}:v1`);
    await bed.replicas('short', 1);
    await bed.client.run('service', 'rm', 'short');
    const until_ = String(Math.floor(Date.now() / 1000) + 2);
    const format = ['--format', '{{.Type}} {{.Action}} {{.Actor.Attributes.name}}'];
    const lines = await bed.client.lines('events', '--since', String(since), '--until', until_, ...format);
    expect(lines).toContain('service create short');
    expect(lines).toContain('service remove short');
  });
});

describe('the end', () => {
  it('removes a service with its containers everywhere', async () => {
    expect(await bed.client.run('service', 'rm', 'web')).toBe('web');
    expect(await bed.client.lines('service', 'ls', '-q')).toEqual([]);
    for (const host of ['m1', 'm2', 'm3', 'w1']) {
      await until(`no container on ${host}`, 20_000, async () => (await bed.on(host).lines('ps', '-aq')).length === 0);
    }
    await bed.client.run('network', 'rm', 'front');
  });

  it('leaves nothing behind', async () => {
    await bed.down();
    expect(bed.lab.leftovers()).toEqual([]);
  });
});
