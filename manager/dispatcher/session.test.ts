import { describe, expect, it } from 'vitest';
import { VirtualClock, type Clock } from '../../base/index.ts';
import { Cluster } from '../../proto/index.ts';
import { defaultClusterSpec } from '../ca/index.ts';
import { Deadline } from './session.ts';
import { heartbeatTimes } from './settings.ts';

describe('deadline', () => {
  it('expires once, at the time it was moved to', () => {
    const clock = new VirtualClock();
    let expired = 0;
    const deadline = new Deadline(clock, 1000, () => expired++);
    clock.advance(900);
    deadline.extend(1000);
    clock.advance(999);
    expect(expired).toBe(0);
    clock.advance(1);
    clock.advance(5000);
    expect(expired).toBe(1);
  });

  it('gives back the time in which this process stood still', () => {
    const virtual = new VirtualClock();
    let stallMs = 0;
    const clock: Clock = {
      now: () => virtual.now() + stallMs,
      monotonic: () => virtual.monotonic() + stallMs,
      after: (delayMs, run) => virtual.after(delayMs, run),
      sleep: (delayMs, signal) => virtual.sleep(delayMs, signal),
    };
    let expired = 0;
    const deadline = new Deadline(clock, 1000, () => expired++);
    virtual.advance(500);
    stallMs = 3000;
    virtual.advance(500);
    expect(expired).toBe(0);
    virtual.advance(2999);
    expect(expired).toBe(0);
    virtual.advance(1);
    expect(expired).toBe(1);
    deadline.cancel();
  });
});

describe('the time between heartbeats', () => {
  it('grows with thousands of agents, never beyond a third of the silence that means Down', () => {
    // As every new cluster has them.
    const usual = Cluster.create({ spec: defaultClusterSpec() });
    expect(heartbeatTimes(usual, true, 2_500)).toEqual({ periodMs: 1000, downAfterMs: 5000 });
    expect(heartbeatTimes(usual, true, 3_000)).toEqual({ periodMs: 1200, downAfterMs: 5000 });
    expect(heartbeatTimes(usual, true, 100_000)).toEqual({ periodMs: 5000 / 3, downAfterMs: 5000 });
  });

  it('is what the cluster sets, however many there are', () => {
    const cluster = Cluster.create({
      spec: { dispatcher: { heartbeat_period: { seconds: 2, nanos: 0 }, down_after: { seconds: 20, nanos: 0 } } },
    });
    expect(heartbeatTimes(cluster, true, 100_000)).toEqual({ periodMs: 2000, downAfterMs: 20_000 });
  });
});
