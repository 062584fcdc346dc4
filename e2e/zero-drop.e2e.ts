import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { systemClock } from '../base/index.ts';
import { Traffic } from '../lab/index.ts';
import { Bed, until } from './kit/index.ts';

/** Rounds of update, rollback and drain; the claim in docs/orchestration.md is about 10. */
const ROUNDS = Number(process.env['SHOAL_E2E_DROP_ROUNDS'] ?? '2');
const PORT = 8093;
const REPLICAS = 4;
/** Pause of each client between two requests, ms. */
const PAUSE_MS = 15;

const bed = new Bed('drop');
let web = '';

beforeAll(async () => {
  await bed.up({});
  web = await bed.serveImages();
  const health = ['--health-cmd', 'wget -q -O /dev/null http://127.0.0.1/', '--health-interval', '300ms'];
  const update = ['--update-monitor', '500ms', '--update-parallelism', '2'];
  const rollback = ['--rollback-monitor', '500ms', '--rollback-parallelism', '2'];
  const flags = ['--name', 'web', '--replicas', String(REPLICAS), '--publish', `${PORT}:80`];
  await bed.client.run('service', 'create', '--detach', ...flags, ...health, ...update, ...rollback, `${web}:v1`);
  await bed.replicas('web', REPLICAS);
});

afterAll(() => bed.down());

/** Requests through every host while something happens: quick ones, and some that take a second. */
async function underLoad(work: () => Promise<void>): Promise<Traffic> {
  const urls = bed.hosts.map(({ address }) => `http://${address}:${PORT}`);
  const traffic = new Traffic([...urls.map((url) => `${url}/`), ...urls.map((url) => `${url}/cgi-bin/slow`)]);
  traffic.start(PAUSE_MS);
  try {
    await work();
    // What was begun last is part of the load, too.
    await systemClock.sleep(300);
  } finally {
    await traffic.stop();
  }
  return traffic;
}

function expectNoFailure(traffic: Traffic): void {
  expect(traffic.failures).toEqual([]);
  expect(traffic.answered).toBeGreaterThan(50);
}

/** Waits for the end of an update as the service tells it. */
async function settled(state: string): Promise<void> {
  await until(`update ${state}`, 60_000, async () => {
    const format = '{{.UpdateStatus.State}} {{.UpdateStatus.Message}}';
    const now = await bed.client.run('service', 'inspect', '--format', format, 'web');
    if (now.startsWith(`${state} `)) return true;
    const tasks = (await bed.tasks('web')).filter((task) => task.DesiredState !== 'shutdown');
    throw new Error(`${now}; ${tasks.map((task) => `${task.Status.State} ${task.Status.Err ?? ''}`).join(', ')}`);
  });
}

async function update(image: string, order: string): Promise<void> {
  await bed.client.run('service', 'update', '--detach', '--update-order', order, '--image', image, 'web');
  await settled('completed');
}

/** Drains a host and waits until nothing of the service is there; then takes it back. */
async function drain(host: string): Promise<void> {
  const node = await bed.node(host);
  await bed.client.run('node', 'update', '--availability', 'drain', host);
  await until(`${host} is empty`, 60_000, async () => {
    const all = await bed.tasks('web');
    const alive = all.filter((task) => task.NodeID === node.ID && task.Status.State === 'running');
    const elsewhere = (await bed.running('web')).filter((task) => task.NodeID !== node.ID);
    return alive.length === 0 && elsewhere.length === REPLICAS ? true : undefined;
  });
  await bed.client.run('node', 'update', '--availability', 'active', host);
}

describe.each(Array.from({ length: ROUNDS }, (_, i) => i + 1))('round %i: no request fails while', (round) => {
  it('a new version is rolled out, old tasks first', async () => {
    const traffic = await underLoad(() => update(`${web}:v2`, 'stop-first'));
    expectNoFailure(traffic);
    expect(traffic.bodies.get('v2') ?? 0).toBeGreaterThan(0);
  });

  it('the old version is rolled out again, new tasks first', async () => {
    expectNoFailure(await underLoad(() => update(`${web}:v1`, 'start-first')));
  });

  it('a host that runs a replica is drained', async () => {
    const tasks = await bed.running('web');
    const hosts = await Promise.all(tasks.map((task) => bed.hostOf(task)));
    const victim = hosts[round % hosts.length] ?? 'w1';
    expectNoFailure(await underLoad(() => drain(victim)));
  });
});
