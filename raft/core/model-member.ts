import { must, SeededRandom } from '../../base/index.ts';
import { RaftConfChange, RaftConfChangeV2, RaftEntryType, RaftMessageType } from '../../proto/index.ts';
import type { RaftEntry, RaftHardState, RaftMessage, RaftSnapshot } from '../../proto/index.ts';
import type { LogRepair, LogWrite } from '../storage.ts';
import type { ModelChecks } from './model-checks.ts';
import { Raft, raftMessage, type Ready } from './index.ts';

/** Test help: what a member's disk holds. */
interface Disk {
  hardState: RaftHardState | null;
  snapshot: RaftSnapshot | null;
  entries: RaftEntry[];
  repair: LogRepair | null;
}

const ELECTION_TICKS = 5;

function snapshotIndex(disk: Disk): number {
  return disk.snapshot?.metadata?.index ?? 0;
}

function applyWrite(disk: Disk, write: LogWrite): void {
  if (write.snapshot !== null) {
    disk.snapshot = write.snapshot;
    disk.entries = [];
  }
  for (const entry of write.entries) {
    const at = disk.entries.findIndex((old) => old.index >= entry.index);
    if (at >= 0) disk.entries.length = at;
    const end = disk.entries.at(-1)?.index ?? snapshotIndex(disk);
    // A snapshot of the own state may have been stored while the write was under way.
    if (entry.index <= snapshotIndex(disk)) continue;
    if (entry.index !== end + 1) throw new Error(`the disk gets entry ${entry.index} after ${end}`);
    disk.entries.push(entry);
  }
  disk.hardState = write.hardState;
  if (write.repaired) disk.repair = null;
}

/** One member with a disk that completes writes when the test says so. */
export class ModelMember {
  readonly id: number;
  core: Raft;
  readonly disk: Disk;
  /** Index and hash of the applied history. */
  applied = 0;
  hash = 0;
  /** Messages that left. */
  outgoing: RaftMessage[] = [];
  reads = new Map<string, number>();
  #write: LogWrite | null = null;
  #starts = 0;
  readonly #checks: ModelChecks;
  readonly #first: RaftSnapshot;

  constructor(id: number, checks: ModelChecks, snapshot: RaftSnapshot) {
    this.id = id;
    this.#checks = checks;
    this.#first = snapshot;
    this.disk = { hardState: null, snapshot, entries: [], repair: null };
    this.core = this.#start();
  }

  #start(): Raft {
    const { hardState, snapshot, entries, repair } = this.disk;
    this.applied = snapshotIndex(this.disk);
    this.hash = snapshot === null ? 0 : hashOf(snapshot);
    this.#write = null;
    this.reads.clear();
    return new Raft(
      {
        id: this.id,
        random: new SeededRandom(this.id * 1000 + this.#starts++),
        electionTicks: ELECTION_TICKS,
        heartbeatTicks: 1,
        maxAppendBytes: 12,
        maxInflightMessages: 3,
        maxInflightBytes: 40,
        snapshotRetryTicks: 10,
        commitAtTick: this.id % 2 === 0,
      },
      { hardState, snapshot: snapshot?.metadata ?? null, entries: [...entries], repair },
    );
  }

