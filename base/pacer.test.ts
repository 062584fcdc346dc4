import { describe, expect, it } from 'vitest';
import { VirtualClock } from './clock.ts';
import { TurnPacer } from './pacer.ts';

const settle = async (): Promise<void> => {
  for (let i = 0; i < 5; i++) await Promise.resolve();
};

describe('turn pacer', () => {
  it('begins no more works in a turn than it may, in order, and all in the end', async () => {
    const clock = new VirtualClock();
    const pacer = new TurnPacer({ clock, perTurn: 3, waitingMax: 100, what: 'works' });
    const begun: number[] = [];
    const all = Array.from({ length: 10 }, async (_, i) => {
      await pacer.turn();
      begun.push(i);
    });
    await settle();
    const seen = [begun.length];
    for (let turn = 0; turn < 4; turn++) {
      clock.advance(1);
      await settle();
      seen.push(begun.length);
    }
    expect(seen).toEqual([3, 6, 9, 10, 10]);
    await Promise.all(all);
    expect(begun).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  });

  it('few works never wait', async () => {
    const clock = new VirtualClock();
    const pacer = new TurnPacer({ clock, perTurn: 2, waitingMax: 1, what: 'works' });
    for (let i = 0; i < 5; i++) {
      await pacer.turn();
      await pacer.turn();
      clock.advance(1);
    }
    expect(pacer.waiting).toBe(0);
  });

  it('tells its limit to those who come when too many wait', async () => {
    const clock = new VirtualClock();
    const pacer = new TurnPacer({ clock, perTurn: 1, waitingMax: 2, what: 'requests' });
    const fine = [pacer.turn(), pacer.turn(), pacer.turn()];
    await expect(pacer.turn()).rejects.toMatchObject({
      code: 'ResourceExhausted',
      message: 'more than 2 requests wait; try again later',
    });
    clock.advance(1);
    clock.advance(1);
    await Promise.all(fine);
  });
});
