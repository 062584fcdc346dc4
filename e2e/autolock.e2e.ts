import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { must } from '../base/index.ts';
import { Bed, PROGRAMS, until, type Client } from './kit/index.ts';

/** Docker's words. */
const LOCKED =
  'Swarm is encrypted and needs to be unlocked before it can be used. Please use "docker swarm unlock" to unlock it.';
const WRONG_KEY = 'swarm could not be unlocked: invalid key provided';
const KEY = /SWMKEY-1-[A-Za-z0-9+/]{43}/;
/** An unlock key of some other swarm. */
const FOREIGN = `SWMKEY-1-${'A'.repeat(43)}`;
/** A secret's value that must be on no manager's disk in clear. */
const CANARY = 'canary-7f3a9c51d2e84b60';
const MANAGERS = ['m1', 'm2', 'm3'];

const bed = new Bed('autolock');
let web = '';
let key = '';

beforeAll(async () => {
  await bed.up({ managers: 3, workers: 1, swarm: false });
});
afterAll(() => bed.down());

const swarmDir = (host: string): string => join(bed.lab.names.dataDir, host, 'shoal', 'swarm');

function keyFile(host: string): string {
  return readFileSync(join(swarmDir(host), 'certificates', 'swarm-node.key'), 'utf8');
}

const isLocked = (host: string): boolean => keyFile(host).includes('BEGIN ENCRYPTED PRIVATE KEY');

async function restart(...hosts: string[]): Promise<void> {
  for (const host of hosts) await bed.lab.kill(host);
  await Promise.all(hosts.map((host) => bed.lab.start(host)));
}

const state = (host: string): Promise<string> => bed.on(host).run('info', '--format', '{{.Swarm.LocalNodeState}}');

async function unlock(client: Client, word: string): Promise<{ code: number; words: string }> {
  const { code, stdout, stderr } = await client.try(['swarm', 'unlock'], { stdin: `${word}\n` });
  return { code, words: `${stderr}${stdout}` };
}

async function opens(host: string, word: string): Promise<void> {
  expect(await unlock(bed.on(host), word)).toEqual({ code: 0, words: '' });
  await until(`${host} takes part`, 15_000, async () => (await bed.nodes(host)).length > 0);
}

async function refuses(host: string, word: string, words = WRONG_KEY): Promise<void> {
  const answer = await unlock(bed.on(host), word);
  expect(answer.code).not.toBe(0);
  expect(answer.words).toContain(words);
  expect(await state(host)).toBe('locked');
}

/** Containers of the service's running tasks, with process and its start. */
async function containers(): Promise<string[]> {
  const facts = (await bed.running('web')).map((task) => must(task.Status.ContainerStatus, 'container'));
  return facts.map((c) => `${c.ContainerID.slice(0, 12)} ${c.PID} ${bed.startTime(c.PID)}`).sort();
}

async function allReady(count: number): Promise<void> {
  await until(`${count} nodes are ready`, 20_000, async () => {
    const nodes = await bed.nodes();
    return nodes.length === count && nodes.every((node) => node.Status.State === 'ready');
  });
}

describe('swarm init --autolock', () => {
  it('prints the key that unlocks, and locks every manager', async () => {
    // Silent nodes are given time, so that nothing is moved while a manager waits for its key.
    const flags = ['--autolock', '--dispatcher-heartbeat', '20s', '--advertise-addr', bed.address('m1')];
    const words = await bed.client.run('swarm', 'init', ...flags);
    expect(words).toContain('To unlock a swarm manager after it restarts, run the');
    key = must(KEY.exec(words)?.[0], 'unlock key');
    for (const program of PROGRAMS) expect(await bed.on('m1', program).run('swarm', 'unlock-key', '-q')).toBe(key);
    for (const [host, role] of [
      ['m2', 'manager'],
      ['m3', 'manager'],
      ['w1', 'worker'],
    ] as const) {
      const token = await bed.client.run('swarm', 'join-token', '-q', role);
      await bed.on(host).run('swarm', 'join', '--token', token, `${bed.address('m1')}:2377`);
    }
    expect([...MANAGERS, 'w1'].map(isLocked)).toEqual([true, true, true, false]);
    expect(await bed.on('m3').run('swarm', 'unlock-key')).toContain(key);
    expect(await bed.on('w1').fails('swarm', 'unlock-key')).toContain("Worker nodes can't be used");
  });

  it('lets services run as ever', async () => {
    web = await bed.serveImages();
    const made = await bed.client.try(['secret', 'create', 'canary', '-'], { stdin: CANARY });
    expect(made.code).toBe(0);
    const flags = ['--detach', '--quiet', '--mode', 'global', '--secret', 'canary', '--name', 'web'];
    await bed.client.run('service', 'create', ...flags, `${web}:v1`);
    const [task] = await bed.replicas('web', 4);
    expect(await bed.inTask(must(task, 'task'), 'cat', '/run/secrets/canary')).toBe(CANARY);
  });
});

