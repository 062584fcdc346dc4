import { assert, must } from '../base/index.ts';
import { RaftConfChange, RaftConfChangeType, RaftConfChangeV2, RaftEntryType } from '../proto/index.ts';
import type { RaftEntry, RaftSnapshot } from '../proto/index.ts';
import { membersOf, type Raft } from './core/index.ts';
import { changesOf } from './joint.ts';
import type { AppliedEntry, StateMachine } from './options.ts';

/** Brings committed entries and snapshots into the state machine. */
export class Applier {
  readonly #core: Raft;
  readonly #machine: StateMachine;
  readonly #removed = new Set<number>();
  #applied = 0;

  constructor(core: Raft, machine: StateMachine) {
    this.#core = core;
    this.#machine = machine;
  }

  /** Index of the last entry that is in the state machine. */
  get applied(): number {
    return this.#applied;
  }

  /** Members that were removed since this process started, or according to the log that it replayed. */
  isRemoved(raftId: number): boolean {
    return this.#removed.has(raftId);
  }

  restore(snapshot: RaftSnapshot): void {
    const { index } = must(snapshot.metadata, 'snapshot metadata');
    this.#machine.restore(snapshot.data, index);
    this.#applied = index;
  }

  apply(entries: readonly RaftEntry[]): void {
    if (entries.length === 0) return;
    let batch: AppliedEntry[] = [];
    for (const entry of entries) {
      assert(entry.index === this.#applied + 1, 'entries are applied in order, none left out');
      this.#applied = entry.index;
      if (entry.type === RaftEntryType.EntryNormal) {
        if (entry.data.length > 0) batch.push(entry);
        continue;
      }
      if (batch.length > 0) this.#machine.apply(batch);
      batch = [];
      this.#core.appliedTo(entry.index);
      this.#applyConfChange(entry);
    }
    if (batch.length > 0) this.#machine.apply(batch);
    this.#core.appliedTo(this.#applied);
  }

  #applyConfChange(entry: RaftEntry): void {
    const before = this.#core.membership;
    let changes: RaftConfChange[];
    if (entry.type === RaftEntryType.EntryConfChangeV2) {
      const joint = RaftConfChangeV2.decode(entry.data);
      this.#core.applyConfChangeV2(joint);
      changes = changesOf(joint, entry.index);
    } else {
      const change = RaftConfChange.decode(entry.data);
      this.#core.applyConfChange(change);
      changes = [change];
    }
    const after = this.#core.membership;
    // A change that does not fit is passed over, on every member alike.
    if (after === before) return;
    for (const change of changes) {
      if (change.type === RaftConfChangeType.ConfChangeRemoveNode) continue;
      this.#removed.delete(change.node_id);
      this.#machine.applyConfChange(change, entry.index);
    }
    const present = new Set(membersOf(after));
    // An old voter of a joint membership leaves with it, by an entry that names nobody.
    for (const id of membersOf(before)) if (!present.has(id)) this.#remove(id, changes, entry.index);
  }

  #remove(id: number, changes: readonly RaftConfChange[], index: number): void {
    this.#removed.add(id);
    const type = RaftConfChangeType.ConfChangeRemoveNode;
    const named = changes.find((change) => change.node_id === id && change.type === type);
    this.#machine.applyConfChange(named ?? RaftConfChange.create({ id: index, type, node_id: id }), index);
  }
}
