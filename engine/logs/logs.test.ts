import {
  appendFileSync,
  existsSync,
  linkSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeEach, expect, test, vi } from 'vitest';
import { silentLogger, systemClock } from '../../base/index.ts';
import type { LogQuery } from '../types.ts';
import { EntryParser, LineJoiner, timeText } from './k8s-file.ts';
import { conmonSizeLimit, LogKeeper } from './keeper.ts';
import { attributeText, logAttributes, logPolicy, logTag, parseSize, unreadable, withLogDefaults } from './policy.ts';
import { readLog, type LogSource } from './reader.ts';

/** Machines are busy: what comes at last is not late. */
const eventually = (check: () => void): Promise<void> => vi.waitFor(check, 20_000);

const base = mkdtempSync(join(tmpdir(), 'shoal-'));
afterAll(() => rmSync(base, { recursive: true, force: true }));
let path = '';
beforeEach(() => {
  path = join(mkdtempSync(join(base, 'c-')), 'ctr.log');
});

const at = (second: number, stream: string, flag: string, text: string): string =>
  `2026-01-01T00:00:${String(second).padStart(2, '0')}.123456789+00:00 ${stream} ${flag} ${text}\n`;
const all: LogQuery = { stdout: true, stderr: true, follow: false };
const never = new AbortController().signal;
const neverEnds = (): Promise<never> => new Promise(() => undefined);

async function read(query: Partial<LogQuery> = {}, source: Partial<LogSource> = {}): Promise<string[]> {
  const lines: string[] = [];
  const from = { path, live: () => false, nextEnd: neverEnds, ...source };
  for await (const line of readLog(from, { ...all, ...query }, systemClock, never)) lines.push(String(line.data));
  return lines;
}

/** What conmon does when its file is full. */
function replace(): void {
  writeFileSync(`${path}.tmp`, '');
  renameSync(`${path}.tmp`, path);
}

const names = (): string[] => readdirSync(dirname(path)).sort();

test('entries: time, stream, parts joined, nonsense left out', () => {
  const parser = new EntryParser();
  const bytes = Buffer.from(
    at(1, 'stdout', 'P', 'ab') + 'no entry\n2026 stdout F x\n' + at(2, 'stderr', 'F', 'err') + at(3, 'stdout', 'F', ''),
  );
  const joiner = new LineJoiner();
  const lines = [bytes.subarray(0, 50), bytes.subarray(50)]
    .flatMap((chunk) => parser.push(chunk))
    .map((entry) => joiner.push(entry))
    .filter((line) => line !== undefined);
  expect(lines.map((line) => [line.stream, line.time, String(line.data)])).toEqual([
    ['stderr', '2026-01-01T00:00:02.123456789Z', 'err\n'],
    ['stdout', '2026-01-01T00:00:01.123456789Z', 'ab\n'],
  ]);
  expect(lines[0]?.timestampMs).toBeCloseTo(Date.UTC(2026, 0, 1, 0, 0, 2) + 123.456789, 3);
  expect(timeText(Date.UTC(2026, 0, 1) + 0.5)).toBe('2026-01-01T00:00:00.000500000Z');
});

test('a line without end is given out in parts, and what is no log does not grow in memory', () => {
  const parser = new EntryParser();
  const joiner = new LineJoiner();
  const part = at(1, 'stdout', 'P', 'x'.repeat(8000));
  const given = [];
  for (let i = 0; i < 100; i++) {
    for (const entry of parser.push(Buffer.from(part))) given.push(joiner.push(entry));
  }
  given.push(joiner.push(parser.push(Buffer.from(at(2, 'stdout', 'F', 'end')))[0] as never));
  const lines = given.filter((line) => line !== undefined);
  expect(lines.map((line) => line.data.length).reduce((a, b) => a + b)).toBe(100 * 8000 + 4);
  expect(Math.max(...lines.map((line) => line.data.length))).toBeLessThan(24 * 1024);
  expect(lines.map((line) => line.continued === true).slice(0, 3)).toEqual([false, true, true]);
  for (let i = 0; i < 20; i++) expect(parser.push(Buffer.alloc(10_000, 'x'))).toEqual([]);
  expect(parser.push(Buffer.from(`\n${at(3, 'stdout', 'F', 'after')}`))).toHaveLength(1);
});

