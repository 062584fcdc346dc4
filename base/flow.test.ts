/** Queue, fan-out, loops, retries. */
import { describe, expect, it } from 'vitest';
import { VirtualClock } from './clock.ts';
import { silentLogger, type Logger } from './log.ts';
import { BoundedQueue } from './queue.ts';
import { SeededRandom } from './random.ts';
import { backoffDelayMs, retry } from './retry.ts';
import { TaskGroup } from './task-group.ts';
import { Watch } from './watch.ts';

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const out: T[] = [];
  for await (const item of items) out.push(item);
  return out;
}

describe('bounded queue', () => {
  it('keeps order, refuses when full, gives what is held after closing', async () => {
    const queue = new BoundedQueue<number>(2);
    expect([queue.push(1), queue.push(2), queue.push(3)]).toEqual([true, true, false]);
    expect(queue.length).toBe(2);
    queue.close();
    expect(queue.push(4)).toBe(false);
    expect(await collect(queue)).toEqual([1, 2]);
    expect(queue.closed).toBe(true);
  });

  it('hands items to those who wait, and ends their waiting', async () => {
    const queue = new BoundedQueue<string>(1);
    const [first, second] = [queue.next(), queue.next()];
    expect(queue.push('a')).toBe(true);
    expect(await first).toEqual({ value: 'a', done: false });
    queue.close();
    expect(await second).toEqual({ value: undefined, done: true });
  });

  it('drains without waiting', () => {
    const queue = new BoundedQueue<number>(9);
    for (let i = 0; i < 5; i++) queue.push(i);
    expect(queue.drain(2)).toEqual([0, 1]);
    expect(queue.drain()).toEqual([2, 3, 4]);
    expect(queue.drain()).toEqual([]);
    expect(() => new BoundedQueue(0)).toThrow('positive capacity');
  });
});

describe('watch', () => {
  it('gives every event to every subscriber', async () => {
    const watch = new Watch<number>();
    const [a, b] = [watch.subscribe(), watch.subscribe()];
    watch.publish(1);
    watch.publish(2);
    watch.close();
    expect(await collect(a)).toEqual([1, 2]);
    expect(b.drain()).toEqual([1, 2]);
    expect(watch.subscriberCount).toBe(0);
  });

  it('cuts the slow one off and spares the others', async () => {
    const watch = new Watch<number>();
    const slow = watch.subscribe(2);
    const quick = watch.subscribe(3);
    for (let i = 0; i < 3; i++) watch.publish(i);
    expect([slow.overflowed, quick.overflowed]).toEqual([true, false]);
    expect(watch.subscriberCount).toBe(1);
    expect(await collect(slow)).toEqual([0, 1]);
  });
});

describe('task group', () => {
  it('ends all loops together', async () => {
    const group = new TaskGroup(silentLogger);
    const ended: string[] = [];
    for (const name of ['a', 'b']) {
      group.start(name, async (signal) => {
        await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }));
        ended.push(name);
      });
    }
    expect(group.names()).toEqual(['a#0', 'b#1']);
    await group.stop();
    expect(ended).toEqual(['a', 'b']);
    expect(group.names()).toEqual([]);
    group.start('late', () => Promise.reject(new Error('never begun')));
    expect(group.names()).toEqual([]);
  });

  it('reports a loop that fails, and goes on', async () => {
    const lines: string[] = [];
    const log: Logger = { ...silentLogger, error: (message, fields) => lines.push(`${message} ${fields?.['task']}`) };
    const failed: string[] = [];
    const group = new TaskGroup(log, (name, error) => failed.push(`${name}: ${(error as Error).message}`));
    group.start('loop', () => Promise.reject(new Error('broken')));
    await expect.poll(() => group.names()).toEqual([]);
    expect(failed).toEqual(['loop: broken']);
    expect(lines).toEqual(['background task failed loop']);
    expect(group.signal.aborted).toBe(false);
    await group.stop();
  });
});

describe('retry', () => {
  const options = () => ({
    attempts: 4,
    baseMs: 100,
    capMs: 250,
    clock: new VirtualClock(),
    random: new SeededRandom(1),
  });

  it('waits longer each time, up to a cap', () => {
    const random = new SeededRandom(5);
    for (const [attempt, step] of [
      [0, 100],
      [1, 200],
      [2, 250],
      [40, 250],
    ] as const) {
      const delay = backoffDelayMs(attempt, options(), random);
      expect(delay).toBeGreaterThanOrEqual(step / 2);
      expect(delay).toBeLessThanOrEqual(step);
    }
  });

  it('stops at the first success', async () => {
    const given = options();
    const seen: number[] = [];
    const result = retry(async (attempt) => {
      seen.push(attempt);
      if (attempt < 2) throw new Error('not yet');
      return 'done';
    }, given);
    await given.clock.advanceAsync(1000);
    expect(await result).toBe('done');
    expect(seen).toEqual([0, 1, 2]);
  });

  it('gives up with the last error after its attempts, and at once on errors not worth it', async () => {
    const given = options();
    let calls = 0;
    const fail = (): Promise<never> => Promise.reject(new Error(`call ${++calls}`));
    const result = expect(retry(fail, given)).rejects.toThrow('call 4');
    await given.clock.advanceAsync(2000);
    await result;
    calls = 0;
    await expect(retry(fail, { ...options(), retryable: () => false })).rejects.toThrow('call 1');
  });

  it('ends when the signal aborts while it waits', async () => {
    const controller = new AbortController();
    const result = retry(() => Promise.reject(new Error('x')), { ...options(), signal: controller.signal });
    queueMicrotask(() => controller.abort(new Error('stopped')));
    await expect(result).rejects.toThrow();
  });
});
