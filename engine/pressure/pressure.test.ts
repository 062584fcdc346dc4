import { expect, test } from 'vitest';
import { silentLogger, VirtualClock } from '../../base/index.ts';
import type { EngineEvent } from '../types.ts';
import { DiskPressure, type PressureSources } from './pressure.ts';

const HOUR_MS = 3_600_000;

/** A disk of 100 units, where everything unused takes ten. */
class FakeDisk implements PressureSources {
  used = 95;
  readonly removed: string[] = [];
  readonly refused = new Set<string>();
  images = [
    { id: 'new', names: ['new:1'], addedMs: 99 * HOUR_MS },
    { id: 'old', names: ['old:1'], addedMs: 1 * HOUR_MS },
    { id: 'dangling', names: [] as string[], addedMs: 50 * HOUR_MS },
    { id: 'fresh-dangling', names: [] as string[], addedMs: 100 * HOUR_MS - 1000 },
  ];

  #gone(what: string): void {
    if (this.refused.has(what)) throw new Error('in use');
    this.used -= 10;
    this.removed.push(what);
  }

  unusedImages = (): typeof this.images => this.images.filter(({ id }) => !this.removed.includes(id));
  removeImage = async (id: string): Promise<void> => this.#gone(id);
  removeTemporaries = async (): Promise<number> => {
    this.#gone('temporaries');
    return 3;
  };
  endedContainers = (): string[] => ['first', 'second'];
  dropLog = async (id: string): Promise<boolean> => {
    this.#gone(`log of ${id}`);
    return true;
  };
}

function make(low: number): { disk: FakeDisk; pressure: DiskPressure; events: EngineEvent[] } {
  const disk = new FakeDisk();
  const events: EngineEvent[] = [];
  const pressure = new DiskPressure({
    dataRoot: '/data',
    policy: { high: 0.9, low, imageAgeHours: 24 },
    sources: disk,
    clock: new VirtualClock(100 * HOUR_MS),
    log: silentLogger,
    onEvent: (event) => void events.push(event),
    usage: () => ({ share: disk.used / 100, sizeBytes: 1000 }),
  });
  return { disk, pressure, events };
}

test('below the high mark nothing happens', async () => {
  const { disk, pressure, events } = make(0.5);
  disk.used = 90;
  await pressure.check();
  expect(disk.removed).toEqual([]);
  expect(events).toEqual([]);
});

test('what is missed least goes first, and only down to the low mark', async () => {
  const { disk, pressure, events } = make(0.8);
  await pressure.check();
  expect(disk.removed).toEqual(['dangling', 'old']);
  expect(events).toMatchObject([
    {
      ...{ type: 'daemon', action: 'disk-pressure', actorId: '/data' },
      attributes: { before: '95%', after: '75%', freedBytes: '200', 'dangling-image': '1', 'unused-image': '1' },
    },
  ]);
  await pressure.check();
  expect(pressure.counts().cleanups).toBe(1);
});

test('what stays too full is told once', async () => {
  const { disk, pressure, events } = make(0.1);
  for (const what of ['dangling', 'old', 'temporaries', 'log of first', 'log of second']) disk.refused.add(what);
  await pressure.check();
  await pressure.check();
  expect(events).toHaveLength(1);
  disk.used = 50;
  await pressure.check();
  disk.used = 95;
  await pressure.check();
  expect(events).toHaveLength(2);
});

test('then half-made files and logs; young images stay whatever happens', async () => {
  const { disk, pressure } = make(0.1);
  disk.refused.add('old');
  await pressure.check();
  expect(disk.removed).toEqual(['dangling', 'temporaries', 'log of first', 'log of second']);
  expect(Object.fromEntries(pressure.counts().removed)).toEqual({ 'dangling-image': 1, temporary: 3, 'ended-log': 2 });
  await pressure.close();
});