test('tail counts lines over blocks, rotated and compressed files; since and until bound the time', async () => {
  writeFileSync(`${path}.3.gz`, gzipSync(at(1, 'stdout', 'F', 'zero') + at(1, 'stdout', 'F', 'one')));
  writeFileSync(`${path}.4`, at(2, 'stdout', 'F', 'two') + at(3, 'stdout', 'P', 'thr') + at(3, 'stdout', 'F', 'ee'));
  const long = 'x'.repeat(50_000);
  writeFileSync(path, at(4, 'stderr', 'F', long) + at(5, 'stdout', 'F', 'five'));
  expect(await read()).toEqual(['zero\n', 'one\n', 'two\n', 'three\n', `${long}\n`, 'five\n']);
  expect(await read({ tail: 1 })).toEqual(['five\n']);
  expect(await read({ tail: 3 })).toEqual(['three\n', `${long}\n`, 'five\n']);
  expect(await read({ tail: 2, stderr: false })).toEqual(['three\n', 'five\n']);
  expect(await read({ tail: 5 })).toEqual(['one\n', 'two\n', 'three\n', `${long}\n`, 'five\n']);
  expect(await read({ tail: 0 })).toEqual([]);
  expect(await read({ tail: 99 })).toHaveLength(6);
  expect(await read({ sinceMs: Date.UTC(2026, 0, 1, 0, 0, 4), stderr: false })).toEqual(['five\n']);
  expect(await read({ untilMs: Date.UTC(2026, 0, 1, 0, 0, 2) })).toEqual(['zero\n', 'one\n']);
  expect(await read({ since: '2026-01-01T00:00:05.123456789Z' })).toEqual(['five\n']);
  expect(await read({ since: '2026-01-01T00:00:05.123456790Z' })).toEqual([]);
});

test('a damaged compressed file gives what can be read of it', async () => {
  const many = Array.from({ length: 5000 }, (_, i) => at(1, 'stdout', 'F', `${i} ${Math.random()}`)).join('');
  writeFileSync(`${path}.1.gz`, gzipSync(many).subarray(0, 40_000));
  writeFileSync(path, at(5, 'stdout', 'F', 'last'));
  const lines = await read();
  expect(lines.length).toBeGreaterThan(100);
  expect(lines.at(-1)).toBe('last\n');
});

test('a reading that does not follow ends where the log ended when it began', async () => {
  writeFileSync(path, at(1, 'stdout', 'F', 'a').repeat(5000));
  let count = 0;
  const source = { path, live: () => true, nextEnd: neverEnds };
  for await (const line of readLog(source, all, systemClock, never)) {
    if (line.data.length > 0) count += 1;
    if (count % 500 === 0) appendFileSync(path, at(2, 'stdout', 'F', 'more').repeat(1000));
  }
  expect(count).toBe(5000);
});

test('a follower goes on into the new file and ends with the container', async () => {
  writeFileSync(path, at(1, 'stdout', 'F', 'a'));
  let live = true;
  let end: () => void = () => undefined;
  const nextEnd = (): Promise<void> => new Promise((resolve) => (end = resolve));
  const seen: string[] = [];
  const reading = (async () => {
    const source = { path, live: () => live, nextEnd };
    for await (const line of readLog(source, { ...all, follow: true }, systemClock, never)) {
      seen.push(String(line.data));
    }
  })();
  await eventually(() => expect(seen).toEqual(['a\n']));
  linkSync(path, `${path}.1`);
  appendFileSync(path, at(2, 'stdout', 'F', 'b'));
  replace();
  appendFileSync(`${path}.1`, at(3, 'stdout', 'F', 'c'));
  writeFileSync(path, at(4, 'stdout', 'F', 'd'));
  await eventually(() => expect(seen).toEqual(['a\n', 'b\n', 'c\n', 'd\n']));
  live = false;
  appendFileSync(path, at(5, 'stdout', 'F', 'last words'));
  end();
  await reading;
  expect(seen.at(-1)).toBe('last words\n');
});

test('a follower ends when the time of until has come, though nothing is written', async () => {
  writeFileSync(path, at(1, 'stdout', 'F', 'a'));
  const untilMs = Date.now() + 100;
  expect(await read({ follow: true, untilMs }, { live: () => true })).toEqual(['a\n']);
  expect(Date.now()).toBeGreaterThanOrEqual(untilMs);
});

test('the keeper numbers each file, keeps as many as the policy says, compresses, and minds readers', async () => {
  const keeper = new LogKeeper({ clock: systemClock, log: silentLogger });
  const policy = logPolicy({ type: 'json-file', config: { 'max-size': '10m', 'max-file': '3', compress: 'true' } });
  keeper.begin(path, policy, true, () => false);
  expect(names()).toEqual(['ctr.log', 'ctr.log.1']);
  const hold = keeper.hold(path, policy);
  hold.number = 2;
  for (const n of [1, 2, 3, 4, 5]) {
    writeFileSync(path, at(n, 'stdout', 'F', `line ${n}`));
    replace();
    await eventually(() => expect(existsSync(`${path}.${n + 1}`)).toBe(true));
  }
  expect(names()).toEqual(['ctr.log', ...[2, 3, 4, 5, 6].map((n) => `ctr.log.${n}`)]);
  hold.release();
  expect(names()).toEqual(['ctr.log', 'ctr.log.4', 'ctr.log.5', 'ctr.log.6']);
  replace();
  await eventually(() => expect(names()).toEqual(['ctr.log', 'ctr.log.5.gz', 'ctr.log.6.gz', 'ctr.log.7']));
  expect(await read()).toEqual(['line 5\n']);
  await keeper.end(path);
  await keeper.close();
});

