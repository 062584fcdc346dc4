import { describe, expect, it } from 'vitest';
import { GROUPS, TOP } from './catalog.ts';
import { complete } from './completion.ts';
import type { Client } from './client.ts';
import type { Context } from './context.ts';
import { updateBody, containerManageCommands } from './container-manage.ts';
import { statsRow, type StatsSample } from './container-stats.ts';
import { readOptions } from './options.ts';
import { summary } from './system-df.ts';

const SAMPLE: StatsSample = {
  id: 'abcdef0123456789',
  name: '/web',
  cpu_stats: { cpu_usage: { total_usage: 300 }, system_cpu_usage: 2000, online_cpus: 2 },
  precpu_stats: { cpu_usage: { total_usage: 100 }, system_cpu_usage: 1000 },
  memory_stats: { usage: 3 * 1024 * 1024, limit: 80 * 1024 * 1024, stats: { inactive_file: 1024 * 1024 } },
  blkio_stats: {
    io_service_bytes_recursive: [
      { op: 'Read', value: 1000 },
      { op: 'read', value: 1000 },
      { op: 'Write', value: 5_000_000 },
    ],
  },
  pids_stats: { current: 3 },
  networks: { eth0: { rx_bytes: 1500, tx_bytes: 0 }, eth1: { rx_bytes: 500, tx_bytes: 648 } },
};

describe('stats', () => {
  it('shows use as docker reckons it', () => {
    expect(statsRow('web', SAMPLE, true, true).fields).toEqual({
      ...{ Container: 'web', Name: 'web', ID: 'abcdef012345', CPUPerc: '40.00%', MemUsage: '2MiB / 80MiB' },
      ...{ MemPerc: '2.50%', NetIO: '2kB / 648B', BlockIO: '2kB / 5MB', PIDs: '3' },
    });
  });

  it('prefers what cgroup v1 calls the cache, and takes CPUs from their list', () => {
    const memory_stats = { usage: 100, limit: 0, stats: { total_inactive_file: 40, inactive_file: 1 } };
    const cpu_stats = { cpu_usage: { total_usage: 200, percpu_usage: [1, 2, 3, 4] }, system_cpu_usage: 2000 };
    const { fields } = statsRow('web', { ...SAMPLE, memory_stats, cpu_stats }, true, false);
    expect(fields).toMatchObject({ MemUsage: '60B / 0B', MemPerc: '0.00%', CPUPerc: '40.00%' });
  });

  it('shows nothing of a container that tells nothing', () => {
    const { fields } = statsRow('web', undefined, true, true);
    expect(fields).toMatchObject({ Name: '--', CPUPerc: '--', MemUsage: '-- / --', PIDs: '--' });
  });
});

describe('system df', () => {
  it('tells what could be given back', () => {
    const container = { Id: 'c', Names: [], Image: 'i', ImageID: 'i', Command: '', Created: 0, Status: '' };
    const rows = summary({
      LayersSize: 1000,
      Images: [
        { Id: 'a', Created: 0, Size: 600, SharedSize: 200, Containers: 1, RepoTags: null },
        { Id: 'b', Created: 0, Size: 600, SharedSize: 200, Containers: 0, RepoTags: null },
      ],
      Containers: [
        { ...container, State: 'running', SizeRw: 30 },
        { ...container, State: 'exited', SizeRw: 10 },
      ],
      Volumes: [
        { Name: 'v', UsageData: { Size: 50, RefCount: 0 } },
        { Name: 'w', UsageData: { Size: -1, RefCount: 1 } },
      ],
      BuildCache: null,
    });
    expect(rows.map((row) => Object.values(row.fields).join(' '))).toEqual([
      'Images 2 1 1kB 600B (60%)',
      'Containers 2 1 40B 10B (25%)',
      'Local Volumes 2 1 50B 50B (100%)',
      'Build Cache 0 0 0B 0B',
    ]);
  });
});

describe('update', () => {
  it('sends all resources, with those that were given', () => {
    const options = containerManageCommands['update']?.options ?? [];
    const words = ['-m', '64m', '--memory-swap', '-1', '--cpus', '1.5', '--restart', 'on-failure:2', 'web'];
    const body = updateBody(readOptions(options, words, false).flags);
    expect(body).toMatchObject({
      ...{ Memory: 64 * 1024 * 1024, MemorySwap: -1, NanoCpus: 1.5e9, CpuShares: 0, PidsLimit: null },
      RestartPolicy: { Name: 'on-failure', MaximumRetryCount: 2 },
    });
  });
});

describe('completion', () => {
  const TREE = { groups: GROUPS, top: TOP, programs: [] };
  const client = {
    get: (path: string, query: { all?: boolean } = {}) => {
      const box = [{ Names: ['/web'] }, ...(query.all === true ? [{ Names: ['/stopped'] }] : [])];
      return Promise.resolve(path === '/containers/json' ? box : path === '/networks' ? [{ Name: 'app' }] : []);
    },
  } as unknown as Client;
  const of = (...words: string[]) => complete({ client } as Context, TREE, words);

  it.each([
    [['sta'], ['start', 'stats']],
    [['container', 'un'], ['unpause']],
    [['stop', ''], ['web']],
    [
      ['rm', '-f', ''],
      ['stopped', 'web'],
    ],
    [['container', 'rm', 's'], ['stopped']],
    [
      ['run', '--health-s'],
      ['--health-start-interval', '--health-start-period'],
    ],
    [['run', '--rm', '--network', ''], ['app']],
    [['run', '--restart', 'on'], ['on-failure']],
    [['exec', '-u', 'root', ''], ['web']],
    [['exec', 'web', ''], []],
    [['-H', 'unix:///x', 'volume', 'pr'], ['prune']],
    [['nosuch', ''], []],
  ])('of %j', async (words, found) => expect(await of(...words)).toEqual(found));
});
