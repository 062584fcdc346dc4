import { defineConfig } from 'vitest/config';

/** The tests that join two rooms over a real wire: `npx vitest run --config e2e/wire/vitest.config.ts`. */
export default defineConfig({
  test: {
    include: ['e2e/wire/**/*.test.ts'],
    testTimeout: 30_000,
    pool: 'forks',
  },
});
