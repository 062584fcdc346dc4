import { mkdirSync, mkdtempSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { readCgroupLayout, type CgroupLayout } from './cgroups.ts';
import { readCgroupUsage } from './usage.ts';

const root = mkdtempSync(join(tmpdir(), 'shoal-usage-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));

function record(tree: string, files: Record<string, string>): void {
  mkdirSync(join(root, tree, 'shoal/c1'), { recursive: true });
  for (const [name, text] of Object.entries(files)) writeFileSync(join(root, tree, 'shoal/c1', name), text);
}

/** In the form of Linux 6.1 with cgroup v2 (Documentation/admin-guide/cgroup-v2.rst); typed, not captured; the lists are cut. */
const V2 = {
  'cpu.stat': 'usage_usec 1523077\nuser_usec 1101512\nsystem_usec 421565\nnr_periods 12\nnr_throttled 3\n',
  'memory.current': '52428800\n',
  'memory.stat':
    'anon 31457280\nfile 20971520\nkernel 122880\nactive_file 8388608\ninactive_file 12582912\nslab 4096\n',
};
const MEMORY_V1 = {
  'memory.usage_in_bytes': '9437184\n',
  'memory.stat': 'cache 4096\ninactive_file 1\ntotal_cache 4096\ntotal_inactive_file 1048576\ntotal_active_file 0\n',
};

const v2: CgroupLayout = { version: 'v2', controllers: new Map(), unified: join(root, 'v2') };

test('a recorded v2 tree', () => {
  record('v2', V2);
  expect(readCgroupUsage(v2, '/shoal/c1')).toEqual({ cpuNs: 1_523_077_000, memoryBytes: 52_428_800 - 12_582_912 });
  expect(readCgroupUsage(v2, '/shoal/other')).toBeUndefined();
});

test('a host that does not count memory still tells CPU time', () => {
  record('bare', { 'cpu.stat': V2['cpu.stat'] });
  const layout = { ...v2, unified: join(root, 'bare') };
  expect(readCgroupUsage(layout, '/shoal/c1')).toEqual({ cpuNs: 1_523_077_000, memoryBytes: undefined });
});

test('v1 controllers, and one in each tree', () => {
  record('cpuacct', { 'cpuacct.usage': '42000000001\n' });
  record('memory', MEMORY_V1);
  record('unified', V2);
  const cpuacct = join(root, 'cpuacct');
  const memory = join(root, 'memory');
  const unified = join(root, 'unified');
  const v1: CgroupLayout = {
    version: 'v1',
    controllers: new Map([...['cpuacct'].map((c) => [c, cpuacct] as const), ['memory', memory]]),
    unified: undefined,
  };
  expect(readCgroupUsage(v1, '/shoal/c1')).toEqual({ cpuNs: 42_000_000_001, memoryBytes: 9_437_184 - 1_048_576 });
  const mixed: CgroupLayout = { version: 'hybrid', controllers: new Map([['cpuacct', cpuacct]]), unified };
  expect(readCgroupUsage(mixed, '/shoal/c1')).toEqual({ cpuNs: 42_000_000_001, memoryBytes: 39_845_888 });
});

test('pages of files that nobody touches may be all there is', () => {
  record('stale', { ...V2, 'memory.current': '4096\n' });
  expect(readCgroupUsage({ ...v2, unified: join(root, 'stale') }, '/shoal/c1')?.memoryBytes).toBe(0);
});

test('a real group of this machine counts what a process in it burns', async () => {
  const layout = readCgroupLayout();
  const path = `/shoal-usage-${process.pid}`;
  const wanted = ['cpuacct', 'memory'].map((name) => layout.controllers.get(name) ?? layout.unified ?? '');
  const trees = [...new Set(wanted)].map((tree) => join(tree, path));
  for (const tree of trees) mkdirSync(tree);
  try {
    const before = readCgroupUsage(layout, path);
    expect(before?.cpuNs).toBe(0);
    // The shell puts itself into the group, then burns a tenth of a second and holds two megabytes.
    const enter = trees.map((tree) => `echo $$ >${tree}/cgroup.procs`).join(' && ');
    const burn =
      'const t = process.cpuUsage(), b = Buffer.alloc(2 << 20, 1);' +
      'while (process.cpuUsage(t).user < 1e5); console.log(b.length); process.stdin.resume()';
    const child = spawn('sh', ['-c', `${enter} && exec "$0" -e '${burn}'`, process.execPath], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    await once(child.stdout, 'data');
    const during = readCgroupUsage(layout, path);
    expect(during?.cpuNs).toBeGreaterThan(1e8);
    expect(during?.cpuNs).toBeLessThan(10e9);
    expect(during?.memoryBytes).toBeGreaterThan(2 << 20);
    child.stdin.end();
    await once(child, 'exit');
  } finally {
    for (const tree of trees) rmdirSync(tree);
  }
  expect(readCgroupUsage(layout, path)).toBeUndefined();
});
