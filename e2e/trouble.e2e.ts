import { writeFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { must } from '../base/index.ts';
import { Bed, get, PROGRAMS, until } from './kit/index.ts';

/** What users do wrong and what breaks: Docker's words, nothing changed, nothing hangs. */
const bed = new Bed('trouble');
let web = '';

beforeAll(async () => {
  await bed.up({ managers: 3, workers: 2 });
  web = await bed.serveImages();
  const flags = ['--detach', '--quiet', '--name', 'web', '--replicas', '4', '--publish', '8080:80'];
  await bed.client.run('service', 'create', ...flags, `${web}:v1`);
  await bed.replicas('web', 4);
  writeFileSync(bed.file('content'), 'content');
});
afterAll(() => bed.down());

const remote = (): string => `${bed.address('m1')}:2377`;

describe('bad input', () => {
  const services = async (): Promise<string[]> => await bed.client.lines('service', 'ls', '--format', '{{.Name}}');
  const refused = async (...args: string[]): Promise<string> => {
    const words = await bed.client.fails('service', 'create', '--detach', '--quiet', ...args);
    expect(await services()).toEqual(['web']);
    return words;
  };

  it.each(PROGRAMS)('unknown flags and commands are refused by %s with a hint', async (program) => {
    const client = bed.on('m1', program);
    expect(await client.fails('service', 'create', '--no-such-flag', 'x')).toMatch(/unknown flag: --no-such-flag/);
    expect(await client.fails('service', 'nonsense')).not.toBe('');
    expect(await client.fails('service', 'create')).toMatch(/requires at least 1 argument/);
    expect(await client.fails('service', 'ps', 'nothing')).toMatch(/no such service: nothing/i);
    expect(await client.fails('node', 'inspect', 'nobody')).toMatch(/node nobody not found/);
    expect(await client.fails('service', 'scale', 'web=many')).toMatch(/invalid replicas value/);
    expect(await services()).toEqual(['web']);
  });

  it('a taken name', async () => {
    expect(await refused('--name', 'web', `${web}:v1`)).toMatch(/name conflicts with an existing object/);
  });

  it('a taken ingress port', async () => {
    const words = await refused('--name', 'second', '--publish', '8080:80', `${web}:v1`);
    expect(words).toMatch(/port '8080' is already in use by service 'web' \([a-z0-9]{25}\) as an ingress port/);
  });

  it('a bad name, a bad image, an unknown network, secret and constraint', async () => {
    expect(await refused('--name', 'bad name', `${web}:v1`)).toMatch(/name must be valid as a DNS name component/);
    expect(await refused('--name', 'x', 'UPPER/Case:1')).toMatch(/UPPER\/Case:1.*is not a valid repository/);
    expect(await refused('--name', 'x', '--network', 'nowhere', `${web}:v1`)).toMatch(/network nowhere not found/);
    expect(await refused('--name', 'x', '--secret', 'none', `${web}:v1`)).toMatch(/secret not found: none/);
    expect(await refused('--name', 'x', '--constraint', 'node.role=worker', `${web}:v1`)).toMatch(/constraint/);
  });

  it('a network name in use; a subnet in use is told by the tasks that wait for it', async () => {
    const create = ['network', 'create', '-d', 'overlay', '--subnet', '10.77.0.0/24'];
    await bed.client.run(...create, 'one');
    expect(await bed.client.fails(...create, 'one')).toMatch(/already exists/);
    await bed.client.run(...create, 'two');
    const flags = ['--detach', '--quiet', '--name', 'waiting', '--network', 'two'];
    await bed.client.run('service', 'create', ...flags, `${web}:v1`);
    const err = await until('a reason', 10_000, async () => (await bed.tasks('waiting'))[0]?.Status.Err);
    expect(err).toContain('Pool overlaps with other one on this address space: 10.77.0.0/24');
    await bed.client.run('network', 'rm', 'one');
    await bed.replicas('waiting', 1);
    await bed.client.run('service', 'rm', 'waiting');
    await until(
      'network two is removed',
      15_000,
      async () => (await bed.client.try(['network', 'rm', 'two'])).code === 0,
    );
  });

  it('an outdated version of a service', async () => {
    const { ID, Spec } = await bed.client.inspect<{ ID: string; Spec: object }>('service', 'inspect', 'web');
    const answer = await bed.post(`/services/${ID}/update?version=1`, Spec);
    expect(answer.message).toContain('update out of sequence');
  });
});

describe('membership', () => {
  it('a second init or join is refused', async () => {
    const words = await bed.on('m1').fails('swarm', 'init', '--advertise-addr', bed.address('m1'));
    expect(words).toContain(
      'This node is already part of a swarm. Use "docker swarm leave" to leave this swarm and join',
    );
    const token = await bed.client.run('swarm', 'join-token', '-q', 'worker');
    expect(await bed.on('w1').fails('swarm', 'join', '--token', token, remote())).toContain('already part of a swarm');
  });

  it.each(PROGRAMS)('a worker asked for the swarm says where to ask, through %s', async (program) => {
    for (const args of [
      ['node', 'ls'],
      ['service', 'ls'],
      ['service', 'create', '--detach', '--no-resolve-image', 'x'],
    ]) {
      expect(await bed.on('w1', program).fails(...args)).toContain(
        "This node is not a swarm manager. Worker nodes can't be used to view or modify cluster state. " +
          'Please run this command on a manager node or promote the current node to a manager.',
      );
    }
  });

  it('a ready node is not removed, and a manager does not just leave', async () => {
    const words = await bed.client.fails('node', 'rm', 'w1');
    expect(words).toMatch(/node \S+ is not down and can't be removed/);
    expect(await bed.on('m2').fails('swarm', 'leave')).toContain(
      'You are attempting to leave the swarm on a node that is participating as a manager.',
    );
    expect(await bed.client.lines('node', 'ls', '-q')).toHaveLength(5);
  });

  it('a wrong token and a dead address are refused within bounded time', async () => {
    const token = await bed.client.run('swarm', 'join-token', '-q', 'worker');
    await bed.on('w2').run('swarm', 'leave');
    const wrong = `${token.slice(0, -5)}00000`;
    expect(await bed.on('w2').fails('swarm', 'join', '--token', wrong, remote())).toMatch(
      /valid join token is necessary/,
    );
    const foreign = token.replace(/^(SWMTKN-1-)[0-9a-z]{10}/, '$10123456789');
    expect(await bed.on('w2').fails('swarm', 'join', '--token', foreign, remote())).toMatch(
      /remote CA does not match fingerprint/,
    );
    expect(await bed.on('w2').fails('swarm', 'join', '--token', 'nonsense', remote())).toMatch(/invalid join token/);
    for (const dead of [`${bed.address('m1')}:2999`, `${bed.address('m1').replace(/\d+$/, '250')}:2377`]) {
      const outcome = await bed.on('w2').try(['swarm', 'join', '--token', token, dead]);
      expect(outcome.code).not.toBe(0);
      expect(outcome.seconds).toBeLessThan(25);
      await until('it is out again', 20_000, async () => {
        return (await bed.on('w2').run('info', '--format', '{{.Swarm.LocalNodeState}}')) !== 'pending';
      });
      await bed.on('w2').try(['swarm', 'leave', '--force']);
    }
    await bed.on('w2').run('swarm', 'join', '--token', token, remote());
    expect(await bed.on('w2').run('info', '--format', '{{.Swarm.LocalNodeState}}')).toBe('active');
    const gone = await until('the node that left is down', 10_000, async () => {
      return (await bed.nodes()).find((node) => node.Status.State === 'down');
    });
    await bed.client.run('node', 'rm', gone.ID);
    await bed.replicas('web', 4);
  });
});

describe('two of three managers killed', () => {
  it('refuses writes and reads quickly, while containers go on', async () => {
    const leader = await bed.leader();
    bed.first = must(
      ['m1', 'm2', 'm3'].find((name) => name !== leader),
      'another manager',
    );
    const pids = (await bed.running('web')).map((task) => task.Status.ContainerStatus?.PID ?? 0);
    const started = pids.map((pid) => bed.startTime(pid));
    const killed = ['m1', 'm2', 'm3'].filter((name) => name !== bed.first);
    for (const name of killed) await bed.lab.kill(name);
    await until('writes are refused', 15_000, async () => {
      const words = await bed.client.fails('config', 'create', 'c', bed.file('content'));
      expect(words).toContain('The swarm does not have a leader');
      return true;
    });
    const write = await bed.client.try(['config', 'create', 'c', bed.file('content')]);
    expect(write.stderr).toContain('The swarm does not have a leader');
    expect(write.seconds).toBeLessThan(5);
    const read = await bed.client.try(['service', 'ls']);
    expect(read.stderr).toContain('The swarm does not have a leader');
    expect(read.seconds).toBeLessThan(5);
    const answer = await bed.status('/services');
    expect(answer).toBe(503);
    expect(pids.map((pid) => bed.startTime(pid))).toEqual(started);
    expect(await get(`http://${bed.address('w1')}:8080/`)).toMatch(/^v1 /);
    expect(await bed.client.run('info', '--format', '{{.Swarm.LocalNodeState}}')).toBe('active');
  });

  it('heals when one is back', async () => {
    const killed = ['m1', 'm2', 'm3'].filter((name) => name !== bed.first);
    await bed.lab.start(killed[0] ?? '');
    await until('writes are answered', 15_000, async () => {
      await bed.client.run('config', 'create', 'healed', bed.file('content'));
      return true;
    });
    await bed.lab.start(killed[1] ?? '');
    await until('all ready', 15_000, async () => (await bed.nodes()).every((node) => node.Status.State === 'ready'));
    expect(await bed.client.lines('config', 'ls', '--format', '{{.Name}}')).toEqual(['healed']);
    await bed.replicas('web', 4);
  });
});

describe('the end', () => {
  it('the last manager leaves by force, and nothing of the swarm is left on it', async () => {
    await bed.on('m2').run('swarm', 'leave', '--force');
    expect(await bed.on('m2').run('info', '--format', '{{.Swarm.LocalNodeState}}')).toBe('inactive');
    expect(await bed.on('m2').lines('ps', '-aq')).toEqual([]);
  });

  it('leaves nothing behind', async () => {
    await bed.down();
    expect(bed.lab.leftovers()).toEqual([]);
  });
});
