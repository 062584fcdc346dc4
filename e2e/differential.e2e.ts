import { appendFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { directSpawner } from '../base/index.ts';
import { findDockerd } from '../lab/index.ts';
import { Allowances } from './differential/allowed.ts';
import { differences } from './differential/compare.ts';
import { readCommands } from './differential/list.ts';
import { Sides } from './differential/sides.ts';
import { DOCKER } from './kit/index.ts';

/**
 * Conformance against Docker itself: every recorded line (differential/commands.txt) runs on a dockerd and on Shoal, one
 * after another, on both at the same time. Exit code, words and fields must be alike, or stand in differential/allowed.json
 * with the reason. SHOAL_DIFFERENTIAL_REPORT=FILE also appends all that differs to that file, one JSON object a line.
 */
const here = join(dirname(fileURLToPath(import.meta.url)), 'differential');
const commands = readCommands(join(here, 'commands.txt'));
const allowed = Allowances.read(join(here, 'allowed.json'));
const dockerd = findDockerd();
const REPORT = process.env['SHOAL_DIFFERENTIAL_REPORT'];

/** Whether this machine could have the real engine: Debian's package is on offer. */
async function mayHaveDocker(): Promise<boolean> {
  try {
    const found = await directSpawner.run({ file: 'apt-cache', args: ['show', 'docker.io'], timeoutMs: 20_000 });
    return found.code === 0;
  } catch {
    return false;
  }
}

describe('beside Docker', () => {
  if (dockerd === undefined || DOCKER === undefined) {
    it('needs dockerd and the stock client', async () => {
      const words = 'NOT COMPARED WITH DOCKER: dockerd or docker is not installed';
      console.warn(words);
      expect(await mayHaveDocker(), `${words}; the package docker.io has both: npm run setup`).toBe(false);
    });
    return;
  }

  const sides = new Sides();
  beforeAll(() => sides.up(dockerd));
  afterAll(() => sides.down());

  it('has 200 commands and more', () => expect(commands.length).toBeGreaterThanOrEqual(200));

  for (const { line, section, command } of commands) {
    it(`${section}, line ${line}: ${command}`, async () => {
      const [docker, shoal] = await Promise.all([sides.docker.run(command), sides.shoal.run(command)]);
      const places = { docker: sides.docker.places, shoal: sides.shoal.places };
      const found = differences(docker, shoal, places);
      const rest = allowed.rest(command, found);
      if (REPORT !== undefined) {
        for (const difference of found) {
          const isAllowed = !rest.includes(difference);
          appendFileSync(REPORT, `${JSON.stringify({ line, command, ...difference, allowed: isAllowed })}\n`);
        }
      }
      expect(rest).toEqual([]);
    });
  }

  it('allows nothing that does not differ', () => expect(allowed.unused()).toEqual([]));
  it('says why each difference is allowed', () => expect(allowed.unexplained()).toEqual([]));
});
