import { statSync } from 'node:fs';
import { dirname } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { directSpawner, systemClock } from '../base/index.ts';
import { Bed, DOCKER, until } from './kit/index.ts';

/** Logs as the stock client shows them. */
const bed = new Bed('logs');
beforeAll(async () => {
  const defaults = ['--log-driver', 'local', '--log-opt', 'max-size=1m', '--log-opt', 'max-file=2'];
  await bed.up({ managers: 1, workers: 0, swarm: false, daemonFlags: defaults });
  await bed.client.run('import', await bed.archive(), 'box');
});
afterAll(() => bed.down());

let count = 0;
async function run(flags: readonly string[], script: string): Promise<string> {
  const name = `log${++count}`;
  await bed.client.run('run', '-d', '--name', name, ...flags, 'box', 'sh', '-c', script);
  return name;
}
const json = ['--log-driver', 'json-file'];
const ended = (name: string): Promise<string> => bed.client.run('wait', name);

describe('docker logs', () => {
  it('shows streams, times, details and tails, of containers that ended too', async () => {
    const flags = [
      ...json,
      '--label',
      'team=x',
      '-e',
      'STAGE=y z',
      '--log-opt',
      'labels=team',
      '--log-opt',
      'env=STAGE',
    ];
    const name = await run(flags, 'for i in 1 2 3; do echo out $i; sleep 0.1; done; echo bad >&2');
    await ended(name);
    const all = await bed.client.try(['logs', name]);
    expect([all.stdout, all.stderr]).toEqual(['out 1\nout 2\nout 3\n', 'bad\n']);
    expect(await bed.client.run('logs', '--tail', '2', name)).toBe('out 3');
    const details = await bed.client.run('logs', '--details', '--tail', '4', name);
    expect(details.split('\n')[0]).toBe('STAGE=y+z,team=x out 1');
    const timed = (await bed.client.run('logs', '-t', name)).split('\n').map((line) => line.split(' ')[0] ?? '');
    expect(timed[1]).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z$/);
    expect(await bed.client.run('logs', '--since', timed[1] ?? '', name)).toBe('out 2\nout 3');
    expect(await bed.client.run('logs', '--until', timed[1] ?? '', name)).toBe('out 1\nout 2');
  });

  it('follows through restarts and rotation, in order and without loss', async () => {
    const script = 'n=$(cat /n 2>/dev/null || echo 0); seq $((n+1)) $((n+100000)); echo $((n+100000)) > /n; exit 1';
    const name = await run(['--restart', 'on-failure:2', '--log-opt', 'max-size=200k'], script);
    const lines = (await bed.client.run('logs', '-f', name)).split('\n').map(Number);
    const first = lines[0] ?? 0;
    expect(lines.every((line, i) => line === first + i)).toBe(true);
    expect(lines.at(-1)).toBe(300_000);
  });

  it('has the daemon’s defaults, which keep a container that never stops within its bound', async () => {
    const name = await run([], 'yes');
    const facts = await bed.client.inspect<{ LogPath: string; HostConfig: { LogConfig: object } }>('inspect', name);
    const { LogPath: path, HostConfig } = facts;
    expect(HostConfig.LogConfig).toEqual({ Type: 'local', Config: { 'max-size': '1m', 'max-file': '2' } });
    const first = statSync(path).ino;
    await until('a second file', 10_000, () => statSync(path).ino !== first);
    await systemClock.sleep(500);
    const kib = await bed.inside('m1', ['du', '-s', '-k', dirname(path)]);
    expect(Number(kib.split(/\s/)[0])).toBeLessThan(66 * 1024);
    expect((await bed.client.run('logs', '--tail', '3', name)).split('\n')).toEqual(['y', 'y', 'y']);
    await bed.client.run('kill', name);
  });

  it('takes a line of 1 GB: neither the daemon nor the disk grows, and what is kept can be read', async () => {
    const before = bed.daemonMb('m1');
    const name = await run(
      ['--log-opt', 'max-size=16m'],
      "head -c 1073741824 /dev/zero | tr '\\0' x; echo; echo after",
    );
    expect(await ended(name)).toBe('0');
    expect(bed.daemonMb('m1') - before).toBeLessThan(64);
    const { LogPath: path } = await bed.client.inspect<{ LogPath: string }>('inspect', name);
    const kib = await bed.inside('m1', ['du', '-s', '-k', dirname(path)]);
    // Two files of 16 MB, and what conmon may write between two looks of the daemon.
    expect(Number(kib.split(/\s/)[0])).toBeLessThan((2 * 16 + 64) * 1024);
    expect(await bed.client.run('logs', '--tail', '1', name)).toBe('after');
    const end = await directSpawner.run({
      file: 'sh',
      args: ['-c', '"$@" | tail -c 1000', 'sh', DOCKER ?? 'docker', '-H', bed.client.host, 'logs', name],
    });
    expect(end.stdout.toString('utf8')).toMatch(/^x{900,}\nafter\n$/);
  }, 120_000);

  it('refuses what it does not know, and says what cannot be read', async () => {
    const fails = (...flags: string[]): Promise<string> => bed.client.fails('run', ...flags, 'box', 'true');
    expect(await fails('--log-driver', 'splunk')).toContain("logger: no log driver named 'splunk' is registered");
    expect(await fails(...json, '--log-opt', 'x=1')).toContain("unknown log opt 'x' for json-file log driver");
    const name = await run(['--log-driver', 'none'], 'echo hi');
    await ended(name);
    expect(await bed.client.fails('logs', name)).toContain('configured logging driver does not support reading');
    const box = await run(
      ['--log-driver', 'syslog', '--log-opt', `syslog-address=unixgram://${bed.file('none')}`],
      '',
    ).catch((error: unknown) => String(error));
    expect(box).toContain('failed to initialize logging driver');
  });
});
