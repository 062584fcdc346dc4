import { describe, expect, it } from 'vitest';
import { VirtualClock, type Clock } from '../../base/index.ts';
import { Deadline } from './session.ts';

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
