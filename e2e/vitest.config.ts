import { defineConfig } from 'vitest/config';

/** The end-to-end suite: `npx vitest run --config e2e/vitest.config.ts`. One file at a time: they share a machine. */
export default defineConfig({
  test: {
    include: ['e2e/**/*.e2e.ts'],
    globalSetup: ['e2e/kit/setup.ts'],
    fileParallelism: true,
    maxWorkers: 2,
    testTimeout: 90_000,
    hookTimeout: 120_000,
    pool: 'forks',
  },
});
