import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { config, startOne, until, type Fixture } from '../containers/fixture.ts';
import { useFixture } from '../containers/use-fixture.ts';
import type { Engine } from '../engine.ts';
import { readCgroupLayout } from '../runtime/cgroups.ts';
import type { ContainerConfig, StatsSample } from '../types.ts';
import { parsePs } from './top.ts';
import { updateDocument } from './update.ts';

const never = new AbortController().signal;
const sh = (text: string): string[] => ['sh', '-c', text];
let fixture: Fixture;
let engine: Engine;
useFixture((made, ours) => {
  fixture = made;
  engine = ours;
});

const started = (overrides: Partial<ContainerConfig> = {}): Promise<string> => startOne(engine, overrides);
const remove = (id: string): Promise<void> => engine.containers.remove(id, { force: true, volumes: true });
const actions = (id: string): string[] =>
  engine
    .pastEvents(0)
    .filter((event) => event.actorId === id)
    .map((event) => event.action);

/** A file of a container's control group, in v1 or v2. */
function group(id: string, controller: string, v1: string, v2: string): string {
  const { controllers, unified } = readCgroupLayout();
  const tree = controllers.get(controller);
  return readFileSync(
    join(tree ?? unified ?? '', fixture.cgroupParent, id, tree === undefined ? v2 : v1),
    'utf8',
  ).trim();
}

test('pause stops the processes where they are, unpause lets them go on', async () => {
  const id = await started({ cmd: sh('n=0; while :; do n=$((n+1)); echo $n; done') });
  await until(() => (engine.control.statsOnce(id).stats?.cpu.totalNs ?? 0) > 1e7, 'it works');
  await engine.control.pause(id);
  expect(engine.containers.inspect(id).state).toBe('paused');
  const used = (): number => engine.control.statsOnce(id).stats?.cpu.totalNs ?? -1;
  const before = used();
  await new Promise((resolve) => setTimeout(resolve, 100));
  expect(used()).toBe(before);
  await expect(engine.control.pause(id)).rejects.toThrow(`Container ${id} is already paused`);
  await expect(engine.containers.remove(id, { force: false, volumes: false })).rejects.toThrow(
    'container is paused: unpause and then stop the container before removing or force remove',
  );
  await engine.control.unpause(id);
  await until(() => used() > before, 'it works again');
  await expect(engine.control.unpause(id)).rejects.toThrow(`Container ${id} is not paused`);
  await remove(id);
  expect(actions(id)).toEqual(['create', 'start', 'pause', 'unpause', 'kill', 'die', 'destroy']);
});

test('a paused container can be stopped, killed and removed, and stays paused over a restart of the daemon', async () => {
  const stopped = await started({ cmd: sh('trap "exit 7" TERM; while :; do sleep 0.05; done') });
  const removed = await started();
  const kept = await started();
  for (const id of [stopped, removed, kept]) await engine.control.pause(id);
  await engine.containers.stop(stopped, { graceMs: 10_000 });
  expect(engine.containers.inspect(stopped).exitCode).toBe(7);
  expect(actions(stopped)).toEqual(['create', 'start', 'pause', 'kill', 'unpause', 'die', 'stop']);
  await remove(removed);
  await engine.shutdown();
  engine = await fixture.open();
  expect(engine.containers.inspect(kept).state).toBe('paused');
  await engine.containers.kill(kept, 'KILL');
  expect(engine.containers.inspect(kept)).toMatchObject({ state: 'exited', exitCode: 137 });
  await Promise.all([stopped, kept].map(remove));
});

test('restart: also of one that removes itself, or does not run', async () => {
  const id = await started({ autoRemove: true });
  const { pid } = engine.containers.inspect(id);
  await engine.control.restart(id, { graceMs: 0 });
  const after = engine.containers.inspect(id);
  expect(after.state).toBe('running');
  expect(after.pid).not.toBe(pid);
  expect(actions(id)).toEqual(['create', 'start', 'kill', 'kill', 'die', 'stop', 'start', 'restart']);
  await remove(id);
  const idle = await engine.containers.create(config({ cmd: ['sleep', '1000'] }));
  await engine.control.restart(idle.id, {});
  expect(engine.containers.inspect(idle.id).state).toBe('running');
  await remove(idle.id);
});

