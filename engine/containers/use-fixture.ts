import { afterAll, beforeAll } from 'vitest';
import type { Engine } from '../engine.ts';
import { makeFixture, type Fixture } from './fixture.ts';

/**
 * One engine on a fixture for all tests of a file, taken down after them.
 * @param opened is given both before the first test
 */
export function useFixture(
  opened: (fixture: Fixture, engine: Engine) => void,
  make: () => Fixture = makeFixture,
): void {
  let fixture: Fixture | undefined;
  let engine: Engine | undefined;
  beforeAll(async () => {
    fixture = make();
    engine = await fixture.open();
    opened(fixture, engine);
  });
  afterAll(async () => {
    await engine?.shutdown();
    await fixture?.destroy();
  });
}
