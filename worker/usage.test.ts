import { expect, it, vi } from 'vitest';
import { silentLogger, VirtualClock } from '../base/index.ts';
import { Task, TaskState, type TaskUsage } from '../proto/index.ts';
import type { TaskController, TaskUse } from './executor.ts';
import { USAGE_INTERVAL_MS, USAGE_MAX, UsageMeter } from './usage.ts';

const HEARTBEAT_MS = 1000;

function node(count: number, use: (i: number) => TaskUse | undefined) {
  const clock = new VirtualClock(7_000_000);
  const usage = vi.fn(use);
  const sources = Array.from({ length: count }, (_, i) => ({
    task: Task.create({ id: `t${i}` }),
    state: TaskState.RUNNING as TaskState,
    controller: { usage: () => usage(i) } as unknown as TaskController,
  }));
  const meter = new UsageMeter({ sources: () => sources, clock, log: silentLogger });
  const { signal } = new AbortController();
  /** One heartbeat, and the time until the next. */
  const beat = async (): Promise<TaskUsage[]> => {
    const sent = meter.take(signal);
    for (let i = 0; i < 200; i++) await clock.advanceAsync(0);
    await clock.advanceAsync(HEARTBEAT_MS);
    return sent;
  };
  return { clock, sources, usage, beat };
}

it('reads running tasks every 5 s, and sends each reading once, with the next heartbeat', async () => {
  const { clock, sources, beat } = node(3, (i) => ({ cpuNs: 100 + i, memoryBytes: 10 * i, atMs: clock.monotonic() }));
  (sources[2] as { state: TaskState }).state = TaskState.READY;
  const began = clock.monotonic();
  expect(await beat()).toEqual([]);
  expect(await beat()).toEqual([
    { task_id: 't0', cpu_ns: 100, memory_bytes: 0, at_ns: began * 1e6 },
    { task_id: 't1', cpu_ns: 101, memory_bytes: 10, at_ns: began * 1e6 },
  ]);
  const later: number[] = [];
  for (let i = 0; i < 10; i++) later.push((await beat()).length);
  expect(later.filter((count) => count > 0)).toHaveLength(Math.floor(10 / (USAGE_INTERVAL_MS / HEARTBEAT_MS)));
});

it('spreads more tasks than a message takes over several heartbeats, each once in a round', async () => {
  const { beat } = node(2 * USAGE_MAX + 5, () => ({ cpuNs: 1, memoryBytes: 1, atMs: 1 }));
  await beat();
  const rounds = [await beat(), await beat(), await beat()];
  expect(rounds.map((round) => round.length)).toEqual([USAGE_MAX, USAGE_MAX, 5]);
  expect(new Set(rounds.flat().map((one) => one.task_id)).size).toBe(2 * USAGE_MAX + 5);
});

it('goes on when a task cannot be read, does not run, or the host does not count memory', async () => {
  const { beat } = node(3, (i) => {
    if (i === 0) throw new Error('EIO');
    return i === 1 ? undefined : { cpuNs: 5, memoryBytes: undefined, atMs: 1 };
  });
  await beat();
  expect(await beat()).toEqual([{ task_id: 't2', cpu_ns: 5, memory_bytes: 0, at_ns: 1e6 }]);
});

it('keeps numbers on the wire exact after months', async () => {
  const { beat } = node(1, () => ({ cpuNs: 2 ** 53 + 4096, memoryBytes: 1, atMs: 1.5 }));
  await beat();
  expect(await beat()).toEqual([{ task_id: 't0', cpu_ns: 4096, memory_bytes: 1, at_ns: 1_500_000 }]);
});
