import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, statfsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { spreadChildren } from './libc-tree.ts';

const EXT4_MAGIC = 0xef53;
const root = mkdtempSync(join(tmpdir(), 'shoal-tree-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));

it('marks a directory whose children have nothing to do with each other, where the file system knows that', () => {
  const known = statfsSync(root).type === EXT4_MAGIC;
  expect(spreadChildren(root)).toBe(known);
  expect(spreadChildren(root)).toBe(known);
  const shown = spawnSync('lsattr', ['-d', root], { encoding: 'utf8' }).stdout;
  expect(/^\S*T/.test(shown)).toBe(known);
  // It changes nothing of what can be done there, and is not taken over by what is made in it.
  mkdirSync(join(root, 'child'));
  expect(spawnSync('lsattr', ['-d', join(root, 'child')], { encoding: 'utf8' }).stdout).not.toMatch(/^\S*T/);
  expect(spreadChildren('/proc')).toBe(false);
});