describe('a restarted manager', () => {
  it.each(PROGRAMS)(
    'is locked, refuses everything in the words of Docker, and opens to the key (%s)',
    async (program) => {
      const [client, before] = [bed.on('m2', program), await containers()];
      await restart('m2');
      expect(await state('m2')).toBe('locked');
      expect(await client.run('info')).toMatch(/Swarm: locked/);
      expect(await client.fails('node', 'ls')).toContain(LOCKED);
      expect(await client.fails('service', 'ls')).toContain(LOCKED);
      expect(await client.fails('swarm', 'unlock-key')).toContain(LOCKED);
      expect(await client.fails('swarm', 'leave')).toContain('Swarm is encrypted and locked');
      expect([await bed.status('/nodes', 'm2'), await bed.status('/swarm', 'm2')]).toEqual([503, 503]);
      expect((await bed.post('/swarm/unlock', { UnlockKey: FOREIGN }, 'm2')).status).toBe(401);
      expect((await bed.post('/swarm/unlock', { UnlockKey: 'x' }, 'm2')).status).toBe(400);
      expect((await unlock(client, FOREIGN)).words).toContain(WRONG_KEY);
      // Its containers go on, and it can tell of them.
      expect(await client.lines('ps', '-q')).toHaveLength(1);
      expect((await unlock(client, key)).code).toBe(0);
      expect(await client.run('node', 'ls')).toContain('m2');
      await allReady(4);
      await bed.replicas('web', 4);
      expect(await containers()).toEqual(before);
      expect(await bed.tasks('web')).toHaveLength(4);
      expect((await unlock(client, key)).words).toContain('swarm is not locked');
      expect((await bed.post('/swarm/unlock', { UnlockKey: key }, 'm2')).status).toBe(409);
    },
  );

  it('has a log that is read offline with the key, and not without it', async () => {
    const shoal = bed.on('m2', 'shoal');
    const read = ['debug', 'raft-log', '--entries', swarmDir('m2')];
    expect(await shoal.fails(...read)).toContain('give its key with --unlock-key');
    expect(await shoal.fails(...read, '--unlock-key', FOREIGN)).toContain('is locked by another key');
    expect(await shoal.run(...read, '--unlock-key', key)).toMatch(/secret/);
  });

  it('is one of many: with every manager restarted, a majority must be unlocked', async () => {
    const before = await containers();
    await restart(...MANAGERS);
    expect(await Promise.all(MANAGERS.map(state))).toEqual(['locked', 'locked', 'locked']);
    expect((await unlock(bed.on('m1'), key)).code).toBe(0);
    expect(await bed.client.fails('node', 'ls')).toContain('The swarm does not have a leader');
    // Who has lost the key gets it from a manager that is open.
    expect(await bed.client.run('swarm', 'unlock-key', '-q')).toBe(key);
    expect((await unlock(bed.on('m2'), key)).code).toBe(0);
    await bed.leader();
    await opens('m3', key);
    await allReady(4);
    await bed.replicas('web', 4);
    expect(await containers()).toEqual(before);
  });
});

describe('swarm unlock-key --rotate', () => {
  it('makes the old key void; a manager that was away opens to the old one once more', async () => {
    const old = key;
    await bed.lab.kill('m3');
    expect(await bed.client.run('swarm', 'unlock-key', '--rotate')).toContain(
      'Successfully rotated manager unlock key',
    );
    key = await bed.client.run('swarm', 'unlock-key', '-q');
    expect(key).toMatch(KEY);
    expect(key).not.toBe(old);
    await bed.lab.start('m3');
    await refuses('m3', key);
    await opens('m3', old);
    await restart('m2');
    await refuses('m2', old);
    await opens('m2', key);
    await until('m3 has the new key', 10_000, async () => {
      await restart('m3');
      return (await unlock(bed.on('m3'), key)).code === 0;
    });
    await restart('m3');
    await refuses('m3', old);
    await opens('m3', key);
    await allReady(4);
  });
});

