import { readdirSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { systemClock } from '../../base/index.ts';
import type { Engine } from '../engine.ts';
import type { LogLine } from '../types.ts';
import { config, makeFixture, until } from './fixture.ts';

const fixture = makeFixture();
const never = new AbortController().signal;
let engine: Engine;
beforeAll(async () => {
  engine = await fixture.open();
});
afterAll(async () => {
  await engine.shutdown();
  await fixture.destroy();
});

const MIB = 1024 * 1024;
/** What a log may exceed its sizes by while a container writes faster than the daemon looks (keeper.ts). */
const SLACK_BYTES = 64 * MIB;

async function start(command: string, options: Record<string, string>): Promise<string> {
  const cmd = ['sh', '-c', command];
  const { id } = await engine.containers.create(config({ cmd, logDriver: { type: 'json-file', config: options } }));
  await engine.containers.start(id);
  return id;
}

function logBytes(id: string): number {
  const directory = dirname(engine.containers.inspect(id).logPath);
  const sizes = readdirSync(directory)
    .filter((name) => name.startsWith('ctr.log.') || name === 'ctr.log')
    .map((name) => statSync(join(directory, name), { throwIfNoEntry: false }))
    .map((info) => [info?.ino ?? 0, info?.size ?? 0] as const);
  // The file that is written to has two names.
  return [...new Map(sizes).values()].reduce((a, b) => a + b, 0);
}

const blocks = (id: string, follow: boolean): AsyncIterable<LogLine[]> =>
  engine.containers.logBlocks(id, { stdout: true, stderr: true, follow }, never);

test('a million numbered lines come in order and without loss through rotation to a follower', async () => {
  const id = await start('seq 1 1000000', { 'max-size': '1m', 'max-file': '3' });
  let next = 1;
  for await (const lines of blocks(id, true)) {
    for (const line of lines) {
      if (line.data.toString() !== `${next}\n` && Number(line.data.toString()) !== next)
        throw new Error(`lost ${next}`);
      next += 1;
    }
  }
  expect(next).toBe(1_000_001);
  expect(logBytes(id)).toBeLessThan(3 * MIB + SLACK_BYTES);
  const kept: number[] = [];
  for await (const lines of blocks(id, false)) for (const line of lines) kept.push(Number(line.data.toString()));
  expect(kept.at(-1)).toBe(1_000_000);
  // The oldest may be the rest of a line that begins in a file dropped since.
  expect(kept.at(-1)! - kept[1]!).toBe(kept.length - 2);
  await engine.containers.remove(id, { force: true, volumes: true });
}, 30_000);

test('the bound holds while a container writes at full speed, with and without the daemon', async () => {
  const id = await start('yes', { 'max-size': '1m', 'max-file': '3' });
  const delay = monitorEventLoopDelay({ resolution: 1 });
  delay.enable();
  let most = 0;
  for (let i = 0; i < 100; i++) {
    most = Math.max(most, logBytes(id));
    await systemClock.sleep(10);
  }
  delay.disable();
  expect(most).toBeGreaterThan(2 * MIB);
  expect(most).toBeLessThan(3 * MIB + SLACK_BYTES);
  await engine.shutdown();
  const before = statSync(join(fixture.base, 'data/containers', id, 'ctr.log')).ino;
  await until(() => statSync(join(fixture.base, 'data/containers', id, 'ctr.log')).ino !== before, 'conmon goes on');
  await systemClock.sleep(300);
  engine = await fixture.open();
  expect(logBytes(id)).toBeLessThan(3 * MIB + SLACK_BYTES);
  await engine.containers.remove(id, { force: true, volumes: true });
}, 30_000);

test('a line of 100 MB without an end is read in pieces, with memory flat', async () => {
  const id = await start('dd if=/dev/zero bs=1M count=100 2>/dev/null | tr "\\0" x', {});
  await engine.containers.wait(id, 'not-running', never);
  const before = process.memoryUsage().rss;
  let bytes = 0;
  let most = 0;
  for await (const lines of blocks(id, false)) {
    for (const line of lines) bytes += line.data.length;
    most = Math.max(most, process.memoryUsage().rss - before);
  }
  expect(bytes).toBe(100 * MIB);
  expect(most).toBeLessThan(100 * MIB);
  await engine.containers.remove(id, { force: true, volumes: true });
}, 30_000);

test('unknown drivers and options are refused at create; the default driver and its options apply', async () => {
  const create = (type: string, options = {}): Promise<unknown> =>
    engine.containers.create(config({ logDriver: { type, config: options } }));
  await expect(create('fluentd')).rejects.toThrow("logger: no log driver named 'fluentd' is registered");
  await expect(create('json-file', { nope: '1' })).rejects.toThrow("unknown log opt 'nope' for json-file log driver");
  expect(engine.containers.list()).toEqual([]);
  const { id } = await engine.containers.create(config({ logDriver: { type: '', config: {} } }));
  expect(engine.containers.inspect(id).config.logDriver.type).toBe('json-file');
  await engine.containers.remove(id, { force: true, volumes: true });
});

test('nothing is lost while the event loop is held up for a tenth of a second', async () => {
  const id = await start('seq 1 400000; sleep 0.3; seq 400001 500000', { 'max-size': '1m', 'max-file': '2' });
  let next = 1;
  let held = 0;
  for await (const lines of blocks(id, true)) {
    for (const line of lines)
      if (line.data.toString() === `${next}\n` || Number(line.data.toString()) === next) next += 1;
    if (held >= 3) continue;
    held += 1;
    const end = performance.now() + 100;
    while (performance.now() < end);
  }
  expect([held, next]).toEqual([3, 500_001]);
  await engine.containers.remove(id, { force: true, volumes: true });
}, 30_000);

test('a follower of a container that is removed gets its last words and ends in order', async () => {
  const overrides = { cmd: ['sh', '-c', 'echo first; sleep 0.3; echo last'], autoRemove: true };
  const { id } = await engine.containers.create(config(overrides));
  await engine.containers.start(id);
  let text = '';
  for await (const lines of blocks(id, true)) text += lines.map((line) => Buffer.from(line.data).toString()).join('');
  expect(text).toBe('first\nlast\n');
  await until(() => engine.containers.list().every((container) => container.id !== id), 'it is removed');
});
