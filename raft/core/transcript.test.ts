import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { env } from 'node:process';
import { expect, test } from 'vitest';
import { TranscriptRunner } from './transcript-commands.ts';

const DIRECTORY = join(import.meta.dirname, 'transcripts');
const REWRITE = env['REWRITE'] === '1';

/** Runs a transcript: a line that begins with `>` is a command, the indented lines after it are what happens then. */
function replay(source: string): string {
  const runner = new TranscriptRunner();
  const out: string[] = [];
  for (const line of source.split('\n')) {
    if (line.startsWith('  ')) continue;
    out.push(line);
    if (line.startsWith('> ')) for (const happened of runner.run(line.slice(2))) out.push(`  ${happened}`);
  }
  return out.join('\n');
}

const names = readdirSync(DIRECTORY).filter((name) => name.endsWith('.txt'));

test.each(names)('transcript %s', (name) => {
  const path = join(DIRECTORY, name);
  const source = readFileSync(path, 'utf8');
  const replayed = replay(source);
  if (REWRITE) writeFileSync(path, replayed);
  else expect(replayed).toBe(source);
});

test('every transcript says what it shows', () => {
  expect(names.length).toBeGreaterThanOrEqual(20);
  for (const name of names) expect(readFileSync(join(DIRECTORY, name), 'utf8')).toMatch(/^# /);
});
