/** The same with control groups v2: the real freezer of the unified tree, and kernel files as v2 has them. */
import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { systemClock } from '../../base/index.ts';
import { readCgroupLayout } from '../runtime/cgroups.ts';
import { isFrozen, setFrozen } from '../runtime/freezer.ts';
import { parseNetDev, readStats, systemNs } from './stats-files.ts';

const { unified } = readCgroupLayout();
const layoutOf = (root: string) => ({ version: 'v2' as const, controllers: new Map<string, string>(), unified: root });
let child: ChildProcess | undefined;
let group = '';

afterEach(async () => {
  if (child !== undefined) {
    const ended = new Promise((resolve) => child?.once('exit', resolve));
    child.kill('SIGKILL');
    await ended;
    child = undefined;
  }
  if (group !== '') rmdirSync(group);
  group = '';
});

test.runIf(unified !== undefined && existsSync(unified))('freezes and thaws a group of the unified tree', async () => {
  const path = `/shoal-test-v2-${process.pid}`;
  group = join(unified ?? '', path);
  mkdirSync(group);
  child = spawn('sh', ['-c', 'while :; do :; done'], { stdio: 'ignore' });
  writeFileSync(join(group, 'cgroup.procs'), String(child.pid));
  const layout = layoutOf(unified ?? '');
  const used = (): number => {
    return readStats(layout, path, child?.pid, { readMs: 1, systemNs: 1 }).cpu.totalNs;
  };
  await expect.poll(used, { timeout: 5_000 }).toBeGreaterThan(1e7);
  await setFrozen(layout, path, true, systemClock);
  expect(isFrozen(layout, path)).toBe(true);
  const before = used();
  await systemClock.sleep(50);
  expect(used()).toBe(before);
  await setFrozen(layout, path, false, systemClock);
  expect(isFrozen(layout, path)).toBe(false);
  await expect.poll(used, { timeout: 5_000 }).toBeGreaterThan(before);
});

test('reads the files of v2', () => {
  const root = mkdtempSync(join(tmpdir(), 'shoal-v2-'));
  const files = {
    'cpu.stat': 'usage_usec 5000\nuser_usec 3000\nsystem_usec 2000\nnr_periods 4\nnr_throttled 1\nthrottled_usec 7\n',
    'memory.current': '8192\n',
    'memory.max': '1048576\n',
    'memory.stat': 'anon 4096\ninactive_file 1024\n',
    'pids.current': '3\n',
    'pids.max': 'max\n',
    'io.stat': '8:0 rbytes=100 wbytes=200 rios=1 wios=2 dbytes=0 dios=0\n',
  };
  mkdirSync(join(root, 'c'));
  for (const [name, text] of Object.entries(files)) writeFileSync(join(root, 'c', name), text);
  const stats = readStats(layoutOf(root), '/c', undefined, { readMs: 5, systemNs: 9 });
  expect(stats).toMatchObject({
    readMs: 5,
    cpu: { totalNs: 5e6, userNs: 3e6, kernelNs: 2e6, systemNs: 9, periods: 4, throttledPeriods: 1, throttledNs: 7000 },
    memory: { usageBytes: 8192, limitBytes: 1_048_576, stats: { anon: 4096, inactive_file: 1024 } },
    pids: { current: 3 },
    blockBytes: [
      { major: 8, minor: 0, operation: 'read', value: 100 },
      { major: 8, minor: 0, operation: 'write', value: 200 },
    ],
  });
  expect(stats.cpu.perCpuNs).toBeUndefined();
  expect(stats.networks).toBeUndefined();
  // A group that is gone while it is read is one that uses nothing.
  expect(readStats(layoutOf(root), '/gone', undefined, { readMs: 5, systemNs: 9 }).cpu.totalNs).toBe(0);
  rmSync(root, { recursive: true });
});

test('interfaces but loopback, and the time of all processors', () => {
  const head = 'Inter-| Receive | Transmit\n face |bytes packets\n';
  const text = `${head}    lo: 9 9 0 0 0 0 0 0 9 9 0 0 0 0 0 0\n  eth0:  10 1 2 3 0 0 0 0 20 4 5 6 0 0 0 0\n`;
  expect(parseNetDev(text)).toEqual({
    eth0: {
      rxBytes: 10,
      rxPackets: 1,
      rxErrors: 2,
      rxDropped: 3,
      txBytes: 20,
      txPackets: 4,
      txErrors: 5,
      txDropped: 6,
    },
  });
  expect(systemNs('cpu  1 2 3 4 5 6 7 8 9 10\ncpu0 1\n')).toBe(28 * 1e7);
  expect(systemNs(readFileSync('/proc/stat', 'latin1'))).toBeGreaterThan(1e9);
});
