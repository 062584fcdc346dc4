import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import {
  InternalRaftRequest,
  RaftConfChange,
  RaftConfChangeType,
  RaftEntryType,
  Service,
  StoreAction,
  StoreActionKind,
  Task,
  type RaftEntry,
} from '../proto/index.ts';
import { openWal } from '../raft/index.ts';
import { runDebug } from './debug.ts';

let root = '';

function request(...actions: StoreAction[]): Uint8Array {
  return InternalRaftRequest.encode(InternalRaftRequest.create({ action: actions }));
}

beforeAll(async () => {
  root = mkdtempSync(join(tmpdir(), 'shoal-debug-'));
  const dir = join(root, 'swarm/raft');
  mkdirSync(dir, { recursive: true });
  const { storage } = openWal(dir, { nodeId: 0xabc, segmentBytes: 64 * 1024 });
  const change = RaftConfChange.create({ type: RaftConfChangeType.ConfChangeAddNode, node_id: 0xabc });
  const service = Service.create({ id: 'svc' });
  const update = StoreAction.create({ action: StoreActionKind.STORE_ACTION_UPDATE, service });
  const create = StoreAction.create({ action: StoreActionKind.STORE_ACTION_CREATE, task: Task.create({ id: 'task' }) });
  const entries: RaftEntry[] = [
    { type: RaftEntryType.EntryConfChange, term: 1, index: 1, data: RaftConfChange.encode(change) },
    { type: RaftEntryType.EntryNormal, term: 2, index: 2, data: new Uint8Array(0) },
    { type: RaftEntryType.EntryNormal, term: 2, index: 3, data: request(update, create, create) },
  ];
  await new Promise<void>((resolve, reject) => {
    const batch = { entries, hardState: { term: 2, vote: 0xabc, commit: 3 }, snapshot: null, repaired: false };
    storage.write(batch, (error) => (error === null || error === undefined ? resolve() : reject(error)));
  });
  await new Promise<void>((resolve) => storage.close(() => resolve()));
});
afterAll(() => rmSync(root, { recursive: true, force: true }));

function debug(...words: string[]): { text: string; code: number } {
  let text = '';
  const code = runDebug(words, (part) => {
    text += part;
  });
  return { text, code };
}

test('shoal debug raft-log reads a data root, in words and as JSON', () => {
  const { text, code } = debug('raft-log', '--data-root', root, '--entries');
  expect(code).toBe(0);
  expect(text).toContain('Hard state:   term 2, vote abc, commit 3');
  expect(text).toContain('Terms:        1 (1), 2 (2–3)');
  expect(text).toContain('Membership:   voters abc; learners none');
  expect(text).toMatch(/1 +1 +conf-change +\d+ +add voter abc/);
  expect(text).toMatch(/2 +2 +empty +0\n/);
  expect(text).toMatch(/3 +2 +normal +\d+ +update service, 2 × create task/);
  expect(text).toMatch(/Stops at: +wal\/wal-0+1\.log, offset \d+: nothing was written after it/);
  const json = JSON.parse(debug('raft-log', '--json', join(root, 'swarm/raft')).text) as Record<string, unknown>;
  expect(json).toMatchObject({
    nodeId: 0xabc,
    lastIndex: 3,
    hardState: { commit: 3 },
    membership: { voters: [0xabc] },
  });
  expect(json['entries']).toBeUndefined();
});

test('a damaged log has an exit code, and is left as it is', () => {
  const dir = join(root, 'swarm/raft/wal');
  const [name = ''] = readdirSync(dir).filter((one) => one.endsWith('.log'));
  const path = join(dir, name);
  const file = readFileSync(path);
  file[220] = (file[220] as number) ^ 1;
  writeFileSync(path, file);
  const { text, code } = debug('raft-log', root);
  expect(code).toBe(2);
  expect(text).toContain('a start fetches from the leader');
  expect(readFileSync(path).equals(file)).toBe(true);
  expect(readdirSync(dir).some((one) => one.startsWith('damaged-'))).toBe(false);
});

test('bad words are refused', () => {
  expect(debug('--help').text).toContain('shoal debug raft-log');
  expect(() => debug('raft-log', join(root, 'nothing'))).toThrow(/holds no raft log/);
  expect(() => debug('raft-log', '--what')).toThrow(/unknown flag/);
  expect(() => debug('nothing')).toThrow(/unknown command/);
});
