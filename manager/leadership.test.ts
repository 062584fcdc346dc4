import { describe, expect, it } from 'vitest';
import { SeededRandom, VirtualClock, type LogFields, type Logger } from '../base/index.ts';
import { DRAIN_WARNING_MS, Leadership } from './leadership.ts';
import type { LeaderDuty } from './store/types.ts';

interface Line {
  message: string;
  fields: LogFields | undefined;
}

function recorder(): { log: Logger; lines: Line[] } {
  const lines: Line[] = [];
  const add = (message: string, fields?: LogFields): void => void lines.push({ message, fields });
  const log: Logger = { debug: add, info: add, warn: add, error: add, with: () => log };
  return { log, lines };
}

function untilAborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    signal.addEventListener('abort', () => resolve(), { once: true });
  });
}

function leadershipOf(duties: LeaderDuty[]): { leadership: Leadership; clock: VirtualClock; lines: Line[] } {
  const { log, lines } = recorder();
  const clock = new VirtualClock(1_000);
  const options = { duties, prepare: () => Promise.resolve(), clock, random: new SeededRandom(1), log };
  return { leadership: new Leadership(options), clock, lines };
}

describe('the duties of a leader', () => {
  it('are named in the log while they do not end, and the next term waits for them', async () => {
    let release: () => void = () => undefined;
    let starts = 0;
    const stuck: LeaderDuty = {
      name: 'stuck',
      run: async () => {
        starts++;
        await new Promise<void>((resolve) => {
          release = resolve;
        });
      },
    };
    const { leadership, clock, lines } = leadershipOf([{ name: 'good', run: untilAborted }, stuck]);
    leadership.begin();
    await clock.advanceAsync(1);
    expect(leadership.status().duties.map(({ name, runningSinceMs }) => [name, runningSinceMs])).toEqual([
      ['good', 1_000],
      ['stuck', 1_000],
    ]);
    leadership.end();
    await clock.advanceAsync(DRAIN_WARNING_MS - 1);
    expect(leadership.status()).toEqual({ leadingSinceMs: undefined, duties: [], draining: ['stuck'] });
    const warnings = (): Line[] => lines.filter(({ message }) => message.includes('did not end with its term'));
    expect(warnings()).toEqual([]);
    await clock.advanceAsync(1);
    expect(warnings()).toMatchObject([{ fields: { duties: ['stuck'], waitedMs: DRAIN_WARNING_MS } }]);
    leadership.begin();
    await clock.advanceAsync(DRAIN_WARNING_MS);
    expect(warnings()).toHaveLength(2);
    expect(leadership.status()).toMatchObject({ duties: [], draining: ['stuck'] });
    release();
    await clock.advanceAsync(1);
    expect(starts).toBe(2);
    expect(leadership.status().draining).toEqual([]);
    release();
    await leadership.stop();
    await clock.advanceAsync(DRAIN_WARNING_MS);
    expect(warnings()).toHaveLength(2);
  });

  it('start again when they fail, and the status tells how often and why', async () => {
    let runs = 0;
    const shaky: LeaderDuty = {
      name: 'shaky',
      run: async (signal) => {
        if (++runs <= 2) throw new Error(`failure ${runs}`);
        await untilAborted(signal);
      },
    };
    const { leadership, clock } = leadershipOf([shaky]);
    leadership.begin();
    await clock.advanceAsync(1);
    expect(leadership.status().duties).toMatchObject([{ runningSinceMs: undefined, restarts: 1 }]);
    await clock.advanceAsync(10_000);
    expect(leadership.status()).toMatchObject({
      leadingSinceMs: 1_000,
      duties: [{ name: 'shaky', restarts: 2, lastError: 'failure 2' }],
    });
    expect(leadership.status().duties[0]?.runningSinceMs).toBeGreaterThan(1_000);
    await leadership.stop();
  });
});
