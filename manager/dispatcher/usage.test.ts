import { describe, expect, it } from 'vitest';
import { NODE_TASKS_MAX, NodeUsage } from './usage.ts';

const reading = (task_id: string, atMs: number, cpuMs: number, memory_bytes = 1 << 20) => ({
  task_id,
  at_ns: atMs * 1e6,
  cpu_ns: cpuMs * 1e6,
  memory_bytes,
});

describe('what the tasks of a node use', () => {
  it('is the rate between two readings by the agent clock, whenever they arrive', () => {
    const usage = new NodeUsage();
    usage.take([reading('a', 50_000, 900)], 10);
    expect(usage.of('a')).toBeUndefined();
    usage.take([reading('a', 55_000, 3400, 2 << 20)], 6010);
    expect(usage.of('a')).toEqual({ cpuPercentOfOne: 50, memoryBytes: 2 << 20, atMs: 6010 });
    usage.take([reading('a', 60_000, 13_400, 0)], 11_010);
    expect(usage.of('a')).toEqual({ cpuPercentOfOne: 200, memoryBytes: undefined, atMs: 11_010 });
  });

  it('makes no rate of readings that are too close, and begins anew when counters went back', () => {
    const usage = new NodeUsage();
    usage.take([reading('a', 0, 0)], 0);
    usage.take([reading('a', 5000, 500)], 5000);
    usage.take([reading('a', 5001, 501)], 5001);
    expect(usage.of('a')?.cpuPercentOfOne).toBe(10);
    usage.take([reading('a', 10_000, 1000)], 10_000);
    expect(usage.of('a')?.cpuPercentOfOne).toBe(10);
    usage.take([reading('a', 200, 3)], 15_000);
    expect(usage.of('a')).toBeUndefined();
    usage.take([reading('a', 5200, 53)], 20_000);
    expect(usage.of('a')?.cpuPercentOfOne).toBe(1);
  });

  it('forgets tasks that left and those that are told of no more, and is bounded', () => {
    const usage = new NodeUsage();
    const many = Array.from({ length: NODE_TASKS_MAX + 10 }, (_, i) => reading(`t${i}`, 0, 0));
    usage.take(many, 100_000);
    expect(usage.size).toBe(NODE_TASKS_MAX);
    usage.forget('t0');
    expect(usage.size).toBe(NODE_TASKS_MAX - 1);
    usage.take([reading('t1', 70_000, 0)], 170_000);
    expect(usage.size).toBe(1);
  });
});
