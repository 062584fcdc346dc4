import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { AutoscaleSettings } from '../settings/index.ts';
import { neededReplicas, planAutoscale, remember, SAMPLE_GAP_MAX_MS, type AutoscaleHistory } from './autoscale.ts';

const TICK_MS = 2000;

const settings = (fields: Partial<AutoscaleSettings> = {}): AutoscaleSettings => ({
  min: 1,
  max: 100,
  cpuPercent: 50,
  memoryPercent: undefined,
  upAfterMs: 10_000,
  downAfterMs: 30_000,
  ...fields,
});

/** A service in time: `load(nowMs)` per cent in all, shared evenly by its replicas. */
class Simulation {
  nowMs = 1_000_000;
  replicas: number;
  history: AutoscaleHistory | undefined;
  readonly changes: { atMs: number; from: number; to: number }[] = [];
  readonly settings: AutoscaleSettings;

  constructor(replicas: number, how: AutoscaleSettings) {
    this.replicas = replicas;
    this.settings = how;
  }

  run(ms: number, load: (nowMs: number) => number): this {
    for (let passed = 0; passed < ms; passed += TICK_MS) {
      this.nowMs += TICK_MS;
      const each = load(this.nowMs) / this.replicas;
      const percents = Array.from({ length: this.replicas }, () => each);
      this.take(neededReplicas(percents, this.replicas, this.settings.cpuPercent ?? 50));
    }
    return this;
  }

  take(needed: number): void {
    this.history = remember(this.history, this.replicas, needed, this.settings, this.nowMs);
    const plan = planAutoscale(this.history, this.settings, this.nowMs);
    if (plan === undefined) return;
    this.changes.push({ atMs: this.nowMs, from: this.replicas, to: plan.replicas });
    this.replicas = plan.replicas;
  }
}

const someSettings = fc
  .record({
    min: fc.integer({ min: 1, max: 20 }),
    more: fc.integer({ min: 0, max: 40 }),
    cpuPercent: fc.integer({ min: 1, max: 200 }),
    upAfterMs: fc.integer({ min: 0, max: 20_000 }),
    downAfterMs: fc.integer({ min: 0, max: 60_000 }),
  })
  .map(({ min, more, ...rest }) => settings({ min, max: min + more, ...rest }));

describe('how many replicas a use asks for', () => {
  it('shares the use so that each comes to the target, and leaves small differences alone', () => {
    expect(neededReplicas([93, 93], 2, 50)).toBe(4);
    expect(neededReplicas([54, 55], 2, 50)).toBe(2);
    expect(neededReplicas([10, 10, 10, 10], 4, 50)).toBe(1);
    expect(neededReplicas([46, 46, 46, 46], 4, 50)).toBe(4);
    expect(neededReplicas([60, 60, 60, 60, 60], 5, 50)).toBe(6);
  });

  it('takes replicas of unknown use for idle when it asks for more, for busy when it asks for fewer', () => {
    // Two of four have only just come: the two old ones alone are no reason for eight.
    expect(neededReplicas([93, 93], 4, 50)).toBe(4);
    expect(neededReplicas([10, 10], 4, 50)).toBe(3);
    expect(neededReplicas([], 4, 50)).toBe(4);
    expect(neededReplicas([0], 1, 50)).toBe(1);
  });
});

