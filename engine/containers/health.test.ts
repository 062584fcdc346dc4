import { expect, test } from 'vitest';
import { silentLogger, VirtualClock } from '../../base/index.ts';
import type { ExecOutcome, HealthCheckRequest, HealthLog } from '../types.ts';
import { HealthMonitor, type HealthStatus } from './health.ts';

function monitor(check: Partial<HealthCheckRequest>, exitCode: () => number, shell?: string[]) {
  const clock = new VirtualClock();
  const seen: HealthStatus[] = [];
  const askedAtMs: number[] = [];
  const commands: (readonly string[])[] = [];
  const whole = { test: ['CMD', 'probe'], intervalMs: 1_000, timeoutMs: 500, startPeriodMs: 0, retries: 2, ...check };
  const running = new HealthMonitor({
    check: whole,
    shell,
    clock,
    log: silentLogger,
    exec: async ({ command }) => {
      askedAtMs.push(clock.now());
      commands.push(command);
      return { exitCode: exitCode(), stdout: new Uint8Array(), stderr: new Uint8Array() };
    },
    onStatus: (status) => seen.push(status),
  });
  return { clock, seen, askedAtMs, commands, running };
}

test('failures count only after the start period, and then `retries` in a row', async () => {
  const { clock, seen, running } = monitor({ startPeriodMs: 3_500 }, () => 1);
  await clock.advanceAsync(4_000);
  expect(seen).toEqual([]);
  await clock.advanceAsync(1_000);
  expect(seen).toEqual(['unhealthy']);
  running.stop();
});

test('checks come at the start interval until the container is healthy or its start period is over', async () => {
  let code = 1;
  const { clock, seen, askedAtMs, running } = monitor({ startPeriodMs: 5_000, startIntervalMs: 100 }, () => code);
  await clock.advanceAsync(250);
  expect(askedAtMs).toEqual([100, 200]);
  code = 0;
  await clock.advanceAsync(50);
  expect(seen).toEqual(['healthy']);
  await clock.advanceAsync(1_000);
  expect(askedAtMs).toEqual([100, 200, 300, 1_300]);
  running.stop();
});

test('a check of a stopped monitor is not run', async () => {
  const { clock, askedAtMs, running } = monitor({}, () => 0);
  running.stop();
  await clock.advanceAsync(5_000);
  expect(askedAtMs).toEqual([]);
});

test('the last five probes are kept, with at most 4096 bytes of output each, and the failures in a row', async () => {
  const clock = new VirtualClock();
  let log: HealthLog = { failingStreak: 0, probes: [] };
  let count = 0;
  const exec = async (): Promise<ExecOutcome> => {
    count += 1;
    return { exitCode: count % 4 === 0 ? 0 : 3, stdout: Buffer.alloc(5000, 'x'), stderr: Buffer.from('no') };
  };
  const check = { test: ['CMD', 'probe'], intervalMs: 1_000, timeoutMs: 500, startPeriodMs: 0, retries: 9 };
  const options = { check, clock, log: silentLogger, exec, onStatus: () => undefined };
  const running = new HealthMonitor({ ...options, onProbe: (now) => (log = now) });
  await clock.advanceAsync(3_000);
  expect(log.failingStreak).toBe(3);
  await clock.advanceAsync(3_000);
  expect(log).toMatchObject({ failingStreak: 2 });
  expect(log.probes.map(({ exitCode }) => exitCode)).toEqual([3, 3, 0, 3, 3]);
  expect(log.probes[0]?.output).toBe(`${'x'.repeat(4096)}...`);
  running.stop();
});

test('a check that takes too long is a failure with that word', async () => {
  const clock = new VirtualClock();
  let log: HealthLog | undefined;
  const exec = (_request: unknown, signal: AbortSignal): Promise<ExecOutcome> =>
    new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(new Error('killed'))));
  const check = { test: ['CMD', 'probe'], intervalMs: 1_000, timeoutMs: 90_000, startPeriodMs: 0, retries: 1 };
  const options = { check, clock, log: silentLogger, exec, onStatus: () => undefined };
  const running = new HealthMonitor({ ...options, onProbe: (now) => (log = now) });
  await clock.advanceAsync(91_000);
  expect(log?.probes).toMatchObject([{ exitCode: -1, output: 'Health check exceeded timeout (1m30s)' }]);
  running.stop();
});

test('a check given as text is run by the shell that container or image name, else by /bin/sh', async () => {
  const run = async (test: string[], shell?: string[]): Promise<unknown> => {
    const { clock, commands, running } = monitor({ test }, () => 0, shell);
    await clock.advanceAsync(1_000);
    running.stop();
    return commands[0];
  };
  expect(await run(['CMD-SHELL', 'a | b'])).toEqual(['/bin/sh', '-c', 'a | b']);
  expect(await run(['CMD-SHELL', 'a | b'], [])).toEqual(['/bin/sh', '-c', 'a | b']);
  expect(await run(['CMD-SHELL', 'a | b'], ['/bin/ash', '-ec'])).toEqual(['/bin/ash', '-ec', 'a | b']);
  expect(await run(['CMD', 'a', 'b'], ['/bin/ash', '-ec'])).toEqual(['a', 'b']);
});
