import { expect, test } from 'vitest';
import { VirtualClock } from '../base/index.ts';
import { RESTART_GRACE_MS } from './dispatcher/index.ts';
import { StartGrace } from './start-grace.ts';

test('a manager that was just restarted gives others time to start, too', () => {
  const clock = new VirtualClock();
  const grace = new StartGrace(clock);
  expect([grace.restarted, grace.awaitMs]).toEqual([false, 0]);
  grace.begin();
  expect(grace.restarted).toBe(true);
  clock.advance(RESTART_GRACE_MS - 1);
  expect(grace.restarted).toBe(true);
  clock.advance(1);
  expect(grace.restarted).toBe(false);
});

test('a manager that found a leader after its restart does not', () => {
  const grace = new StartGrace(new VirtualClock());
  grace.begin();
  grace.leaderFound();
  expect(grace.restarted).toBe(false);
});

test('a restored cluster is waited for as long as was asked', () => {
  const clock = new VirtualClock();
  const grace = new StartGrace(clock);
  clock.advance(5_000);
  grace.begin(600_000);
  clock.advance(100_000);
  expect([grace.restarted, grace.awaitMs]).toEqual([false, 500_000]);
});
