import { availableParallelism } from 'node:os';
import { defineConfig } from 'vitest/config';
import { longestFirst } from './scripts/longest-first.ts';

/**
 * Rooms whose tests make namespaces, mounts, processes and containers, and wait for these and the kernel most of their time.
 */
const HOST_ROOMS = ['base', 'daemon', 'engine', 'lab', 'overlay-net'];
/** Tests that measure the memory of the process they run in: what others left there, and lose meanwhile, would be counted. */
const MEASURING = ['manager/backup/backup.test.ts', 'raft/core/memory.test.ts'];
const LEFT_OUT = ['node_modules/**', 'dist/**', 'e2e/**'];
const CORES = availableParallelism();
/** More hosts and daemons at once than this are not faster on any machine. */
const MOST_AT_ONCE = 8;

/** Files that take longest, seconds. */
const LONG = {
  'overlay-net/reconcile/sabotage.test.ts': 30,
  'overlay-net/check/check.test.ts': 30,
  'overlay-net/host-mode6.test.ts': 27,
  'overlay-net/reconcile/sabotage-encrypted.test.ts': 21,
  'overlay-net/local-plug.test.ts': 20,
  'overlay-net/encryption/two-hosts.test.ts': 19,
  'overlay-net/ingress6.test.ts': 18,
  'overlay-net/dual-stack.test.ts': 17,
  'overlay-net/one-host.test.ts': 15,
  'engine/images/hostile.test.ts': 15,
  'overlay-net/ingress.test.ts': 14,
  'engine/containers/containers.test.ts': 13,
  'engine/streams/streams.test.ts': 12,
  'daemon/sim/sim.test.ts': 12,
  'engine/files/files.test.ts': 11,
  'overlay-net/two-hosts.test.ts': 11,
  'overlay-net/ingress-tasks.test.ts': 9,
  'engine/containers/adoption.test.ts': 8,
  'overlay-net/dns/forward.test.ts': 8,
  'manager/manager.test.ts': 16,
  'raft/wal/fuzz.test.ts': 10,
  'raft/sim/sim.test.ts': 10,
  'raft/transport/transport.test.ts': 9,
  'manager/recovery.test.ts': 9,
  'manager/membership/moved.test.ts': 8,
};

export default defineConfig({
  test: {
    testTimeout: 60_000,
    hookTimeout: 60_000,
    pool: 'forks',
    // As patient as a busy machine needs; the default of 1 s is not.
    expect: { poll: { timeout: 10_000 } },
    sequence: { sequencer: longestFirst(LONG) },
    projects: [
      {
        extends: true,
        test: {
          name: 'hosts',
          include: [...HOST_ROOMS.map((room) => `${room}/**/*.test.ts`), ...MEASURING],
          // With as many files at a time as there are cores, the cores would idle.
          maxWorkers: Math.min(2 * CORES, Math.max(MOST_AT_ONCE, CORES)),
          sequence: { groupOrder: 0 },
        },
      },
      {
        extends: true,
        test: {
          name: 'rooms',
          include: ['**/*.test.ts'],
          exclude: [...LEFT_OUT, ...HOST_ROOMS.map((room) => `${room}/**`), ...MEASURING],
          // These keep nothing outside of their objects: a worker loads each room once, not once for each file.
          isolate: false,
          // A test that fails between a spy and its end leaves it to no other.
          restoreMocks: true,
          unstubEnvs: true,
          maxWorkers: Math.max(2, CORES),
          sequence: { groupOrder: 1 },
        },
      },
    ],
  },
});