describe('a change of role', () => {
  it('locks who is promoted and frees who is demoted', async () => {
    await bed.client.run('node', 'promote', 'w1');
    await until('w1 is a manager', 20_000, async () => {
      return (await bed.node('w1')).ManagerStatus?.Reachability === 'reachable' && isLocked('w1');
    });
    await restart('w1');
    await refuses('w1', FOREIGN);
    await opens('w1', key);
    await bed.client.run('node', 'demote', 'w1');
    await until('w1 is a worker', 20_000, async () => {
      return (await bed.node('w1')).ManagerStatus === undefined && !isLocked('w1');
    });
    await until('the log of w1 is gone', 10_000, () => !readdirSync(swarmDir('w1')).includes('raft'));
    expect(keyFile('w1')).not.toContain('raft-dek');
    await restart('w1');
    expect(await state('w1')).toBe('active');
    await allReady(4);
  });
});

describe('a locked manager', () => {
  it('can leave by force; nothing of the swarm stays', async () => {
    await restart('m3');
    expect(await state('m3')).toBe('locked');
    await bed.on('m3').run('swarm', 'leave', '--force');
    expect(await state('m3')).toBe('inactive');
    expect(await bed.on('m3').lines('ps', '-aq')).toEqual([]);
    await bed.client.run('node', 'demote', 'm3');
    await until('m3 can be removed', 20_000, async () => {
      return (await bed.client.try(['node', 'rm', '--force', 'm3'])).code === 0;
    });
    const token = await bed.client.run('swarm', 'join-token', '-q', 'manager');
    await bed.on('m3').run('swarm', 'join', '--token', token, `${bed.address('m1')}:2377`);
    expect(isLocked('m3')).toBe(true);
    await allReady(4);
  });
});

describe('swarm update --autolock', () => {
  it('=false: managers come up unlocked', async () => {
    await bed.client.run('swarm', 'update', '--autolock=false');
    await until('all are free', 10_000, () => !MANAGERS.some(isLocked));
    await restart('m2');
    expect(await state('m2')).toBe('active');
    await until('m2 takes part', 15_000, async () => (await bed.nodes('m2')).length === 4);
    expect(await bed.client.fails('swarm', 'unlock-key')).toContain('no unlock key is set');
    expect(await bed.client.fails('swarm', 'unlock-key', '--rotate')).toContain('autolock is not turned on');
  });

  it('=true: a new key, and a new TLS key instead of the one that lay in clear', async () => {
    const clear = MANAGERS.map((host) => keyFile(host));
    const old = key;
    const serial = (host: string): string =>
      readFileSync(join(swarmDir(host), 'certificates', 'swarm-node.crt'), 'utf8');
    const certificates = MANAGERS.map(serial);
    const words = await bed.on('m2').run('swarm', 'update', '--autolock=true');
    key = must(KEY.exec(words)?.[0], 'unlock key');
    expect(key).not.toBe(old);
    await until('all are locked', 10_000, () => MANAGERS.every(isLocked));
    await until('all have a new certificate', 20_000, () =>
      MANAGERS.every((host, at) => serial(host) !== certificates[at]),
    );
    expect(MANAGERS.map((host) => keyFile(host))).not.toEqual(clear);
    await restart('m2');
    await refuses('m2', old);
    await opens('m2', key);
    await bed.replicas('web', 4);
  });
});

describe('what lies on the disk', () => {
  /** Whether a file below `dir` holds the text. */
  function holds(dir: string, text: string): string[] {
    return readdirSync(dir, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name))
      .filter((path) => readFileSync(path).includes(text));
  }

  it('shows neither secrets nor keys, in the raft log, its snapshots or anywhere else of the swarm', () => {
    for (const host of MANAGERS) {
      expect(holds(swarmDir(host), CANARY)).toEqual([]);
      expect(holds(swarmDir(host), key.slice('SWMKEY-1-'.length))).toEqual([]);
      expect(holds(swarmDir(host), 'BEGIN EC PRIVATE KEY')).toEqual([]);
      expect(holds(swarmDir(host), 'BEGIN PRIVATE KEY')).toEqual([]);
    }
  });

  it('is under the newest data key alone, and without autolock still encrypted beside it', async () => {
    await bed.client.run('swarm', 'update', '--autolock=false');
    await until('one data key is left', 20_000, () => {
      const stored = MANAGERS.map((host) => /^raft-dek: (.*)$/m.exec(keyFile(host))?.[1] ?? '');
      return stored.every((text) => {
        const { keys } = JSON.parse(Buffer.from(text, 'base64').toString()) as { keys: object[] };
        return keys.length === 1;
      });
    });
    for (const host of MANAGERS) expect(holds(swarmDir(host), CANARY)).toEqual([]);
  });
});

describe('the end', () => {
  it('leaves nothing behind', async () => {
    await bed.down();
    expect(bed.lab.leftovers()).toEqual([]);
  });
});
