import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Bed, until, type TaskFacts } from './kit/index.ts';

/**
 * `shoal why` on prepared situations. They stand at the same time in one lab; each case asks and compares the answer with
 * the text beside this file: e2e/why/SITUATION.txt. SHOAL_GOLDEN=write writes them anew, to be read before they are kept.
 */
const bed = new Bed('why');
const GOLDEN = join(dirname(fileURLToPath(import.meta.url)), 'why');
const IS_WRITING = process.env['SHOAL_GOLDEN'] === 'write';

/** What differs from run to run becomes a placeholder. */
function normalised(text: string, keepsNodes: boolean): string {
  const addresses = bed.hosts.reduce((all, host) => all.replaceAll(host.address, '<address>'), text);
  const plain = addresses
    .replaceAll(bed.registry, '<registry>')
    .replaceAll(/@sha256:[0-9a-f]{64}/g, '')
    .replaceAll(/\b[a-z0-9]{25}\b/g, '<id>')
    .replaceAll(/\([a-z0-9]{12}\)/g, '(<id>)')
    .replaceAll(/\btask [a-z0-9]{12}\b/g, 'task <id>')
    .replaceAll(/(?:less than a second|\d+ (?:second|minute)s?)(?= ago)/g, '<time>')
    .replaceAll(/\b(in|for) (?:less than a second|\d+ (?:second|minute)s?)/g, '$1 <time>')
    .replaceAll(/\bversion \d+ of the service/g, 'version <n> of the service')
    .replaceAll(/\b(?!900GiB|32MiB|0B)\d+(?:\.\d+)?[KMGT]?i?B\b/g, '<size>')
    .replaceAll(/(of) \d+ CPUs?/g, '$1 <cpus>');
  return keepsNodes ? plain : plain.replaceAll(/\b[mw][1-3]\b/g, '<node>');
}

const ask = (...args: string[]): Promise<string> => bed.on('m1', 'shoal').run('why', ...args);

interface Situation {
  name: string;
  /** What is asked about. */
  about: string;
  /** What the answer says once the situation has come about. */
  once: RegExp;
  keepsNodes?: boolean;
  /** Lines that tell of what happened to be on a node besides. */
  drops?: RegExp;
}

/** Asks until the situation is there, and compares. */
async function compare({ name, about, once, keepsNodes, drops }: Situation): Promise<void> {
  let last = '';
  await until(`${name}: ${once.source}`, 40_000, async () => {
    last = await ask(about);
    return once.test(last);
  }).catch((error: unknown) => {
    throw new Error(`${String(error)}; the answer was:\n${last}`);
  });
  const file = join(GOLDEN, `${name}.txt`);
  const text = `${normalised(drops === undefined ? last : last.replaceAll(drops, ''), keepsNodes ?? false)}\n`;
  if (IS_WRITING) {
    mkdirSync(GOLDEN, { recursive: true });
    writeFileSync(file, text);
  }
  expect(text).toBe(existsSync(file) ? readFileSync(file, 'utf8') : '');
}

const create = async (name: string, ...args: string[]): Promise<void> => {
  await bed.client.run('service', 'create', '--detach', '--quiet', '--no-resolve-image', '--name', name, ...args);
};

/** Services that wait from the beginning. */
async function createWaiting(web: string): Promise<void> {
  const hostPort = ['--publish', 'mode=host,published=8081,target=80', '--constraint', 'node.hostname==w1'];
  await bed.client.run('node', 'update', '--label-add', 'disk=hdd', 'w1');
  await bed.client.run('network', 'create', '-d', 'overlay', '--subnet', '10.99.0.0/29', 'tiny');
  await create('memory', '--reserve-memory', '900g', '--constraint', 'node.hostname==w2', web);
  await create('label', '--constraint', 'node.labels.disk==ssd', web);
  await create('port-holder', ...hostPort, web);
  await bed.replicas('port-holder', 1);
  await create('port', ...hostPort, web);
  await create('max-replicas', '--replicas', '6', '--replicas-max-per-node', '1', web);
  await create('full-network', '--replicas', '6', '--network', 'tiny', '--endpoint-mode', 'dnsrr', web);
  await create('no-dependency', '--label', 'shoal.depends-on=database', web);
  const platform = await bed.post('/services/create', {
    Name: 'platform',
    TaskTemplate: {
      ContainerSpec: { Image: web },
      Placement: { Platforms: [{ Architecture: 's390x', OS: 'linux' }] },
    },
    Mode: { Replicated: { Replicas: 1 } },
  });
  expect(platform.status).toBe(201);
}

/** Services that run and come to grief. */
async function createFailing(web: string): Promise<void> {
  const check = ['--health-cmd', 'test -f /nothing', '--health-interval', '300ms', '--health-retries', '2'];
  await create('crash-loop', '--restart-delay', '6s', web, 'sh', '-c', 'sleep 0.2; exit 3');
  await create('no-image', '--restart-delay', '60s', `${bed.registry}/web:v9`);
  const hungry = 'x=aaaaaaaa; while true; do x=$x$x; done';
  await create('out-of-memory', '--limit-memory', '32m', '--restart-condition', 'none', web, 'sh', '-c', hungry);
  await create('unhealthy', '--restart-delay', '60s', ...check, web);
  await create('unhealthy-dependency', '--label', 'shoal.depends-on=unhealthy:healthy', web);
  await create('paused-update', '--restart-condition', 'none', web);
  // Only w3 at first; when that is lost there is w2.
  await bed.client.run('node', 'update', '--label-add', 'zone=z', 'w3');
  await create('moved', '--constraint', 'node.labels.zone==z', web);
  await bed.replicas('moved', 1);
  await bed.client.run('node', 'update', '--label-add', 'zone=z', 'w2');
  await bed.replicas('paused-update', 1);
  await bed.client.run('service', 'update', '--detach', '--quiet', '--args', 'false', 'paused-update');
}

