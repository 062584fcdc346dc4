import { afterAll, beforeAll, expect, it } from 'vitest';
import { SeededRandom, systemClock, systemRandom, type Random } from '../base/index.ts';
import { cgroupRoots } from '../lab/index.ts';
import { Bed, EngineLoad, SHOAL, kernelTruth, until } from './kit/index.ts';

/** SHOAL_CRASH_KILLS=200 is the long run. */
const KILLS = Number(process.env['SHOAL_CRASH_KILLS'] ?? 12);
/** The operations and the moments of the kills come from it; how they meet does not. */
const SEED = Number(process.env['SHOAL_CRASH_SEED'] ?? systemRandom.int(1_000_000));
const CLIENTS = 4;
/** A kill comes after so many answers at the most, or after this time on a busy machine, and a moment more, ms. */
const ANSWERS_MAX = 24;
const ANSWERS_TIMEOUT_MS = 4_000;
const MOMENT_MS = 60;
/** About what a start of the daemon takes, ms. */
const START_MS = 1_500;

const bed = new Bed('crash-engine');
let image = '';

beforeAll(async () => {
  await bed.up({ managers: 1, workers: 0, swarm: false });
  image = await bed.serveImages();
});
afterAll(() => bed.down());

const verbose = (text: string): void => {
  if (process.env['SHOAL_CRASH_VERBOSE'] !== undefined) console.log(text);
};

/** What the kernel has of containers must be what runs. */
async function nothingOrphaned(load: EngineLoad): Promise<void> {
  const groups = cgroupRoots().map((root) => `${root}/${bed.lab.names.hostCgroup('m1')}/containers`);
  await until('mounts, monitors and control groups are those of running containers', 10_000, async () => {
    const running = await load.running();
    const { names } = bed.lab;
    const place = { pid: bed.host('m1').pid, dataDir: names.hostDataDir('m1'), cgroups: groups };
    const truth = kernelTruth({ ...place, execRoot: `${names.hostRunDir('m1')}/exec` });
    for (const [what, ids] of Object.entries(truth)) {
      if (JSON.stringify(ids) === JSON.stringify(running)) continue;
      throw new Error(`${what}: ${ids.join(' ')}; running: ${running.join(' ')}`);
    }
    return true;
  });
}

/** Starts the daemon; one time in four it is killed once more on its way. */
async function restart(random: Random): Promise<void> {
  if (random.int(4) === 0) {
    const starting = bed.lab.start('m1').catch(() => undefined);
    await systemClock.sleep(random.int(START_MS));
    // It may not run yet.
    await bed.lab.kill('m1').catch(() => undefined);
    await starting;
  }
  await bed.lab.start('m1');
  bed.hosts = bed.lab.list();
}

/** The doctor without a daemon: what a kill has left is mended, what runs goes on. */
async function mendedWhileDown(load: EngineLoad): Promise<void> {
  load.begin(CLIENTS);
  await load.answers(ANSWERS_MAX, ANSWERS_TIMEOUT_MS);
  await bed.lab.kill('m1');
  await load.end();
  const { names } = bed.lab;
  const where = ['--data-root', `${names.hostDataDir('m1')}/shoal`, '--exec-root', `${names.hostRunDir('m1')}/exec`];
  const words = [...SHOAL, 'doctor', ...where, '--cgroup-parent', `/${names.hostCgroup('m1')}/containers`];
  verbose((await bed.lab.capture('m1', [...words, '--repair'], {})).stdout.toString());
  const again = (await bed.lab.capture('m1', words, {})).stdout.toString();
  // What ended without a daemon is recorded when one starts.
  const left = again.split('\n').filter((line) => line.startsWith('FAULT') && !line.includes('container-lost'));
  expect(left).toEqual([]);
  await bed.lab.start('m1');
  bed.hosts = bed.lab.list();
  expect(await load.settle()).toEqual([]);
  expect((await bed.on('m1', 'shoal').try(['doctor'])).stdout).toContain('OK: nothing is wrong');
}

it(
  `loses nothing and leaves nothing through ${KILLS} kills (SHOAL_CRASH_SEED=${SEED} SHOAL_CRASH_KILLS=${KILLS})`,
  async () => {
    const random = new SeededRandom(SEED);
    const pulls = [`${image}:v2`];
    const load = new EngineLoad({ host: bed.host('m1').docker_host, image: `${image}:v1`, pulls, random });
    const began = systemClock.monotonic();
    for (let kill = 1; kill <= KILLS; kill++) {
      load.begin(CLIENTS);
      await load.answers(random.int(ANSWERS_MAX), ANSWERS_TIMEOUT_MS);
      await systemClock.sleep(random.int(MOMENT_MS));
      await bed.lab.kill('m1');
      await load.end();
      await restart(random);
      expect(await load.settle(), `after kill ${kill}`).toEqual([]);
      expect(load.broken, `before kill ${kill}`).toEqual([]);
      const report = await bed.on('m1', 'shoal').try(['doctor']);
      expect(report.stdout, `after kill ${kill}`).toMatch(/\nOK: nothing is wrong\n$/);
      await nothingOrphaned(load);
      const seconds = ((systemClock.monotonic() - began) / 1000).toFixed(1);
      verbose(`${seconds} s: kill ${kill}, ${(await load.running()).length} run, ${JSON.stringify(load.answered)}`);
    }
    expect(load.answered['create'] ?? 0).toBeGreaterThan(KILLS);
    expect((await bed.on('m1', 'shoal').try(['doctor', '--deep'])).stdout).toContain('OK: nothing is wrong');
    await mendedWhileDown(load);
  },
  60_000 + KILLS * 8_000,
);

it('leaves nothing behind', async () => {
  await bed.down();
  expect(bed.lab.leftovers()).toEqual([]);
});
