import { expect, test } from 'vitest';
import type { Engine } from '../engine.ts';
import type { ContainerConfig } from '../types.ts';
import { config, until } from './fixture.ts';
import { useFixture } from './use-fixture.ts';
import { shouldRestart, shouldStartWithDaemon } from './restart.ts';

let engine: Engine;
useFixture((_fixture, ours) => {
  engine = ours;
});

/** A container that ends with 3 when it gets one of the signals. */
async function started(name: ContainerConfig['restart']['name'], more: Partial<ContainerConfig> = {}): Promise<string> {
  const cmd = ['sh', '-c', 'trap "exit 3" HUP TERM; echo ready; while :; do sleep 0.02; done'];
  const restart = { name, maximumRetryCount: 0 };
  const { id } = await engine.containers.create(config({ cmd, restart, ...more }));
  await engine.containers.start(id);
  const never = new AbortController().signal;
  for await (const _ of engine.containers.logs(id, { stdout: true, stderr: true, follow: true }, never)) break;
  return id;
}

/** Sends a signal that ends it. @returns whether it is started again */
async function comesBack(id: string, signal: string): Promise<boolean> {
  const exit = engine.containers.wait(id, 'next-exit', new AbortController().signal);
  await engine.containers.kill(id, signal);
  await exit;
  const { state } = engine.containers.inspect(id);
  await engine.containers.remove(id, { force: true, volumes: true });
  return state === 'restarting' || state === 'running';
}

test('a signal that is not the stop signal ends the policy of unless-stopped alone, as in docker', async () => {
  const own = { stopSignal: 'SIGTERM' };
  expect(await comesBack(await started('always', own), 'HUP')).toBe(true);
  expect(await comesBack(await started('on-failure', own), 'HUP')).toBe(true);
  expect(await comesBack(await started('unless-stopped', own), 'HUP')).toBe(false);
  expect(await comesBack(await started('always', own), 'TERM')).toBe(false);
  expect(await comesBack(await started('always', own), 'KILL')).toBe(false);
});

test('without a stop signal of its own any signal ends the policy, until the next start', async () => {
  expect(await comesBack(await started('always'), 'HUP')).toBe(false);
  const id = await started('on-failure');
  const exit = engine.containers.wait(id, 'next-exit', new AbortController().signal);
  await engine.containers.kill(id, 'HUP');
  await exit;
  expect(engine.containers.inspect(id).state).toBe('exited');
  await engine.containers.start(id);
  process.kill(engine.containers.inspect(id).pid, 'SIGKILL');
  await until(() => engine.containers.inspect(id).restartCount === 1, 'its policy acts again');
  await engine.containers.remove(id, { force: true, volumes: true });
});

test('a start of the daemon brings back what nobody stopped, and always', () => {
  const by = (name: ContainerConfig['restart']['name'], stopped: boolean): boolean =>
    shouldStartWithDaemon({ name, maximumRetryCount: 0 }, 1, { manuallyStopped: stopped, policyEnded: stopped });
  expect(['always', 'unless-stopped', 'on-failure', 'no'].map((name) => by(name as 'no', true))).toEqual([
    true,
    false,
    false,
    false,
  ]);
  expect(['always', 'unless-stopped', 'on-failure', 'no'].map((name) => by(name as 'no', false))).toEqual([
    true,
    true,
    true,
    false,
  ]);
  const bounded = { name: 'on-failure', maximumRetryCount: 2 } as const;
  expect(shouldRestart(bounded, 1, 2, { manuallyStopped: false })).toBe(false);
});
