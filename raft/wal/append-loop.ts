/**
 * A process for node-disk.test.ts: appends to a log until it is killed, and says on its standard output what is durable.
 * Arguments: directory, first index, term. Lines: `index term`.
 */
import { writeSync } from 'node:fs';
import type { RaftEntry } from '../../proto/index.ts';
import type { RaftStorage } from '../storage.ts';
import { openWal } from './open.ts';

const [dir = '', first = '1', term = '1'] = process.argv.slice(2);
const { storage } = openWal(dir, { nodeId: 7, segmentBytes: 64 * 1024, keepEntries: 50 });
const conf_state = { voters: [7], learners: [], voters_outgoing: [], learners_next: [], auto_leave: false };
let saving = false;
let saved = Number(first);

function dataOf(index: number, of: number): Uint8Array {
  return new Uint8Array(200 + (index % 700)).fill((index * 31 + of) % 256);
}

function maybeSnapshot(store: RaftStorage, index: number, of: number): void {
  if (saving || index < saved + 60) return;
  saving = true;
  saved = index;
  const metadata = { index, term: of, conf_state };
  store.saveSnapshot({ data: dataOf(index, of), metadata }, (error) => {
    if (error !== null && error !== undefined) throw error as Error;
    saving = false;
  });
}

function append(index: number, of: number): void {
  const entries: RaftEntry[] = [];
  for (let i = 0; i <= index % 4; i++) {
    entries.push({ type: 0, index: index + i, term: of, data: dataOf(index + i, of) });
  }
  const hardState = { term: of, vote: of % 2 === 0 ? 7 : 3, commit: index - 1 };
  storage.write({ entries, hardState, snapshot: null, repaired: false }, (error) => {
    if (error !== null && error !== undefined) throw error as Error;
    const last = index + entries.length - 1;
    storage.noteCommit(last);
    writeSync(1, `${last} ${of}\n`);
    maybeSnapshot(storage, last, of);
    append(last + 1, last % 60 < 4 ? of + 1 : of);
  });
}

append(Number(first), Number(term));