test('the keeper has the writer begin a new file at a small max-size, and puts a full one aside before a start', async () => {
  const keeper = new LogKeeper({ clock: systemClock, log: silentLogger });
  const policy = logPolicy({ type: 'json-file', config: { 'max-size': '10b', 'max-file': '2' } });
  writeFileSync(path, at(1, 'stdout', 'F', 'of the run before'));
  keeper.begin(path, policy, true, () => (replace(), true));
  expect([names(), statSync(path).size]).toEqual([['ctr.log', 'ctr.log.1', 'ctr.log.2'], 0]);
  writeFileSync(path, at(2, 'stdout', 'F', 'now'));
  await eventually(() => expect(names()).toEqual(['ctr.log', 'ctr.log.2', 'ctr.log.3']));
  // As conmon goes on while no daemon runs.
  await keeper.close();
  replace();
  writeFileSync(path, at(3, 'stdout', 'F', 'later'));
  expect(await read()).toEqual(['now\n', 'later\n']);
  expect(conmonSizeLimit(policy)).toBe(32 * 1024 ** 2);
});

test.each([
  [{ type: 'json-file', config: { nope: '1' } }, "unknown log opt 'nope' for json-file log driver"],
  [{ type: 'local', config: { tag: 'x' } }, "unknown log opt 'tag' for log driver local"],
  [{ type: 'json-file', config: { 'max-file': '0' } }, 'max-file cannot be less than 1'],
  [{ type: 'json-file', config: { compress: 'true' } }, 'compress cannot be true when max-file is less than 2'],
  [{ type: 'json-file', config: { mode: 'fast' } }, 'logger: logging mode not supported: fast'],
  [{ type: 'json-file', config: { 'max-buffer-size': '1m' } }, 'max-buffer-size option is only supported with'],
  [{ type: 'json-file', config: { 'max-size': 'much' } }, "invalid size: 'much'"],
  [{ type: 'json-file', config: { tag: '{{.Nope}}' } }, 'invalid log tag template'],
  [{ type: 'fluentd', config: {} }, "logger: no log driver named 'fluentd' is registered"],
])('refuses %j', (driver, words) => {
  expect(() => logPolicy(driver)).toThrow(words);
});

test('log options in docker words', () => {
  expect(parseSize('1.5k')).toBe(1536);
  expect(parseSize('10MB')).toBe(10 * 1024 ** 2);
  expect(logPolicy({ type: '', config: {} })).toMatchObject({ driver: 'json-file', maxSizeBytes: 0, maxFiles: 1 });
  const kept = { maxSizeBytes: 20 * 1024 ** 2, maxFiles: 5, compress: true };
  expect(logPolicy({ type: 'local', config: {} })).toEqual({ driver: 'local', ...kept });
  expect(logPolicy({ type: 'journald', config: {} })).toEqual({ driver: 'journald', ...kept });
  expect(unreadable({ type: 'syslog', config: { 'cache-disabled': 'true' } })).toBe(true);
  const defaults = { type: 'local', config: { 'max-size': '1m', 'max-file': '2' } };
  expect(withLogDefaults({ type: '', config: {} }, defaults)).toEqual(defaults);
  expect(withLogDefaults({ type: 'local', config: { 'max-file': '9' } }, defaults).config).toEqual({
    'max-size': '1m',
    'max-file': '9',
  });
  expect(withLogDefaults({ type: 'none', config: {} }, defaults)).toEqual({ type: 'none', config: {} });
});

test('details and tags', () => {
  const subject = {
    id: 'a'.repeat(64),
    name: 'web',
    imageId: `sha256:${'b'.repeat(64)}`,
    imageName: 'nginx:1',
    labels: { 'com.x': 'y z', other: '1' },
    env: ['A=1', 'B=2=3', 'SECRET=x'],
  };
  const config = { labels: 'com.x', env: 'B', 'env-regex': '^A$', tag: '{{.Name}}/{{.ID}}' };
  const attributes = logAttributes({ type: 'json-file', config }, subject);
  expect(attributeText(attributes)).toBe('A=1,B=2%3D3,com.x=y+z,tag=web%2Faaaaaaaaaaaa');
  expect(logTag('{{.ImageName}}-{{ .ImageID }}', subject)).toBe('nginx:1-bbbbbbbbbbbb');
});

test('a writer that is slow to begin a new file is told once', async () => {
  const keeper = new LogKeeper({ clock: systemClock, log: silentLogger });
  const policy = logPolicy({ type: 'json-file', config: { 'max-size': '10b', 'max-file': '2' } });
  let told = 0;
  keeper.begin(path, policy, true, () => (told++, true));
  for (let i = 0; i < 15; i++) {
    appendFileSync(path, at(1, 'stdout', 'F', 'x'.repeat(100_000)));
    await systemClock.sleep(100);
  }
  expect(told).toBe(1);
  await keeper.close();
});

test('the last lines of a log that grows fast are as many as were asked for', async () => {
  writeFileSync(path, at(1, 'stdout', 'F', 'y').repeat(1000));
  const grow = setInterval(() => appendFileSync(path, at(1, 'stdout', 'F', 'y').repeat(500)), 0);
  try {
    for (let i = 0; i < 10; i++) expect(await read({ tail: 3 })).toHaveLength(3);
  } finally {
    clearInterval(grow);
  }
});