describe('the plan', () => {
  it('scales up when the whole window asked for it, and by the most modest sample', () => {
    const simulation = new Simulation(2, settings());
    simulation.run(10_000, () => 190);
    expect(simulation.changes).toEqual([]);
    simulation.run(2000, () => 150);
    expect(simulation.changes).toMatchObject([{ from: 2, to: 3 }]);
  });

  it('ignores a burst that is shorter than the window, and a lull too', () => {
    const burst = new Simulation(4, settings({ min: 4 })).run(300_000, (now) => (now % 20_000 < 8000 ? 4000 : 200));
    expect(burst.changes).toEqual([]);
    const lull = new Simulation(4, settings()).run(300_000, (now) => (now % 30_000 < 26_000 ? 20 : 200));
    expect(lull.changes).toEqual([]);
  });

  it('scales down by the most demanding sample of its own, longer window', () => {
    const simulation = new Simulation(8, settings()).run(28_000, (now) => (now % 10_000 === 0 ? 140 : 40));
    expect(simulation.changes).toEqual([]);
    simulation.run(6000, () => 40);
    expect(simulation.changes).toMatchObject([{ from: 8, to: 3 }]);
  });

  it('at the most doubles in one step, and looks at the new ones for a window before the next', () => {
    const simulation = new Simulation(1, settings({ max: 64 })).run(120_000, () => 2000);
    expect(simulation.changes.map((change) => change.to)).toEqual([2, 4, 8, 16, 32, 40]);
    for (const [i, change] of simulation.changes.entries()) {
      if (i > 0) expect(change.atMs - (simulation.changes[i - 1]?.atMs ?? 0)).toBeGreaterThanOrEqual(10_000);
    }
  });

  it('corrects what is out of bounds at once, even when nothing is known of the use', () => {
    const bounds = settings({ min: 3, max: 5 });
    expect(planAutoscale({ replicas: 1, samples: [] }, bounds, 0)).toMatchObject({ replicas: 3, why: 'below-min' });
    expect(planAutoscale({ replicas: 0, samples: [] }, bounds, 0)).toMatchObject({ replicas: 3 });
    expect(planAutoscale({ replicas: 9, samples: [] }, bounds, 0)).toMatchObject({ replicas: 5, why: 'above-max' });
    expect(planAutoscale({ replicas: 4, samples: [] }, bounds, 0)).toBeUndefined();
  });

  it('begins the windows anew after a gap, and after a change by the user', () => {
    const simulation = new Simulation(2, settings());
    simulation.run(10_000, () => 190);
    simulation.nowMs += SAMPLE_GAP_MAX_MS + 1;
    simulation.run(10_000, () => 190);
    expect(simulation.changes).toEqual([]);
    simulation.replicas = 3;
    simulation.run(10_000, () => 190);
    expect(simulation.changes).toEqual([]);
    simulation.run(2000, () => 190);
    expect(simulation.changes).toMatchObject([{ from: 3, to: 4 }]);
  });

  it('keeps a bounded number of samples for a window of a week, and still fills it', () => {
    const downAfterMs = 7 * 24 * 3_600_000;
    const simulation = new Simulation(4, settings({ downAfterMs }));
    simulation.run(downAfterMs / 4, () => 40);
    expect(simulation.history?.samples.length).toBeLessThanOrEqual(256);
    expect(simulation.changes).toEqual([]);
    simulation.run(downAfterMs, () => 40);
    expect(simulation.changes).toMatchObject([{ from: 4, to: 1 }]);
    expect((simulation.changes[0]?.atMs ?? 0) - 1_000_000).toBeGreaterThanOrEqual(downAfterMs);
  });
});

describe('for any settings', () => {
  it('a constant load leads to a number that stays, near the target, without going up and down', () => {
    fc.assert(
      fc.property(
        someSettings,
        fc.integer({ min: 1, max: 60 }),
        fc.double({ min: 0, max: 5000, noNaN: true }),
        (how, begin, load) => {
          const simulation = new Simulation(begin, how).run(600_000, () => load);
          const at = simulation.replicas;
          simulation.changes.length = 0;
          simulation.run(600_000, () => load);
          expect(simulation.changes).toEqual([]);
          const target = how.cpuPercent ?? 0;
          if (at < how.max) expect(load / at).toBeLessThanOrEqual(target * 1.1 + 1e-6);
          if (at > how.min) expect(load / (at - 1)).toBeGreaterThan(target * 0.9 - 1e-6);
        },
      ),
      { numRuns: 60 },
    );
  });

  it('any load keeps within the bounds, doubles at the most, and changes only when a window is over', () => {
    const loads = fc.array(fc.integer({ min: 0, max: 5000 }), { minLength: 20, maxLength: 200 });
    fc.assert(
      fc.property(someSettings, loads, (how, load) => {
        const simulation = new Simulation(how.min, how);
        let lastMs = simulation.nowMs;
        load.forEach((each) => simulation.run(TICK_MS, () => each));
        for (const { atMs, from, to } of simulation.changes) {
          expect(to).toBeGreaterThanOrEqual(how.min);
          expect(to).toBeLessThanOrEqual(Math.min(how.max, from * 2));
          expect(atMs - lastMs).toBeGreaterThanOrEqual(to > from ? how.upAfterMs : how.downAfterMs);
          lastMs = atMs;
        }
      }),
      { numRuns: 100 },
    );
  });
});
