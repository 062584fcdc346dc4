import { describe, expect, it } from 'vitest';
import { abortReason, systemClock, VirtualClock } from './clock.ts';

describe('virtual clock', () => {
  it('runs timers at their own instants, in the order they were set', () => {
    const clock = new VirtualClock(1000);
    const seen: string[] = [];
    const note = (name: string) => () => seen.push(`${name}@${clock.now()}`);
    clock.after(20, note('late'));
    clock.after(10, note('first'));
    clock.after(10, note('second'));
    clock.after(10, () => clock.after(5, note('nested')));
    expect(clock.nextTimerAt()).toBe(1010);
    clock.advance(9);
    expect(seen).toEqual([]);
    clock.advance(11);
    expect(seen).toEqual(['first@1010', 'second@1010', 'nested@1015', 'late@1020']);
    expect(clock.now()).toBe(1020);
    expect(clock.monotonic()).toBe(1020);
    expect(clock.nextTimerAt()).toBeUndefined();
  });

  it('forgets a cancelled timer', () => {
    const clock = new VirtualClock();
    let ran = false;
    const timer = clock.after(5, () => (ran = true));
    timer.cancel();
    timer.cancel();
    clock.advance(10);
    expect(ran).toBe(false);
  });

  it('lets code that awaits go on between timers', async () => {
    const clock = new VirtualClock();
    const seen: number[] = [];
    const loop = (async () => {
      for (let i = 0; i < 3; i++) {
        await clock.sleep(10);
        seen.push(clock.now());
      }
    })();
    await clock.advanceAsync(25);
    expect(seen).toEqual([10, 20]);
    await clock.advanceAsync(5);
    await loop;
    expect(seen).toEqual([10, 20, 30]);
  });

  it('refuses delays that are no time', () => {
    const clock = new VirtualClock();
    expect(() => clock.after(-1, () => undefined)).toThrow('not negative');
    expect(() => clock.after(Number.NaN, () => undefined)).toThrow('finite');
    expect(() => clock.advance(-1)).toThrow('go back');
  });
});

describe('sleep', () => {
  it('ends with the reason of an abort, and leaves no timer', async () => {
    const clock = new VirtualClock();
    const controller = new AbortController();
    const sleeping = clock.sleep(1000, controller.signal);
    controller.abort(new Error('enough'));
    await expect(sleeping).rejects.toThrow('enough');
    expect(clock.nextTimerAt()).toBeUndefined();
    await expect(clock.sleep(1, controller.signal)).rejects.toThrow('enough');
  });

  it('gives an Error for any reason', () => {
    expect(abortReason(AbortSignal.abort('words'))).toEqual(new Error('words'));
  });

  it('works on the machine clock, which never goes back', async () => {
    const before = systemClock.monotonic();
    await systemClock.sleep(2);
    expect(systemClock.monotonic()).toBeGreaterThan(before);
    expect(Math.abs(systemClock.now() - Date.now())).toBeLessThan(1000);
    let ran = false;
    systemClock.after(1, () => (ran = true)).cancel();
    await systemClock.sleep(5);
    expect(ran).toBe(false);
  });
});
