import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { must } from '../base/index.ts';
import { Bed, PROGRAMS, until, type TaskFacts } from './kit/index.ts';

/** Disasters: the quorum is lost for good, or all managers are. */

const DOCKER_WORDS =
  "The swarm does not have a leader. It's possible that too few managers are online. " +
  'Make sure more than half of the managers are online.';

const others = (names: readonly string[], ...without: string[]): string[] =>
  names.filter((name) => !without.includes(name));

/** Process and start time of each task's container: equal only for the same process. */
function processes(bed: Bed, tasks: readonly TaskFacts[]): Map<string, string> {
  return new Map(
    tasks.map((task) => {
      const pid = task.Status.ContainerStatus?.PID ?? 0;
      return [task.ID, `${pid}/${bed.startTime(pid)}`];
    }),
  );
}

async function tasksOn(bed: Bed, service: string, host: string): Promise<TaskFacts[]> {
  const { ID } = await bed.node(host);
  return (await bed.running(service)).filter((task) => task.NodeID === ID);
}

describe('two of three managers are lost for good', () => {
  const bed = new Bed('force');
  const managers = ['m1', 'm2', 'm3'];
  let lost: string[] = [];
  let before = new Map<string, string>();
  let tokens: string[] = [];

  const joinTokens = async (): Promise<string[]> =>
    await Promise.all(['worker', 'manager'].map((role) => bed.client.run('swarm', 'join-token', '-q', role)));

  beforeAll(async () => {
    await bed.up({ managers: 3, workers: 2 });
    const web = await bed.serveImages();
    await bed.on('w2').run('swarm', 'leave');
    await bed.client.run('service', 'create', '--detach', '--quiet', '--name', 'web', '--replicas', '4', `${web}:v1`);
    await bed.replicas('web', 4);
    tokens = await joinTokens();
    const leader = await bed.leader();
    bed.first = must(others(managers, leader)[0], 'a follower');
    lost = others(managers, bed.first);
    const kept = [...(await tasksOn(bed, 'web', bed.first)), ...(await tasksOn(bed, 'web', 'w1'))];
    before = processes(bed, kept);
    expect(before.size).toBe(2);
  });
  afterAll(() => bed.down());

  it('a living swarm is not split by force', async () => {
    const words = await bed.client.fails('swarm', 'init', '--force-new-cluster');
    expect(words).toContain('--force-new-cluster would split it in two');
    expect(await bed.client.lines('node', 'ls', '-q')).toHaveLength(5);
  });

  it.each(PROGRAMS)('%s is told at once what is lost and how to get out', async (program) => {
    for (const name of lost) await bed.lab.crash(name);
    const client = bed.on(bed.first, program);
    await until('the loss is known', 15_000, async () =>
      (await client.fails('node', 'ls')).includes(
        'This manager reaches 1 of 3 managers, itself included; 2 are needed.',
      ),
    );
    const refused = await client.try(['node', 'ls']);
    expect(refused.seconds).toBeLessThan(1);
    expect(refused.stderr).toContain(`Error response from daemon: ${DOCKER_WORDS}\n`);
    for (const name of lost) {
      expect(refused.stderr).toMatch(
        new RegExp(
          `- ${name}, node [a-z0-9]{25} at ${bed.address(name)}:2377 \\(missed for \\d+ seconds?: no (answer|route)`,
        ),
      );
    }
    expect(refused.stderr).toContain('Containers go on as they are');
    expect(refused.stderr).toContain('bring 1 of them back');
    expect(refused.stderr).toContain('docker swarm init --force-new-cluster');
    expect(await bed.status('/nodes')).toBe(503);
    const write = await client.try(['service', 'scale', 'web=5']);
    expect([write.code, write.seconds < 1]).toEqual([1, true]);
    const info = await client.try(['info']);
    expect(info.seconds).toBeLessThan(1);
    expect(info.stdout).toContain(`Error: ${DOCKER_WORDS} This manager reaches 1 of 3 managers`);
    expect(info.stderr).toContain('WARNING: This manager reaches 1 of 3 managers');
    expect(await client.run('info', '--format', '{{.Swarm.Managers}} {{.Swarm.Nodes}}')).toBe('3 5');
  });

  it('what the manager last knew is shown when it is asked for, with a warning', async () => {
    const shoal = bed.on(bed.first, 'shoal');
    const nodes = await shoal.try(['node', 'ls', '--stale', '--format', '{{.Hostname}} {{.ManagerStatus}}']);
    const shown = nodes.stdout.trim().split('\n');
    expect(shown).toEqual(expect.arrayContaining(lost.map((name) => `${name} Unreachable`)));
    expect(nodes.stderr).toContain('WARNING: this is what this manager last knew; it may be old.');
    const services = await shoal.try(['service', 'ls', '--stale', '--format', '{{.Name}} {{.Replicas}}']);
    expect(services.stdout.trim()).toBe('web 4/4');
    const file = bed.file('last-state');
    expect(await shoal.fails('swarm', 'backup', file)).toContain('reaches 1 of 3 managers');
    await shoal.run('swarm', 'backup', '--stale', file);
    expect(await shoal.run('swarm', 'backup', '--inspect', file)).toMatch(/Confirmed: +no: taken with --stale/);
  });

  it('the survivor begins a new cluster, says what may be lost, and its containers go on', async () => {
    expect(await bed.client.run('swarm', 'init', '--force-new-cluster')).toContain('is now a manager');
    expect(await bed.client.lines('service', 'ls', '--format', '{{.Name}}')).toEqual(['web']);
    expect(await joinTokens()).toEqual(tokens);
    const info = await bed.client.try(['info']);
    expect(info.stderr).toMatch(
      /began anew at .*as its only manager\.\nIt has everything up to Raft index \d+, term \d+/,
    );
    expect(info.stderr).toMatch(/Last word of the former leader, m\d, node .*seconds? before\)/);
    expect(info.stderr).toContain('Changes that other managers acknowledged after index');
    for (const name of lost) expect(info.stderr).toContain(`  - ${name}, node `);
    await until('w1 is back', 30_000, async () => (await bed.node('w1')).Status.State === 'ready');
    for (const name of lost) {
      const node = await until(`${name} is down`, 45_000, async () => {
        const found = await bed.node(name);
        return found.Status.State === 'down' && found.Spec.Role === 'worker' && found;
      });
      expect(node.ManagerStatus).toBeUndefined();
    }
    const tasks = await bed.replicas('web', 4, 30_000);
    const after = processes(bed, tasks);
    for (const [id, process] of before) expect(after.get(id)).toBe(process);
  });

  it('managers join, services scale, and the lost are removed', async () => {
    await bed.on('w2').run('swarm', 'join', '--token', must(tokens[1], 'token'), `${bed.address(bed.first)}:2377`);
    await until('two managers', 15_000, async () => {
      return (await bed.nodes()).filter((node) => node.ManagerStatus?.Reachability === 'reachable').length === 2;
    });
    await bed.client.run('service', 'scale', '--detach', 'web=6');
    const tasks = await bed.replicas('web', 6);
    expect(new Set(await Promise.all(tasks.map((task) => bed.hostOf(task)))).has('w2')).toBe(true);
    for (const name of lost) await bed.client.run('node', 'rm', (await bed.node(name)).ID);
    expect((await bed.client.try(['info'])).stderr).not.toContain('began anew');
  });
});