  /** The power goes; the write under way is on the disk or not. */
  crash(kept: boolean): void {
    if (kept && this.#write !== null) applyWrite(this.disk, this.#write);
    this.core = this.#start();
  }

  /** The power goes and the disk loses entries from `index` on, or its snapshot and with it everything. */
  damage(index: number, snapshotToo: boolean, floorKnown: boolean): void {
    const { disk } = this;
    const last = disk.entries.at(-1)?.index ?? snapshotIndex(disk);
    const promised = Math.max(last, disk.repair?.floor ?? 0);
    const hidden = disk.repair !== null && disk.repair.floor === null;
    disk.repair = { floor: floorKnown && !hidden ? promised : null, reason: 'test' };
    disk.entries = snapshotToo ? [] : disk.entries.filter((entry) => entry.index < index);
    // What a group begins with is not in the log of the model; in production it is the first entry.
    if (snapshotToo) disk.snapshot = this.#first;
    this.core = this.#start();
  }

  get writing(): boolean {
    return this.#write !== null;
  }

  finishWrite(): void {
    const write = this.#write;
    if (write === null) return;
    this.#write = null;
    applyWrite(this.disk, write);
    this.core.written(write);
    this.work();
  }

  /** Does all that the core asks for. */
  work(): void {
    for (let i = 0; i < 1000 && this.core.hasReady(); i++) this.#process(this.core.ready());
    if (this.core.hasReady()) throw new Error('a core never comes to rest');
    this.#checks.observe(this);
  }

  #process(ready: Ready): void {
    for (const message of ready.messages) this.#send(message);
    if (ready.write !== null) {
      if (this.#write !== null) throw new Error('two writes at once');
      this.#write = ready.write;
    }
    if (ready.restore !== null) {
      this.applied = must(ready.restore.metadata, 'metadata').index;
      this.hash = hashOf(ready.restore);
      this.#checks.history(this.id, this.applied, this.hash);
    }
    for (const entry of ready.committed) this.#apply(entry);
    for (const { index, context } of ready.readStates) this.reads.set(new TextDecoder().decode(context), index);
  }

  #send(message: RaftMessage): void {
    this.#checks.promised(this, message);
    let whole = message;
    if (message.type === RaftMessageType.MsgSnap) whole = { ...message, snapshot: this.disk.snapshot };
    if (whole.type !== RaftMessageType.MsgSnap || whole.snapshot !== null) this.outgoing.push(whole);
  }

  #apply(entry: RaftEntry): void {
    if (entry.index !== this.applied + 1) throw new Error(`applies ${entry.index} after ${this.applied}`);
    this.#checks.durable(this, entry.index, entry.term);
    this.applied = entry.index;
    this.hash = nextHash(this.hash, entry);
    this.#checks.history(this.id, this.applied, this.hash);
    this.core.appliedTo(entry.index);
    if (entry.type === RaftEntryType.EntryConfChange) this.core.applyConfChange(RaftConfChange.decode(entry.data));
    if (entry.type === RaftEntryType.EntryConfChangeV2)
      this.core.applyConfChangeV2(RaftConfChangeV2.decode(entry.data));
  }

  step(message: RaftMessage): void {
    this.core.step(raftMessage({ ...message }));
    this.work();
  }

  /** Stores a snapshot of the own state and forgets entries before it but for `keep`. */
  snapshot(keep: number): void {
    const { core, disk } = this;
    if (this.applied <= snapshotIndex(disk) || core.applied !== this.applied) return;
    const metadata = core.snapshotMetadata();
    disk.snapshot = snapshotOf(this.hash, metadata);
    disk.entries = disk.entries.filter((entry) => entry.index > metadata.index);
    const compactIndex = Math.max(core.firstIndex - 1, metadata.index - keep);
    if (compactIndex <= metadata.index) core.snapshotTaken(metadata, compactIndex);
    this.work();
  }

  /** Whether the disk holds (index, term). */
  holds(index: number, term: number): boolean {
    if (index <= snapshotIndex(this.disk)) return true;
    return this.disk.entries.find((entry) => entry.index === index)?.term === term;
  }
}

export function snapshotOf(hash: number, metadata: RaftSnapshot['metadata']): RaftSnapshot {
  return { data: new TextEncoder().encode(String(hash)), metadata };
}

function hashOf(snapshot: RaftSnapshot): number {
  return Number(new TextDecoder().decode(snapshot.data));
}

function nextHash(hash: number, { index, term, data }: RaftEntry): number {
  let next = Math.imul(hash ^ index, 0x01000193) ^ Math.imul(term, 0x9e3779b1);
  for (const byte of data) next = Math.imul(next ^ byte, 0x01000193);
  return next >>> 0;
}
