import { availableParallelism } from 'node:os';
import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['**/*.test.ts'],
    exclude: ['node_modules/**', 'dist/**', 'e2e/**'],
    testTimeout: 60_000,
    pool: 'forks',
    // Many tests wait for the kernel or for processes: with one file at a time a small machine would idle.
    maxWorkers: Math.max(2, availableParallelism() - 1),
  },
});
