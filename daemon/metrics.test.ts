import { expect, test } from 'vitest';
import { Counters } from '../engine/index.ts';
import type { DriftKind } from '../overlay-net/index.ts';
import { daemonMetrics } from './metrics.ts';

test('what was repaired is counted by kind, containers by state', () => {
  const counts = new Map<DriftKind, number>([
    ['fdb', 2],
    ['link', 0],
  ]);
  const counters = new Counters();
  counters.took('start', 70);
  counters.took('start', 20_000);
  const engine = {
    counters,
    pressure: undefined,
    info: () => ({
      containers: { total: 3, running: 2, paused: 0, stopped: 1 },
      ...{ kernelVersion: '6.1', architecture: 'x86_64', cpus: 2, memoryBytes: 2 ** 30, dataRoot: '/' },
    }),
  };
  const hub = { published: 5, listeners: 1 };
  const metrics = daemonMetrics({
    engine,
    hub,
    repairs: { counts: () => counts, failed: 1 },
    version: '1',
    gitCommit: 'c',
  });
  const samples = (name: string): unknown => metrics.find((metric) => metric.name === name)?.samples;
  expect(samples('shoal_network_repairs_total')).toEqual([
    { labels: { kind: 'fdb' }, value: 2 },
    { labels: { kind: 'link' }, value: 0 },
  ]);
  expect(samples('shoal_network_repair_failures_total')).toEqual([{ value: 1 }]);
  expect(samples('engine_daemon_container_states_containers')).toEqual([
    { labels: { state: 'running' }, value: 2 },
    { labels: { state: 'paused' }, value: 0 },
    { labels: { state: 'stopped' }, value: 1 },
  ]);
  expect(samples('engine_daemon_events_total')).toEqual([{ value: 5 }]);
  const durations = samples('engine_daemon_container_actions_seconds') as { suffix: string; value: number }[];
  expect(durations.map(({ value }) => value)).toEqual([0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 2, 20.07, 2]);
  for (const { name, samples: all } of metrics) {
    expect(name).toMatch(/^[a-z][a-z0-9_]+$/);
    for (const { value } of all) expect(Number.isFinite(value) && value >= 0, name).toBe(true);
  }
});