describe('a backup', () => {
  const bed = new Bed('restore');
  const clear = bed.file('swarm.backup');
  const sealed = bed.file('swarm.sealed');
  const word = bed.file('passphrase');
  let kept = new Map<string, string>();
  let token = '';

  beforeAll(async () => {
    await bed.up({ managers: 2, workers: 3 });
    const web = await bed.serveImages();
    await bed.on('w2').run('swarm', 'leave');
    await bed.on('w3').run('swarm', 'leave');
    writeFileSync(bed.file('secret'), 'a secret of the swarm');
    writeFileSync(word, 'correct horse battery staple\n');
    await bed.client.run('secret', 'create', 'password', bed.file('secret'));
    await bed.client.run('network', 'create', '--driver', 'overlay', '--label', 'kept=yes', 'inner');
    const flags = [
      '--detach',
      '--quiet',
      '--name',
      'web',
      '--replicas',
      '3',
      '--network',
      'inner',
      '--secret',
      'password',
    ];
    await bed.client.run('service', 'create', ...flags, '--publish', '8080:80', `${web}:v1`);
    await bed.replicas('web', 3);
    token = await bed.client.run('swarm', 'join-token', '-q', 'worker');
    kept = processes(bed, await tasksOn(bed, 'web', 'w1'));
    expect(kept.size).toBe(1);
  });
  afterAll(() => bed.down());

  const shoal = (host: string): ReturnType<Bed['on']> => bed.on(host, 'shoal');
  const passphrase = (): string[] => ['--passphrase-file', word];

  it('is taken on any manager while the swarm works, for its owner only', async () => {
    for (const host of ['m1', 'm2']) {
      const outcome = await shoal(host).try(['swarm', 'backup', clear]);
      expect(outcome.code).toBe(0);
      expect(outcome.stderr).toContain('in clear: keep it safe');
    }
    expect((await shoal('m2').try(['swarm', 'backup', ...passphrase(), sealed])).stderr).toBe('');
    expect([clear, sealed].map((path) => statSync(path).mode & 0o777)).toEqual([0o600, 0o600]);
    expect(readFileSync(clear).includes('a secret of the swarm')).toBe(true);
    expect(readFileSync(sealed).includes('a secret of the swarm')).toBe(false);
    expect(await shoal('w1').fails('swarm', 'backup', bed.file('none'))).toContain('This node is not a swarm manager');
  });

  it('tells what is in it', async () => {
    const text = await shoal('w2').run('swarm', 'backup', '--inspect', ...passphrase(), sealed);
    expect(text).toMatch(/Confirmed: +yes, by a majority/);
    expect(text).toMatch(/Managers: +m1 \(.*:2377\), m2 \(.*:2377\)/);
    expect(text).toMatch(/Services: +web/);
    const json = JSON.parse(await shoal('w2').run('swarm', 'backup', '--inspect', '--format', 'json', clear)) as object;
    expect(json).toMatchObject({ encrypted: false, stale: false, counts: { service: 1, secret: 1 } });
  });

  it('is refused in words, and nothing changes, where it cannot be restored', async () => {
    const refused = async (host: string, ...args: string[]): Promise<string> => {
      const words = await shoal(host).fails('swarm', 'restore', ...args);
      if (host !== 'w1') {
        expect(await shoal(host).run('info', '--format', '{{.Swarm.LocalNodeState}}')).toBe('inactive');
      }
      return words;
    };
    expect(await refused('w1', clear)).toContain('This node is already part of a swarm.');
    expect(await refused('w2', sealed)).toContain('the backup is encrypted: give its passphrase');
    expect(await refused('w2', '--passphrase-file', bed.file('secret'), sealed)).toContain('the passphrase is wrong');
    const good = readFileSync(clear);
    const bad = Buffer.from(good);
    bad.writeUInt8(bad.readUInt8(good.length >> 1) ^ 1, good.length >> 1);
    writeFileSync(bed.file('flipped'), bad);
    expect(await refused('w2', bed.file('flipped'))).toContain('the backup is damaged');
    writeFileSync(bed.file('cut'), good.subarray(0, good.length - 100));
    expect(await refused('w2', bed.file('cut'))).toContain('the backup is damaged');
    expect(await refused('w2', word)).toContain('this is no backup of a swarm');
    expect(await refused('w2', bed.file('missing'))).toContain('no such file or directory');
  });

  it('brings the swarm back on a host with another address', async () => {
    for (const name of ['m1', 'm2']) await bed.lab.crash(name);
    const text = await shoal('w2').run('swarm', 'restore', ...passphrase(), '--await', '10m', sealed);
    expect(text).toContain('is now its only manager');
    expect(text).toContain('Changes made after the backup was taken');
    expect(text).toContain('brought back within 600 s');
    expect(text).toContain(`shoal swarm rejoin ${bed.address('w2')}:2377`);
    bed.first = 'w2';
    expect(await bed.client.lines('service', 'ls', '--format', '{{.Name}}')).toEqual(['web']);
    expect(await bed.client.lines('secret', 'ls', '--format', '{{.Name}}')).toEqual(['password']);
    expect(await bed.client.run('network', 'inspect', 'inner', '--format', '{{.Labels.kept}}')).toBe('yes');
    expect(await bed.client.run('swarm', 'join-token', '-q', 'worker')).toBe(token);
  });

  it('a worker that is told of it comes back with its containers', async () => {
    const outcome = await shoal('w1').try(['swarm', 'rejoin', `${bed.address('w2')}:2377`]);
    expect(outcome).toMatchObject({ code: 0, stdout: 'This node is back in its swarm.\n' });
    await until('w1 is ready', 10_000, async () => (await bed.node('w1')).Status.State === 'ready');
    const tasks = await bed.running('web');
    for (const [id, process] of kept) {
      const task = must(
        tasks.find((one) => one.ID === id),
        'task that was kept',
      );
      expect(processes(bed, [task]).get(id)).toBe(process);
    }
  });

  it('new nodes join by the old token, take what the lost ones ran, and the lost are removed', async () => {
    await bed.on('w3').run('swarm', 'join', '--token', token, `${bed.address('w2')}:2377`);
    for (const name of ['m1', 'm2']) {
      const lost = await bed.node(name);
      expect(lost.Status.State).toBe('unknown');
      expect(lost.Spec.Role).toBe('worker');
      await bed.client.run('node', 'rm', '--force', lost.ID);
    }
    const tasks = await until('the tasks of the lost run elsewhere', 20_000, async () => {
      const found = await bed.replicas('web', 3);
      const hosts = await Promise.all(found.map((task) => bed.hostOf(task)));
      return hosts.includes('w3') && found;
    });
    for (const [id, process] of kept) expect(processes(bed, tasks).get(id)).toBe(process);
    const task = must(
      tasks.find((one) => !kept.has(one.ID)),
      'a new task',
    );
    expect(await bed.inTask(task, 'cat', '/run/secrets/password')).toBe('a secret of the swarm');
    await bed.client.run('service', 'scale', '--detach', 'web=5');
    await bed.replicas('web', 5);
    await bed.lab.kill('w2');
    await bed.lab.start('w2');
    await until('the restored manager is back', 20_000, async () => (await bed.running('web')).length === 5);
  });

  it('the only manager leaves by force, and nothing is left', async () => {
    expect(await bed.client.fails('swarm', 'leave')).toContain('Removing the last manager erases all current state');
    await bed.client.run('swarm', 'leave', '--force');
    expect(await bed.client.run('info', '--format', '{{.Swarm.LocalNodeState}}')).toBe('inactive');
    await bed.down();
    expect(bed.lab.leftovers()).toEqual([]);
  });
});
