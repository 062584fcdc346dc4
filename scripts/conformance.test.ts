import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

const ROOT = join(dirname(fileURLToPath(import.meta.url)), '..');

/** Rows of the tables, without their heads. */
function rows(): string[][] {
  const lines = readFileSync(join(ROOT, 'docs', 'conformance.md'), 'utf8').split('\n');
  return lines
    .filter((line) => line.startsWith('|') && !line.startsWith('|---') && !line.startsWith('| Swarm |'))
    .map((line) =>
      line
        .slice(1, -1)
        .split('|')
        .map((cell) => cell.trim()),
    );
}

test('every row of docs/conformance.md names tests that exist', () => {
  const missing: string[] = [];
  const all = rows();
  expect(all.length).toBeGreaterThan(50);
  for (const [behaviour = '', , held = ''] of all) {
    const named = [...held.matchAll(/`([^`]+)` "([^"]+)"/g)].map(([, file = '', title = '']) => ({ file, title }));
    if (named.length === 0 && !held.startsWith('see [')) missing.push(`${behaviour}: no test is named`);
    for (const { file, title } of named) {
      const path = join(ROOT, file);
      if (!existsSync(path)) missing.push(`${file} does not exist`);
      else if (!readFileSync(path, 'utf8').includes(title)) missing.push(`${file} has no test "${title}"`);
    }
  }
  expect(missing).toEqual([]);
});