test('rename: found by the new name only; taken and bad names are refused', async () => {
  const one = await started({ name: 'one' });
  const two = await started({ name: 'two' });
  await engine.control.rename('one', '/uno');
  expect(engine.containers.inspect('uno').id).toBe(one);
  expect(() => engine.containers.inspect('one')).toThrow('No such container: one');
  const [event] = engine.pastEvents(0).filter(({ action }) => action === 'rename');
  expect(event?.attributes).toMatchObject({ name: 'uno', oldName: '/one' });
  await expect(engine.control.rename('uno', 'two')).rejects.toThrow(
    `Error when allocating new name: Conflict. The container name "/two" is already in use by container "${two}"`,
  );
  await expect(engine.control.rename('uno', 'b@d')).rejects.toThrow(
    'Error when allocating new name: Invalid container name (b@d)',
  );
  await expect(engine.control.rename('uno', 'uno')).rejects.toThrow('same name as its current name');
  await expect(engine.control.rename('uno', '')).rejects.toThrow('Neither old nor new names may be empty');
  await engine.shutdown();
  engine = await fixture.open();
  expect(engine.containers.inspect('uno').id).toBe(one);
  await Promise.all([one, two].map(remove));
});

test('update reaches the kernel and the record', async () => {
  const id = await started({ resources: { memoryBytes: 32 << 20, pidsLimit: 50 } });
  const limits = { memoryBytes: 48 << 20, memorySwapBytes: 48 << 20, cpuShares: 512, pidsLimit: 20, nanoCpus: 5e8 };
  const restart = { name: 'always', maximumRetryCount: 0 } as const;
  await engine.control.update(id, { limits, restart });
  expect(group(id, 'memory', 'memory.limit_in_bytes', 'memory.max')).toBe(String(48 << 20));
  expect(group(id, 'pids', 'pids.max', 'pids.max')).toBe('20');
  expect(group(id, 'cpu', 'cpu.cfs_quota_us', 'cpu.max')).toMatch(/^50000/);
  expect(engine.containers.inspect(id).config).toMatchObject({ resources: { memoryBytes: 48 << 20 }, restart });
  await engine.control.update(id, { limits: { pidsLimit: -1 } });
  expect(group(id, 'pids', 'pids.max', 'pids.max')).toBe('max');
  await expect(engine.control.update(id, { limits: { memoryBytes: 1000 } })).rejects.toThrow('Minimum memory limit');
  await expect(engine.control.update(id, { limits: { cpuQuotaUs: 1000 } })).rejects.toThrow(
    `Cannot update container ${id}: Conflicting options: CPU Quota cannot be updated as NanoCPUs has already been set`,
  );
  expect(engine.containers.inspect(id).config.resources).toMatchObject({ memoryBytes: 48 << 20, nanoCpus: 5e8 });
  await engine.containers.stop(id, { graceMs: 0 });
  await engine.control.update(id, { limits: { memoryBytes: 40 << 20, memorySwapBytes: -1 } });
  await engine.containers.start(id);
  expect(group(id, 'memory', 'memory.limit_in_bytes', 'memory.max')).toBe(String(40 << 20));
  await remove(id);
  const gone = await started({ autoRemove: true });
  await expect(engine.control.update(gone, { limits: {}, restart })).rejects.toThrow(
    'Restart policy cannot be updated because AutoRemove is enabled for the container',
  );
  await remove(gone);
});

test('what an update tells the runtime', () => {
  expect(updateDocument({ memoryBytes: 100 }, { memoryBytes: 100 }, true)).toEqual({
    memory: { limit: 100, swap: 200 },
  });
  expect(updateDocument({ memoryBytes: 100 }, { memoryBytes: 100 }, false)).toEqual({ memory: { limit: 100 } });
  expect(updateDocument({ pidsLimit: 0, blkioWeight: 300 }, {}, true)).toEqual({
    pids: { limit: -1 },
    blockIO: { weight: 300 },
  });
});

test('top shows the processes of the container alone', async () => {
  const id = await started({ cmd: sh('sleep 999 & sleep 998; true') });
  await until(async () => (await engine.control.top(id, '')).processes.length === 3, 'its shell and two sleeps');
  const { titles, processes } = await engine.control.top(id, '');
  expect(titles).toEqual(['UID', 'PID', 'PPID', 'C', 'STIME', 'TTY', 'TIME', 'CMD']);
  expect(processes.map((line) => line.at(-1) ?? '').toSorted()).toEqual([
    'sh -c sleep 999 & sleep 998; true',
    'sleep 998',
    'sleep 999',
  ]);
  expect((await engine.control.top(id, '-o pid,args')).titles).toEqual(['PID', 'COMMAND']);
  // An option that does not go with a choice of processes.
  expect((await engine.control.top(id, 'aux')).processes.length).toBe(3);
  await expect(engine.control.top(id, '-o uid=PID')).rejects.toThrow('specifying "uid=PID" is not allowed');
  await expect(engine.control.top(id, '--nope')).rejects.toThrow(/nope|error/);
  await remove(id);
  expect(() => parsePs('A B\n1 2\n', new Set([1]))).toThrow("Couldn't find PID field in ps output");
  const threads = parsePs('PID LWP CMD\n7 - a b\n- 8 -\n9 - c\n', new Set([7]));
  expect(threads.processes).toEqual([
    ['7', '-', 'a b'],
    ['-', '8', '-'],
  ]);
});

