import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Level } from 'level';
import { afterEach, describe, expect, it } from 'vitest';
import { VirtualClock, silentLogger, unavailable } from '../base/index.ts';
import {
  applyTableDelta,
  LogStream,
  LogSubscriptionOptions,
  NetworkTable,
  Task,
  TaskState,
  TaskStatus,
} from '../proto/index.ts';
import { logOptions } from './log-publisher.ts';
import { NetworkTables } from './network-tables.ts';
import { Reporter } from './reporter.ts';
import { StateDb } from './state-db.ts';

const aTable = (version: number, id = 'net'): NetworkTable => NetworkTable.create({ network_id: id, version });

describe('state database', () => {
  const directory = mkdtempSync(join(tmpdir(), 'shoal-state-'));
  afterEach(() => rmSync(directory, { recursive: true, force: true }));

  it('gives back what was written, without what was removed or cannot be read', async () => {
    const first = new StateDb(directory, silentLogger);
    await first.load();
    const task = Task.create({ id: 't1', desired_state: TaskState.RUNNING });
    const status = TaskStatus.create({ state: TaskState.RUNNING });
    await first.write({
      tasks: new Map([['t1', task], ['t2', Task.create({ id: 't2' })]]), // prettier-ignore
      statuses: new Map([['t1', status]]),
      tables: new Map([['net', aTable(3)]]),
    });
    await first.write({ tasks: new Map([['t2', undefined]]) });
    await first.close();
    const raw = new Level<string, Uint8Array>(join(directory, 'tasks.db'), { valueEncoding: 'view' });
    await raw.put('task/broken', new Uint8Array([0xff, 0xff, 0xff]));
    await raw.close();
    const second = new StateDb(directory, silentLogger);
    const state = await second.load();
    await second.close();
    expect([...state.tasks]).toEqual([['t1', task]]);
    expect([...state.statuses]).toEqual([['t1', status]]);
    expect([...state.tables]).toEqual([['net', aTable(3)]]);
  });
});

describe('deltas of network tables', () => {
  const endpoint = (id: string, address: string) => ({ task_id: id, address });
  const base = NetworkTable.create({ network_id: 'net', version: 3, endpoints: [endpoint('a', '1'), endpoint('b', '2')] }); // prettier-ignore
  const delta = (from: number, to: number): NetworkTable =>
    NetworkTable.create({
      network_id: 'net',
      version: to,
      base_version: from,
      endpoints: [endpoint('c', String(to))],
      removed_task_ids: [to % 2 === 0 ? 'a' : 'nobody'],
    });

  it('are written behind the table, and read back with it', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'shoal-state-'));
    const first = new StateDb(directory, silentLogger);
    await first.load();
    await first.write({ tables: new Map([['net', base]]) });
    let table = base;
    for (let version = 4; version < 4 + 300; version++) {
      const next = applyTableDelta(table, delta(version - 1, version))!;
      await first.write({ tables: new Map([['net', next]]), deltas: new Map([['net', delta(version - 1, version)]]) });
      table = next;
    }
    await first.close();
    const second = new StateDb(directory, silentLogger);
    expect((await second.load()).tables.get('net')).toEqual(table);
    await second.write({ tables: new Map([['net', undefined]]) });
    await second.close();
    const third = new StateDb(directory, silentLogger);
    expect((await third.load()).tables.size).toBe(0);
    await third.close();
    rmSync(directory, { recursive: true, force: true });
  });

  it('that start from another version are not taken', async () => {
    const tables = new NetworkTables({
      clock: new VirtualClock(),
      log: silentLogger,
      announce: () => undefined,
      set: async () => undefined,
      remove: async () => undefined,
      inUse: () => false,
    });
    expect(tables.resolve(delta(3, 4))).toBeUndefined();
    tables.set(base);
    expect(tables.resolve(delta(2, 4))).toBeUndefined();
    const next = tables.resolve(delta(3, 4));
    expect(next).toMatchObject({ version: 4, base_version: 0, endpoints: [{ task_id: 'b' }, { task_id: 'c' }] });
    tables.set(next!);
    expect(tables.resolve(delta(3, 4))).toBeUndefined();
    await tables.stop();
  });
});

