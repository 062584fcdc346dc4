import { expect, it } from 'vitest';
import { SeededRandom, silentLogger, VirtualClock } from '../../base/index.ts';
import { TaskState } from '../../proto/index.ts';
import { aService, aTask, createMemoryStore } from '../store/testing.ts';
import { createControl } from './control.ts';

const READINGS: Record<string, { cpuPercentOfOne: number; memoryBytes: number | undefined; atMs: number }> = {
  t1: { cpuPercentOfOne: 40, memoryBytes: 8 << 20, atMs: 997_000 },
  t2: { cpuPercentOfOne: 10, memoryBytes: undefined, atMs: 999_000 },
  // So old that it says nothing of the present, but it is shown with its age.
  t3: { cpuPercentOfOne: 50, memoryBytes: 1 << 20, atMs: 900_000 },
};

it('tells what the running tasks of a service use, by slot, against their limits', async () => {
  const clock = new VirtualClock(1_000_000);
  const store = createMemoryStore({ clock });
  const usage = { of: ({ id }: { id: string }) => READINGS[id] };
  const control = createControl({ store, clock, random: new SeededRandom(1), log: silentLogger, usage });
  const labels = { 'shoal.autoscale.max': '9', 'shoal.autoscale.cpu': '70' };
  const spec = { resources: { limits: { nano_cpus: 5e8, memory_bytes: 16 << 20 } } };
  const running = { service_id: 's', node_id: 'n1', spec, status: { state: TaskState.RUNNING } };
  const ended = { ...running, desired_state: TaskState.SHUTDOWN };
  const wanted = { ...running, desired_state: TaskState.RUNNING };
  await store.seed({
    service: [aService('s', { spec: { annotations: { name: 'web', labels }, replicated: { replicas: 4 } } })],
    task: [
      aTask('t2', { ...wanted, slot: 2 }),
      aTask('t1', { ...wanted, slot: 1 }),
      aTask('t3', { ...wanted, slot: 3 }),
      aTask('t4', { ...wanted, slot: 4 }),
      aTask('t5', { ...ended, slot: 5 }),
      aTask('t6', { ...wanted, slot: 6, status: { state: TaskState.READY } }),
    ],
  });
  const stats = await control.GetServiceStats({ reference: 'web' });
  expect(stats).toMatchObject({
    fresh: 2,
    cpu_percent: 50,
    memory_percent: 50,
    autoscale: { min: 1, max: 9, cpu_target: 70, memory_target: 0 },
  });
  expect(
    stats.tasks.map((task) => [task.task_id, task.known, task.cpu_percent, task.memory_bytes, task.age_ms]),
  ).toEqual([
    ['t1', true, 40, 8 << 20, 3000],
    ['t2', true, 10, 0, 1000],
    ['t3', true, 50, 1 << 20, 100_000],
    ['t4', false, 0, 0, 0],
  ]);
  expect(stats.tasks[0]).toMatchObject({ nano_cpus_limit: 5e8, memory_limit_bytes: 16 << 20, node_id: 'n1' });
  await expect(control.GetServiceStats({ reference: 'nosuch' })).rejects.toMatchObject({ code: 'NotFound' });
});
