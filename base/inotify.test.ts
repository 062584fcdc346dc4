import { mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test, vi } from 'vitest';
import { MoveWatcher } from './inotify.ts';

/** Machines are busy: what comes at last is not late. */
const eventually = (check: () => void): Promise<void> => vi.waitFor(check, 20_000);

test('a rename into a watched directory is told, a write is not', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'shoal-'));
  const [a, b] = [join(directory, 'a'), join(directory, 'b')];
  for (const path of [a, b]) mkdirSync(path);
  const watcher = new MoveWatcher();
  const told: string[] = [];
  const endA = watcher.watch(a, (name) => told.push(`a/${name}`));
  watcher.watch(b, (name) => told.push(`b/${name}`));
  try {
    writeFileSync(join(a, 'new'), 'written');
    renameSync(join(a, 'new'), join(a, 'moved'));
    renameSync(join(a, 'moved'), join(b, 'a longer name'));
    await eventually(() => expect(told).toEqual(['a/moved', 'b/a longer name']));
    endA();
    renameSync(join(b, 'a longer name'), join(a, 'back'));
    renameSync(join(a, 'back'), join(b, 'again'));
    await eventually(() => expect(told.slice(2)).toEqual(['b/again']));
    expect(() => watcher.watch(join(directory, 'missing'), () => undefined)).toThrow('cannot be watched');
  } finally {
    watcher.close();
    rmSync(directory, { recursive: true });
  }
});
