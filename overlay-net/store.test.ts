import { appendFileSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { silentLogger } from '../base/index.ts';
import { applyTableDelta, NetworkTable } from '../proto/index.ts';
import { NetworkStore } from './store.ts';
import { changeOf, deltaOf } from './table-change.ts';

const root = mkdtempSync(join(tmpdir(), 'shoal-store-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));
const open = (): NetworkStore => new NetworkStore(root, root, silentLogger);

const table = (version: number, tasks: readonly number[]): NetworkTable =>
  NetworkTable.create({
    network_id: 'net',
    version,
    network: { id: 'net' },
    endpoints: tasks.map((task) => ({ task_id: `t${task}`, address: `10.0.${task >> 8}.${task & 255}/16` })),
  });
const tasksOf = (one: NetworkTable | undefined): string[] => (one?.endpoints ?? []).map((task) => task.task_id).sort();

test('tables are read back with the changes behind them, up to one that was cut off', async () => {
  const store = open();
  let current = table(1, [1, 2, 3]);
  // Nothing is written behind a table that was not written.
  expect(store.saveTableDelta(deltaOf(current, changeOf(current, table(2, [1]))))).toBe(false);
  await store.saveTable({ table: current, vxlan: 'v' });
  for (const [version, tasks] of [[2, [1, 2, 3, 4]], [3, [2, 4]], [4, [2, 4, 5]]] as const) {
    const change = changeOf(current, table(version, tasks));
    const delta = deltaOf(current, change);
    expect(store.saveTableDelta(delta)).toBe(true);
    expect(tasksOf(applyTableDelta(current, delta))).toEqual(tasksOf(change.table));
    current = change.table;
  } // prettier-ignore
  const again = open();
  const [read] = again.loadTables();
  expect([read?.vxlan, read?.table.version, tasksOf(read?.table)]).toEqual(['v', 4, ['t2', 't4', 't5']]);
  const next = changeOf(current, table(5, [2]));
  expect(again.saveTableDelta(deltaOf(current, next))).toBe(true);
  appendFileSync(join(root, 'tables', 'net.deltas'), Buffer.from([9, 0, 0, 0, 1]));
  const third = open();
  expect(third.loadTables()[0]?.table.version).toBe(5);
  // Behind what was cut off nothing could be read.
  expect(third.saveTableDelta(deltaOf(next.table, changeOf(next.table, table(6, []))))).toBe(false);
  third.removeTable('net');
  expect(readdirSync(join(root, 'tables'))).toEqual([]);
});

test('a large table is written in pieces, and anew when its changes are as long as itself', async () => {
  const store = open();
  const tasks = Array.from({ length: 2000 }, (_, i) => i);
  let current = table(1, tasks);
  await store.saveTable({ table: current, vxlan: '' });
  expect(open().loadTables()[0]?.table).toEqual(current);
  let written = 0;
  for (let version = 2; version < 4000; version++) {
    const change = changeOf(current, table(version, tasks.slice(version % 2 === 0 ? 50 : 0)));
    if (!store.saveTableDelta(deltaOf(current, change))) break;
    current = change.table;
    written++;
  }
  expect(written).toBeGreaterThan(20);
  expect(written).toBeLessThan(200);
  expect(tasksOf(open().loadTables()[0]?.table)).toEqual(tasksOf(current));
});
