import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { directSpawner, systemClock } from '../../base/index.ts';
import { Runtime, type RuntimePaths } from './conmon.ts';

let dir = '';
let fifo = '';
let runtime: Runtime;

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'shoal-release-'));
  fifo = join(dir, 'c1', 'exec.fifo');
  mkdirSync(join(dir, 'c1'));
  execFileSync('mkfifo', [fifo]);
  runtime = new Runtime({ stateRoot: dir } as RuntimePaths, directSpawner, systemClock);
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

/** A process that ends at the moment somebody looks whether it lives; before that it does `last`. */
const ending = (last: () => void): { pid: number; startTicks: number } => ({
  get pid() {
    last();
    return 0;
  },
  startTicks: 1,
});

test('a process that took up its command and ended while nobody looked has been started', async () => {
  // The reader is open by now, so this write does not wait.
  await runtime.release(
    'c1',
    ending(() => writeFileSync(fifo, '0', { flag: 'r+' })),
  );
  expect(existsSync(fifo)).toBe(false);
});

test('a process that ended before it took up its command has not', async () => {
  const words = 'the container process ended before it could be started';
  await expect(
    runtime.release(
      'c1',
      ending(() => undefined),
    ),
  ).rejects.toThrow(words);
});
