import { beforeEach, describe, expect, it } from 'vitest';
import { silentLogger, VirtualClock } from '../../base/index.ts';
import {
  Admission,
  HANDSHAKE_PLACE_MS,
  HANDSHAKE_TIMEOUT_MS,
  HANDSHAKES_MAX,
  HANDSHAKES_PER_TURN,
  UNFINISHED_MAX,
  WAITING_MAX,
  WAITING_TIMEOUT_MS,
  type Arrival,
} from './admission.ts';

const MANAGER = '10.0.0.1';
let clock: VirtualClock;
let admission: Admission;
let begun: string[];
let dropped: string[];
let warned: Record<string, unknown>[];

function arrival(name: string, host = '10.0.0.9'): Arrival {
  return { host, begin: () => begun.push(name), drop: () => dropped.push(name) };
}

beforeEach(() => {
  clock = new VirtualClock();
  [begun, dropped, warned] = [[], [], []];
  const log = {
    ...silentLogger,
    warn: (_: string, fields?: Record<string, unknown>) => void warned.push(fields ?? {}),
  };
  admission = new Admission({ clock, log, isPreferred: (host) => host === MANAGER });
});

describe('admission of connections', () => {
  it('begins few handshakes in one turn, and has few under way', () => {
    const all = Array.from({ length: 500 }, (_, i) => arrival(`a${i}`));
    for (const one of all) admission.offer(one);
    let before = 0;
    for (let turn = 0; begun.length < 500 && turn < 1000; turn++) {
      expect(begun.length - before).toBeLessThanOrEqual(HANDSHAKES_PER_TURN);
      expect(admission.unfinished).toBeLessThanOrEqual(HANDSHAKES_MAX);
      before = begun.length;
      // Those that were begun four turns ago have ended.
      for (const one of all.slice(0, Math.max(0, before - 4 * HANDSHAKES_PER_TURN))) admission.done(one);
      clock.advance(1);
    }
    expect(begun).toEqual(all.map((_, i) => `a${i}`));
    for (const one of all) admission.done(one);
    expect([admission.waiting, admission.unfinished, dropped.length]).toEqual([0, 0, 0]);
  });

  it('begins a single handshake at once', () => {
    admission.offer(arrival('one'));
    expect(begun).toEqual(['one']);
  });

  it('takes managers first, and hosts in turns', () => {
    for (let i = 0; i < 100; i++) admission.offer(arrival(`many${i}`));
    admission.offer(arrival('other', '10.0.0.8'));
    admission.offer(arrival('manager', MANAGER));
    clock.advance(1);
    expect(begun.slice(HANDSHAKES_PER_TURN)[0]).toBe('manager');
    clock.advance(2);
    expect(begun.slice(0, 3 * HANDSHAKES_PER_TURN + 1)).toContain('other');
  });

  it('keeps places for managers while others take all of theirs', () => {
    for (let i = 0; i < 200; i++) admission.offer(arrival(`a${i}`));
    clock.advance(HANDSHAKES_MAX);
    expect(begun).toHaveLength(HANDSHAKES_MAX);
    admission.offer(arrival('manager', MANAGER));
    clock.advance(1);
    expect(begun.at(-1)).toBe('manager');
  });

  it('half-open handshakes lose their place first, then their connection', () => {
    for (let i = 0; i < HANDSHAKES_MAX; i++) admission.offer(arrival(`silent${i}`));
    admission.offer(arrival('good'));
    clock.advance(HANDSHAKE_PLACE_MS - 1);
    expect(begun).not.toContain('good');
    clock.advance(HANDSHAKES_MAX + 1);
    expect(begun).toContain('good');
    expect(dropped).toEqual([]);
    clock.advance(HANDSHAKE_TIMEOUT_MS);
    expect(dropped).toHaveLength(HANDSHAKES_MAX + 1);
    expect(admission.unfinished).toBe(0);
  });

  it('no more than so many may be half-open, and who waits too long is dropped', () => {
    for (let i = 0; i < WAITING_MAX; i++) admission.offer(arrival(`a${i}`));
    const until = Math.max(HANDSHAKE_TIMEOUT_MS, WAITING_TIMEOUT_MS) + HANDSHAKE_TIMEOUT_MS + 1000;
    for (let ms = 0; ms < until; ms += 100) {
      clock.advance(100);
      expect(admission.unfinished).toBeLessThanOrEqual(UNFINISHED_MAX + HANDSHAKES_MAX);
    }
    expect([dropped.length, admission.waiting, admission.unfinished]).toEqual([WAITING_MAX, 0, 0]);
    expect(begun.length).toBeLessThan(WAITING_MAX);
  });

  it('closes what comes beyond the limit at once, and says so once in a while', () => {
    for (let i = 0; i < WAITING_MAX + HANDSHAKES_PER_TURN; i++) admission.offer(arrival(`a${i}`));
    expect(dropped).toEqual([]);
    for (let i = 0; i < 100; i++) admission.offer(arrival(`late${i}`));
    expect(dropped).toHaveLength(100);
    expect(warned).toEqual([{ refused: 1, waiting: WAITING_MAX, waitingMax: WAITING_MAX }]);
    admission.offer(arrival('manager', MANAGER));
    clock.advance(1);
    expect(begun.at(-1)).not.toBe('late0');
    expect(begun).toContain('manager');
  });

  it('a connection that is gone before its turn is forgotten; closing drops all', () => {
    const all = Array.from({ length: 20 }, (_, i) => arrival(`a${i}`));
    for (const one of all) admission.offer(one);
    admission.done(all[19] as Arrival);
    expect(admission.waiting).toBe(19 - HANDSHAKES_PER_TURN);
    admission.close();
    admission.offer(arrival('late'));
    expect(dropped).toHaveLength(20);
    expect(dropped).not.toContain('a19');
    expect(dropped).toContain('late');
    clock.advance(60_000);
    expect(dropped).toHaveLength(20);
  });
});
