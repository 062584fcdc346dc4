import { availableParallelism } from 'node:os';
import { defineConfig } from 'vitest/config';
import { longestFirst } from '../scripts/longest-first.ts';

/** What the files take, seconds; those that are not named take less. */
const LONG = {
  'e2e/differential.e2e.ts': 60,
  'e2e/recovery.e2e.ts': 67,
  'e2e/jobs.e2e.ts': 45,
  'e2e/nodes.e2e.ts': 57,
  'e2e/autoscale.e2e.ts': 58,
  'e2e/network-sabotage-hosts.e2e.ts': 46,
  'e2e/crash.e2e.ts': 46,
  'e2e/tutorials.e2e.ts': 25,
  'e2e/network-matrix.e2e.ts': 44,
  'e2e/network-ports.e2e.ts': 43,
  'e2e/network-sabotage.e2e.ts': 43,
  'e2e/autolock.e2e.ts': 39,
  'e2e/update.e2e.ts': 39,
  'e2e/swarm.e2e.ts': 38,
  'e2e/crash-engine.e2e.ts': 36,
  'e2e/network-attach.e2e.ts': 36,
  'e2e/daemon.e2e.ts': 36,
  'e2e/chaos.e2e.ts': 31,
  'e2e/zero-drop.e2e.ts': 31,
  'e2e/image.e2e.ts': 17,
  'e2e/container.e2e.ts': 27,
  'e2e/trouble.e2e.ts': 27,
  'e2e/network-local.e2e.ts': 20,
  'e2e/control.e2e.ts': 23,
  'e2e/why.e2e.ts': 22,
  'e2e/plan.e2e.ts': 21,
  'e2e/network-idle.e2e.ts': 19,
  'e2e/network-check.e2e.ts': 17,
  'e2e/attach.e2e.ts': 15,
  'e2e/conformance.e2e.ts': 14,
};

/** Files that hold the swarm to times, or let it heal under load: they keep the company of one other, whatever the machine. */
const TIMED = ['chaos', 'crash', 'network-sabotage', 'network-sabotage-hosts', 'nodes', 'zero-drop'].map(
  (name) => `e2e/${name}.e2e.ts`,
);

const common = { testTimeout: 90_000, hookTimeout: 120_000, pool: 'forks' } as const;

/** The end-to-end suite: `npx vitest run --config e2e/vitest.config.ts`. */
export default defineConfig({
  test: {
    globalSetup: ['e2e/kit/setup.ts'],
    sequence: { sequencer: longestFirst(LONG) },
    projects: [
      { test: { ...common, name: 'timed', include: TIMED, maxWorkers: 2, sequence: { groupOrder: 0 } } },
      {
        test: {
          ...common,
          name: 'rest',
          include: ['e2e/**/*.e2e.ts'],
          exclude: TIMED,
          // Half of a file's time is waiting: for daemons, for silence that must last, for restarts that come late on purpose.
          maxWorkers: Math.min(4, availableParallelism() + 1),
          sequence: { groupOrder: 1 },
        },
      },
    ],
  },
});
