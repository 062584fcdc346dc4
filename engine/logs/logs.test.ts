import { appendFileSync, mkdtempSync, renameSync, rmSync, writeFileSync, existsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { systemClock } from '../../base/index.ts';
import type { LogQuery } from '../types.ts';
import { EntrySplitter, LineJoiner, parseLogEntry } from './k8s-file.ts';
import { readLog } from './reader.ts';
import { logPolicy, parseSize, rotateIfDue } from './rotate.ts';

const directory = mkdtempSync(join(tmpdir(), 'shoal-'));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

const at = (second: number, stream: string, flag: string, text: string): string =>
  `2026-01-01T00:00:${String(second).padStart(2, '0')}.123456789+00:00 ${stream} ${flag} ${text}\n`;
const all: LogQuery = { stdout: true, stderr: true, follow: false };
const never = new AbortController().signal;

async function read(path: string, query: Partial<LogQuery> = {}, live = () => false, ended = Promise.resolve()) {
  const lines: string[] = [];
  for await (const line of readLog({ path, live, ended }, { ...all, ...query }, systemClock, never)) {
    lines.push(String(line.data));
  }
  return lines;
}

test('entries: time, stream, parts joined, nonsense left out', () => {
  const splitter = new EntrySplitter();
  const bytes = Buffer.from(at(1, 'stdout', 'P', 'ab') + at(2, 'stderr', 'F', 'err') + at(3, 'stdout', 'F', 'cd'));
  const joiner = new LineJoiner();
  const lines = [bytes.subarray(0, 50), bytes.subarray(50)]
    .flatMap((chunk) => splitter.push(chunk))
    .map((entry) => parseLogEntry(entry))
    .map((line) => (line === undefined ? undefined : joiner.push(line)))
    .filter((line) => line !== undefined);
  expect(lines.map((line) => [line.stream, line.time, String(line.data)])).toEqual([
    ['stderr', '2026-01-01T00:00:02.123456789Z', 'err\n'],
    ['stdout', '2026-01-01T00:00:01.123456789Z', 'abcd\n'],
  ]);
  expect(lines[0]?.timestampMs).toBeCloseTo(Date.UTC(2026, 0, 1, 0, 0, 2) + 123.456789, 3);
  expect(parseLogEntry(Buffer.from('no entry'))).toBeUndefined();
  expect(parseLogEntry(Buffer.from('2026 stdout F x'))).toBeUndefined();
});

test('tail counts lines over blocks and rotated files; since and until bound the time', async () => {
  const path = join(directory, 'tail.log');
  writeFileSync(`${path}.2`, at(1, 'stdout', 'F', 'one'));
  writeFileSync(`${path}.1`, at(2, 'stdout', 'F', 'two') + at(3, 'stdout', 'P', 'thr') + at(3, 'stdout', 'F', 'ee'));
  const long = 'x'.repeat(50_000);
  writeFileSync(path, at(4, 'stderr', 'F', long) + at(5, 'stdout', 'F', 'five'));
  expect(await read(path)).toEqual(['one\n', 'two\n', 'three\n', `${long}\n`, 'five\n']);
  expect(await read(path, { tail: 1 })).toEqual(['five\n']);
  expect(await read(path, { tail: 3 })).toEqual(['three\n', `${long}\n`, 'five\n']);
  expect(await read(path, { tail: 2, stderr: false })).toEqual(['three\n', 'five\n']);
  expect(await read(path, { tail: 0 })).toEqual([]);
  expect(await read(path, { tail: 99 })).toHaveLength(5);
  expect(await read(path, { sinceMs: Date.UTC(2026, 0, 1, 0, 0, 4), stderr: false })).toEqual(['five\n']);
  expect(await read(path, { untilMs: Date.UTC(2026, 0, 1, 0, 0, 2) })).toEqual(['one\n']);
});

test('a follower goes on into the new file and ends with the container', async () => {
  const path = join(directory, 'follow.log');
  writeFileSync(path, at(1, 'stdout', 'F', 'a'));
  let live = true;
  let end: () => void = () => undefined;
  const ended = new Promise<void>((resolve) => (end = resolve));
  const lines = read(path, { follow: true }, () => live, ended);
  await systemClock.sleep(20);
  appendFileSync(path, at(2, 'stdout', 'F', 'b'));
  renameSync(path, `${path}.1`);
  appendFileSync(`${path}.1`, at(3, 'stdout', 'F', 'c'));
  writeFileSync(path, at(4, 'stdout', 'F', 'd'));
  await systemClock.sleep(20);
  live = false;
  end();
  expect(await lines).toEqual(['a\n', 'b\n', 'c\n', 'd\n']);
});

test('rotation moves files up to max-file, when the size is reached', async () => {
  const path = join(directory, 'rot.log');
  const policy = logPolicy({ type: 'json-file', config: { 'max-size': '10b', 'max-file': '2' } });
  const reopen = (): boolean => (writeFileSync(path, ''), true);
  writeFileSync(path, 'short');
  expect(await rotateIfDue(path, policy, reopen)).toBe(false);
  writeFileSync(path, 'first long text');
  expect(await rotateIfDue(path, policy, reopen)).toBe(true);
  writeFileSync(path, 'second long text');
  expect(await rotateIfDue(path, policy, reopen)).toBe(true);
  expect([existsSync(`${path}.1`), existsSync(`${path}.2`)]).toEqual([true, false]);
});

test('log options in docker words', () => {
  expect(parseSize('1.5k')).toBe(1536);
  expect(parseSize('10MB')).toBe(10 * 1024 ** 2);
  expect(() => logPolicy({ type: 'json-file', config: { nope: '1' } })).toThrow("unknown log opt 'nope' for json-file");
  expect(() => logPolicy({ type: 'json-file', config: { 'max-file': '0' } })).toThrow('max-file cannot be less than 1');
});
