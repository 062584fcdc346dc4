import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { must, systemClock } from '../base/index.ts';
import { Bed, until } from './kit/index.ts';

/** A service that scales by what its containers really burn; each may use a tenth of a CPU. */
const bed = new Bed('autoscale');
const MANAGERS = ['m1', 'm2', 'm3'];
/** Burns while a file is there, then rests. */
const WORK = 'while :; do while [ -e /load/burn ]; do :; done; sleep 0.2; done';
/** Long enough for a leader that takes silence for idleness to take tasks away: several looks and the window, ms. */
const SILENCE_MS = 9000;

interface Inspected {
  Spec: { Mode: { Replicated: { Replicas: number } } };
  UpdateStatus?: object;
  Autoscale?: { FromReplicas: number; ToReplicas: number; Message: string };
}

let image = '';
const load = bed.file('load');
const burn = join(load, 'burn');

beforeAll(async () => {
  await bed.up({ managers: 3, workers: 0 });
  image = `${await bed.serveImages()}:v1`;
  mkdirSync(load);
});
afterAll(() => bed.down());

/** As the API tells it: docker's client leaves out what it does not know. */
const inspect = (): Promise<Inspected> => bed.api<Inspected>('/services/burner');

/** Containers of the running tasks. */
const containers = async (): Promise<string[]> =>
  (await bed.running('burner')).map((task) => must(task.Status.ContainerStatus, 'container').ContainerID).sort();

it('a memory target without a memory limit is refused, and the way out named', async () => {
  const labels = ['--label', 'shoal.autoscale.max=4', '--label', 'shoal.autoscale.memory=80'];
  const words = await bed.client.fails('service', 'create', '--name', 'x', ...labels, image);
  expect(words).toContain('set one with --limit-memory');
});

it('scales up while its containers burn, starting tasks and replacing none', async () => {
  writeFileSync(burn, '');
  const since = Math.floor(systemClock.now() / 1000);
  const settings = ['min=1', 'max=4', 'cpu=50', 'up-after=2s', 'down-after=4s'];
  const labels = settings.flatMap((text) => ['--label', `shoal.autoscale.${text}`]);
  const mount = ['--mount', `type=bind,source=${load},target=/load`];
  const limits = ['--limit-cpu', '0.1', '--stop-grace-period', '1s'];
  const flags = ['--detach', '--name', 'burner', '--replicas', '2', ...limits, ...mount, ...labels];
  await bed.client.run('service', 'create', ...flags, image, 'sh', '-c', WORK);
  await bed.replicas('burner', 2);
  const first = await containers();
  await bed.replicas('burner', 4, 40_000);
  expect(await containers()).toEqual(expect.arrayContaining(first));
  const service = await inspect();
  expect(service.Spec.Mode.Replicated.Replicas).toBe(4);
  expect(service.UpdateStatus).toBeUndefined();
  const message = /^scaled from 2 to 4 replicas: CPU \d+ % \(target 50 %\) for 2s, the most allowed$/;
  expect(service.Autoscale).toMatchObject({ FromReplicas: 2, ToReplicas: 4, Message: expect.stringMatching(message) });
  const end = Math.ceil(systemClock.now() / 1000);
  const range = ['--since', String(since), '--until', String(end), '--filter', 'type=service'];
  const events = await bed.client.lines('events', ...range, '--format', '{{json .Actor.Attributes}}');
  const scaled = events.map((line) => JSON.parse(line) as Record<string, string>).filter((one) => 'reason' in one);
  expect(scaled).toEqual([
    { name: 'burner', 'replicas.old': '2', 'replicas.new': '4', reason: service.Autoscale?.Message },
  ]);
});

it('shows what the tasks use, and how the service stands, through our client', async () => {
  const shoal = bed.on('m2', 'shoal');
  await until('all tasks tell their use', 20_000, async () => {
    const rows = await shoal.lines('service', 'stats', 'burner', '--format', '{{.Name}} {{.CPUPerc}} {{.MemUsage}}');
    return rows.length === 4 && rows.every((row) => /^burner\.\d \d+\.\d\d% [\d.]+[KM]iB \/ --$/.test(row));
  });
  const rows = await shoal.lines('service', 'stats', 'burner', '--format', '{{.CPUPerc}}');
  for (const row of rows) {
    expect(Number.parseFloat(row)).toBeGreaterThan(3);
    expect(Number.parseFloat(row)).toBeLessThan(20);
  }
  const table = await shoal.try(['service', 'ps', 'burner']);
  expect(table.stdout.trim().split('\n')).toHaveLength(5);
  expect(table.stderr).toMatch(
    /^autoscale: burner: 4 replicas \(1\.\.4\), CPU \d+ % of 50 %, last change .* ago: scaled/,
  );
  expect(await shoal.run('service', 'inspect', '--pretty', 'burner')).toMatch(/Autoscale:\n Replicas:\s+1\.\.4/);
});

it('loses nothing when the leader is lost, and goes on by what the new one learns', async () => {
  const before = await inspect();
  const leader = await bed.leader();
  bed.first = must(
    MANAGERS.find((name) => name !== leader),
    'another manager',
  );
  await bed.lab.kill(leader);
  await bed.lab.start(leader);
  const began = systemClock.monotonic();
  while (systemClock.monotonic() - began < SILENCE_MS) {
    const replicas = await inspect().then(
      (service) => service.Spec.Mode.Replicated.Replicas,
      // While there is no leader nothing can be read.
      () => 4,
    );
    expect(replicas).toBe(4);
    await systemClock.sleep(500);
  }
  expect((await inspect()).Autoscale).toEqual(before.Autoscale);
  rmSync(burn);
  await bed.replicas('burner', 1, 45_000);
  expect((await inspect()).Autoscale?.Message).toMatch(
    /^scaled from [2-4] to 1 replicas: CPU \d+ % \(target 50 %\) for 4s/,
  );
});

it('takes a number of the user within the bounds, and corrects one beyond them', async () => {
  await bed.client.run('service', 'scale', '--detach', 'burner=9');
  await until('the number is corrected', 10_000, async () => {
    const words = 'scaled from 9 to 4 replicas: shoal.autoscale.max is 4';
    expect(await inspect()).toMatchObject({
      Spec: { Mode: { Replicated: { Replicas: 4 } } },
      Autoscale: { Message: words },
    });
    return true;
  });
  await bed.replicas('burner', 4);
});
