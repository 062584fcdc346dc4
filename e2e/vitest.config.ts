import { defineConfig } from 'vitest/config';
import { longestFirst } from '../scripts/longest-first.ts';

/** What the files take, seconds; those that are not named take less. */
const LONG = {
  'e2e/differential.e2e.ts': 78,
  'e2e/recovery.e2e.ts': 67,
  'e2e/jobs.e2e.ts': 63,
  'e2e/nodes.e2e.ts': 62,
  'e2e/autoscale.e2e.ts': 58,
  'e2e/network-sabotage-hosts.e2e.ts': 46,
  'e2e/crash.e2e.ts': 46,
  'e2e/tutorials.e2e.ts': 44,
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
  'e2e/image.e2e.ts': 27,
  'e2e/container.e2e.ts': 27,
  'e2e/trouble.e2e.ts': 27,
  'e2e/network-local.e2e.ts': 25,
  'e2e/control.e2e.ts': 23,
  'e2e/why.e2e.ts': 22,
  'e2e/plan.e2e.ts': 21,
  'e2e/network-idle.e2e.ts': 19,
  'e2e/network-check.e2e.ts': 17,
  'e2e/attach.e2e.ts': 15,
  'e2e/conformance.e2e.ts': 14,
};

/** The end-to-end suite: `npx vitest run --config e2e/vitest.config.ts`. */
export default defineConfig({
  test: {
    include: ['e2e/**/*.e2e.ts'],
    globalSetup: ['e2e/kit/setup.ts'],
    fileParallelism: true,
    maxWorkers: 2,
    sequence: { sequencer: longestFirst(LONG) },
    testTimeout: 90_000,
    hookTimeout: 120_000,
    pool: 'forks',
  },
});
