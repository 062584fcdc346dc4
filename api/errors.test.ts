import { mkdirSync, renameSync } from 'node:fs';
import { expect, test } from 'vitest';
import { conflict } from '../base/index.ts';
import { wordsOf } from './errors.ts';

function thrown(action: () => void): unknown {
  try {
    action();
  } catch (error) {
    return error;
  }
  return undefined;
}

test('failed system calls are told as Docker tells them', () => {
  expect(wordsOf(thrown(() => mkdirSync('/proc/x')))).toBe('mkdir /proc/x: no such file or directory');
  const renamed = thrown(() => renameSync('/none/a', '/none/b'));
  expect(wordsOf(renamed)).toBe('rename /none/a /none/b: no such file or directory');
  expect(wordsOf(new Error('ENOSPC: no space left on device, write'))).toBe('write: no space left on device');
  expect(wordsOf(conflict('EXAMPLE: words, that stay'))).toBe('EXAMPLE: words, that stay');
});