describe('reporter', () => {
  it('sends one call at a time with the newest of each task, and keeps what failed', async () => {
    const reporter = new Reporter();
    const sent: [string, TaskState | undefined][][] = [];
    const controller = new AbortController();
    let answer: (error?: Error) => void = () => undefined;
    const send = (updates: { task_id: string; status: TaskStatus | null }[]): Promise<void> => {
      sent.push(updates.map((one) => [one.task_id, one.status?.state]));
      return new Promise((resolve, reject) => (answer = (error) => (error ? reject(error) : resolve())));
    };
    const status = (state: TaskState): TaskStatus => TaskStatus.create({ state });
    reporter.report('a', status(TaskState.ACCEPTED));
    reporter.report('b', status(TaskState.READY));
    const running = reporter.run(send, controller.signal);
    reporter.report('a', status(TaskState.PREPARING));
    reporter.report('a', status(TaskState.READY));
    answer();
    await new Promise((resolve) => setImmediate(resolve));
    expect(sent).toEqual([
      [['a', TaskState.ACCEPTED], ['b', TaskState.READY]],
      [['a', TaskState.READY]],
    ]); // prettier-ignore
    answer(new Error('broken'));
    await expect(running).rejects.toThrow('broken');
    expect(reporter.pendingCount).toBe(1);
  });
});

describe('network tables', () => {
  it('applies them in order, tries again, and takes none away that is in use', async () => {
    const clock = new VirtualClock();
    const done: string[] = [];
    const announced: string[] = [];
    let failing = true;
    let used = true;
    const tables = new NetworkTables({
      clock,
      log: silentLogger,
      announce: (table) => void announced.push(table.network_id),
      set: async (table) => {
        if (table.network_id === 'bad' && failing) throw unavailable('no kernel');
        done.push(`${table.network_id} ${table.version}`);
      },
      remove: async (id) => void done.push(`-${id}`),
      inUse: () => used,
    });
    const { signal } = new AbortController();
    tables.set(aTable(1));
    tables.set(aTable(1, 'bad'));
    // Names do not wait for the kernel's turn.
    expect(announced).toEqual(['net', 'bad']);
    let ready = false;
    void tables.ready(['net', 'bad', 'unknown'], signal).then(() => (ready = true));
    await clock.advanceAsync(0);
    expect([done, ready]).toEqual([['net 1'], false]);
    failing = false;
    await clock.advanceAsync(1000);
    expect([done, ready]).toEqual([['net 1', 'bad 1'], true]);
    tables.remove('net');
    await clock.advanceAsync(0);
    expect(done).toHaveLength(2);
    used = false;
    tables.sweep();
    await clock.advanceAsync(0);
    expect(done.at(-1)).toBe('-net');
    expect(tables.ids()).toEqual(new Set(['bad']));
    await tables.stop();
  });
});

describe('log options', () => {
  const of = (fields: Partial<LogSubscriptionOptions>) => logOptions(LogSubscriptionOptions.create(fields));

  it('reads the tail as swarm encodes it', () => {
    expect(of({ tail: 0 }).tail).toBeUndefined();
    expect(of({ tail: -1 }).tail).toBe(0);
    expect(of({ tail: -11 }).tail).toBe(10);
  });

  it('means both streams when none is named', () => {
    expect(of({})).toMatchObject({ stdout: true, stderr: true, follow: false });
    expect(of({ streams: [LogStream.LOG_STREAM_STDERR], follow: true })).toMatchObject({ stdout: false, follow: true });
    expect(of({ since: { seconds: 2, nanos: 5e8 } }).sinceMs).toBe(2500);
  });
});