beforeAll(async () => {
  await bed.up({ managers: 2, workers: 3 });
  const web = `${await bed.serveImages()}:v1`;
  await Promise.all([createWaiting(web), createFailing(web)]);
});
afterAll(() => bed.down());

const WAITING: readonly Situation[] = [
  { name: 'memory', about: 'memory', once: /insufficient resources/, keepsNodes: true },
  { name: 'label', about: 'label', once: /constraints not satisfied on 5 nodes/ },
  { name: 'port', about: 'port', once: /host-mode port already in use/, keepsNodes: true },
  { name: 'max-replicas', about: 'max-replicas', once: /5 of 6 tasks run/ },
  { name: 'platform', about: 'platform', once: /unsupported platform/ },
  { name: 'full-network', about: 'full-network', once: /5 of 6 tasks run/ },
  { name: 'no-dependency', about: 'no-dependency', once: /: ready/ },
];

describe('what waits', () => {
  it.each(WAITING)('$name', compare);

  it('has the same words as its error, in the API and in service ps', async () => {
    for (const { name } of WAITING) {
      const tasks = await bed.tasks(name);
      const waiting = tasks.find((task: TaskFacts) => task.Status.State !== 'running');
      const answer = await bed.api<{ Headline: string; Subject: { ID: string } }>(`/shoal/why/task/${waiting?.ID}`);
      expect(waiting?.Status.Err).toBe(answer.Headline);
      const errors = await bed.client.lines('service', 'ps', '--no-trunc', '--format', '{{.Error}}', name);
      expect(errors.join('\n')).toContain(answer.Headline);
    }
  });
});

describe('what came to grief', () => {
  it.each<Situation>([
    { name: 'crash-loop', about: 'crash-loop', once: /: ready[^]*\b2 failures in a row/ },
    { name: 'no-image', about: 'no-image', once: /: rejected[^]*\b2 failures in a row/ },
    { name: 'out-of-memory', about: 'out-of-memory', once: /out of memory/ },
    { name: 'unhealthy', about: 'unhealthy', once: /: ready/ },
    { name: 'unhealthy-dependency', about: 'unhealthy-dependency', once: /: ready/ },
    { name: 'paused-update', about: 'paused-update', once: /its update is paused[^]*: shutdown/ },
  ])('$name', compare);
});

describe('a node', () => {
  it('that is down, where its task moved, and the task that it had', async () => {
    const [old] = await bed.running('moved');
    await bed.lab.kill('w3');
    const drops = /^ {2}- (?!moved\b)[\w-]+\.\d (?:moved|waits|was).*\n/gm;
    await compare({ name: 'node-down', about: 'w3', once: /moved to w2/, keepsNodes: true, drops });
    await compare({ name: 'moved', about: 'moved.1', once: /^Task moved\.1 .*: running/, keepsNodes: true });
    await compare({ name: 'left-behind', about: old?.ID ?? '', once: /nobody can tell/, keepsNodes: true });
    await bed.lab.start('w3');
    await until('w3 is back', 20_000, async () => (await bed.node('w3')).Status.State === 'ready');
  });

  it('all of them paused or drained', async () => {
    for (const host of ['m1', 'm2', 'w1', 'w2'])
      await bed.client.run('node', 'update', '--availability', 'pause', host);
    await bed.client.run('node', 'update', '--availability', 'drain', 'w3');
    await create('nowhere', `${bed.registry}/web:v1`);
    await compare({ name: 'nowhere', about: 'nowhere', once: /no suitable node/ });
  });
});

describe('who is asked', () => {
  it('is told what a word stands for when that is several things, or nothing', async () => {
    await create('w1', '--replicas', '0', `${bed.registry}/web:v1`);
    expect(await bed.on('m1', 'shoal').fails('why', 'w1')).toMatch(
      /w1 is ambiguous, it stands for 2 things: service w1 \(\w+\), node w1 \(\w+\)/,
    );
    expect(await ask('--type', 'node', 'w1')).toMatch(/^Node w1 /);
    expect(await bed.on('m1', 'shoal').fails('why', 'nothing')).toContain(
      'no task, service or node has the id or name',
    );
    expect(await bed.status('/shoal/why?ref=nothing')).toBe(404);
  });

  it('answers on every manager, and says on a worker whom to ask', async () => {
    expect(await bed.on('m2', 'shoal').run('why', 'memory')).toContain('no suitable node');
    expect(await bed.on('w1', 'shoal').fails('why', 'memory')).toContain('This node is not a swarm manager');
  });

  it('without a leader says so, and what was known last when asked for it', async () => {
    const leader = await bed.leader();
    bed.first = leader === 'm1' ? 'm2' : 'm1';
    await bed.lab.kill(leader);
    await until('the loss is noticed', 15_000, async () =>
      (await bed.on(bed.first, 'shoal').try(['why', 'memory'])).stderr.includes('does not have a leader'),
    );
    const stale = await bed.on(bed.first, 'shoal').try(['why', '--stale', 'memory']);
    expect(stale.stdout).toContain('no suitable node');
    expect(stale.stderr).toContain('what this manager last knew');
  });
});

describe('the end', () => {
  it('leaves nothing behind', async () => {
    await bed.down();
    expect(bed.lab.leftovers()).toEqual([]);
  });
});