test('stats: processor, memory, block devices, processes; a stream ends with the removal', async () => {
  const id = await started({ cmd: sh('while :; do :; done'), resources: { memoryBytes: 64 << 20, pidsLimit: 30 } });
  const samples: StatsSample[] = [];
  const reading = (async () => {
    for await (const sample of engine.control.stats(id, never)) {
      samples.push(sample);
      if (samples.length === 2) void remove(id);
    }
  })();
  await reading;
  const [first, second] = samples;
  expect(first?.before).toBeUndefined();
  expect(second?.before).toEqual(first?.stats);
  const used = (second?.stats?.cpu.totalNs ?? 0) - (first?.stats?.cpu.totalNs ?? 0);
  const host = (second?.stats?.cpu.systemNs ?? 0) - (first?.stats?.cpu.systemNs ?? 0);
  expect(used).toBeGreaterThan(1e8);
  expect(host).toBeGreaterThan(used / 2);
  expect(first?.stats?.memory.limitBytes).toBe(64 << 20);
  expect(first?.stats?.memory.usageBytes).toBeGreaterThan(4096);
  expect(first?.stats?.pids).toEqual({ current: 1, limit: 30 });
  const idle = await engine.containers.create(config({ cmd: ['true'], name: 'idle' }));
  expect(engine.control.statsOnce('idle')).toEqual({ id: idle.id, name: 'idle' });
  await remove(idle.id);
});

test('prune removes what does not run, by age and label', async () => {
  const running = await started({ labels: { keep: 'yes' } });
  const old = (await engine.containers.create(config({ cmd: ['true'], labels: { a: '1' } }))).id;
  const other = (await engine.containers.create(config({ cmd: ['true'], labels: { a: '2' } }))).id;
  const before = await engine.control.prune({ untilMs: 1000, wanted: () => true });
  expect(before).toEqual({ removed: [], reclaimedBytes: 0 });
  expect((await engine.control.prune({ wanted: (labels) => labels['a'] === '1' })).removed).toEqual([old]);
  expect((await engine.control.prune({ wanted: () => true })).removed).toEqual([other]);
  expect(engine.containers.list().map(({ id }) => id)).toEqual([running]);
  expect(engine.pastEvents(0).filter(({ action }) => action === 'prune').length).toBe(3);
  await remove(running);
});

test('a child that ran out of memory is told while the container goes on', async () => {
  const id = await started({
    cmd: sh('head -c 100m /dev/zero | grep x; sleep 1000'),
    resources: { memoryBytes: 16 << 20, memorySwapBytes: 16 << 20 },
  });
  await until(() => engine.containers.inspect(id).oomKilled, 'the kill is noticed');
  expect(engine.containers.inspect(id).state).toBe('running');
  expect(actions(id)).toContain('oom');
  await remove(id);
  expect(actions(id).filter((action) => action === 'oom').length).toBe(1);
}, 20_000);

test('restart policies: counted when decided, stopped while waiting, removed while waiting', async () => {
  const restart = { name: 'always', maximumRetryCount: 0 } as const;
  const waiting = async (): Promise<string> => {
    const id = await started({ cmd: ['false'], restart });
    await until(() => engine.containers.inspect(id).restartCount >= 3, 'it waits longer and longer');
    await until(() => engine.containers.inspect(id).state === 'restarting', 'it waits');
    return id;
  };
  const [stopped, removed] = await Promise.all([waiting(), waiting()]);
  await expect(engine.containers.remove(removed, { force: false, volumes: false })).rejects.toThrow(
    'container is restarting: stop the container before removing or force remove',
  );
  const ended = engine.containers.wait(stopped, 'not-running', never);
  await engine.containers.stop(stopped, {});
  await ended;
  expect(engine.containers.inspect(stopped).state).toBe('exited');
  await remove(removed);
  // A start of the daemon brings back `always`, also after a stop by hand, and counts anew.
  const unless = await started({ restart: { name: 'unless-stopped', maximumRetryCount: 0 } });
  await engine.containers.stop(unless, { graceMs: 0 });
  await engine.control.update(stopped, { limits: {}, restart });
  await engine.shutdown();
  engine = await fixture.open();
  await until(() => engine.containers.inspect(stopped).restartCount > 0, 'it is tried again');
  expect(engine.containers.inspect(unless).state).toBe('exited');
  await Promise.all([stopped, unless].map(remove));
});
