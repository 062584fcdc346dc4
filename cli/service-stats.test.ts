import { expect, it } from 'vitest';
import { VirtualClock } from '../base/index.ts';
import type { Client } from './client.ts';
import type { Context } from './context.ts';
import { readOptions } from './options.ts';
import type { ServiceStats } from './objects.ts';
import { autoscaleLine, serviceStatsCommands } from './service-stats.ts';

const clock = new VirtualClock(Date.parse('2026-11-21T12:00:30Z'));
const last = {
  FromReplicas: 2,
  ToReplicas: 4,
  CPUPercent: 93,
  MemoryPercent: 0,
  ChangedAt: '2026-11-21T12:00:18Z',
  Message: 'scaled from 2 to 4 replicas: CPU 93 % (target 50 %) for 15s',
};
const stats: ServiceStats = {
  ServiceID: 's',
  Name: 'web',
  Running: 3,
  Fresh: 3,
  CPUPercent: 60.7,
  MemoryPercent: 25,
  Autoscale: { Replicas: 4, Min: 2, Max: 8, CPUTarget: 50, Last: last },
  Tasks: [
    {
      ID: 'a'.repeat(25),
      Slot: 1,
      NodeID: 'n1',
      CPUPercent: 61.25,
      MemoryBytes: 8 << 20,
      AgeMs: 2100,
      MemoryLimitBytes: 32 << 20,
    },
    { ID: 'b'.repeat(25), Slot: 2, NodeID: 'n1', CPUPercent: 0, MemoryBytes: 1 << 20, AgeMs: 100 },
    { ID: 'c'.repeat(25), Slot: 3, NodeID: 'n2' },
  ],
};

it('says in a line what the autoscaler aims at, sees and has done', () => {
  expect(autoscaleLine(stats, clock.now())).toBe(
    'autoscale: web: 4 replicas (2..8), CPU 61 % of 50 %, last change 12 seconds ago: scaled from 2 to 4 replicas: ' +
      'CPU 93 % (target 50 %) for 15s',
  );
  const scale = { Replicas: 4, Min: 2, Max: 8, MemoryTarget: 80 };
  expect(autoscaleLine({ ...stats, Fresh: 0, Autoscale: scale }, clock.now())).toBe(
    'autoscale: web: 4 replicas (2..8), memory -- % of 80 %, 0 of 3 tasks tell their use, not changed yet',
  );
  const { Autoscale: _, ...plain } = stats;
  expect(autoscaleLine(plain, clock.now())).toBeUndefined();
});

it("shows tasks in docker's form, and a sign for what is not known", async () => {
  const command = serviceStatsCommands['stats'];
  let [out, err] = ['', ''];
  const client = {
    get: async (path: string) => (path === '/shoal/services/web/stats' ? stats : undefined),
  } as unknown as Client;
  const context = {
    client,
    clock,
    out: { write: (text: string) => void (out += text) },
    err: { write: (text: string) => void (err += text) },
  } as unknown as Context;
  const { flags, words } = readOptions(command?.options ?? [], ['--no-resolve', 'web'], false);
  await command?.run(context, flags, words);
  expect(
    out
      .trimEnd()
      .split('\n')
      .map((line) => line.trimEnd()),
  ).toEqual([
    'TASK      NODE      CPU %     MEM USAGE / LIMIT   MEM %',
    'web.1     n1        61.25%    8MiB / 32MiB        25.00%',
    'web.2     n1        0.00%     1MiB / --           --',
    'web.3     n2        --        -- / --             --',
  ]);
  expect(err).toContain('autoscale: web: 4 replicas');
});
