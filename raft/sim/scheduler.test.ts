import { expect, test } from 'vitest';
import { Scheduler, SECOND_EVENTS_MAX } from './scheduler.ts';

// Found by the control plane's seed 70: a deadline armed itself anew at one and the same moment, without end.
test('time goes on by a delay that is too short for the precision of the clock', async () => {
  const scheduler = new Scheduler();
  const start = 269_249.5;
  const deadline = start + 2 ** -34;
  await scheduler.run(start, () => false);
  let looks = 0;
  const look = (): void => {
    looks++;
    // Half of what two moments differ by at the least here.
    if (looks < 100 && scheduler.now < deadline) scheduler.after(2 ** -35, look);
  };
  scheduler.after(0, look);
  await scheduler.run(deadline + 1, () => false);
  expect(looks).toBe(2);
});

test('a storm fails instead of filling the memory', async () => {
  const scheduler = new Scheduler();
  const storm = (): void => void scheduler.after(0.000_9, storm);
  scheduler.after(0, storm);
  await expect(scheduler.run(10_000, () => false)).rejects.toThrow('messages come to an end');
  expect(scheduler.events).toBe(SECOND_EVENTS_MAX + 1);
});
