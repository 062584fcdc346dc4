import { must, SeededRandom } from '../../base/index.ts';
import { RaftConfChange, RaftConfChangeV2, RaftEntryType, RaftMessageType } from '../../proto/index.ts';
import type { RaftEntry, RaftMessage, RaftSnapshot } from '../../proto/index.ts';
import type { LogWrite } from '../storage.ts';
import { confStateOf, Raft, raftMessage, type InitialState, type RaftOptions, type Ready } from './index.ts';

/** Test help: members without a driver, on a network and disks that the test has in its hand. */
export const T = RaftMessageType;
export const ELECTION_TICKS = 10;
export const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
export const textOf = (data: Uint8Array): string => new TextDecoder().decode(data);

export function entry(index: number, term: number, text = `${index}/${term}`): RaftEntry {
  return { type: RaftEntryType.EntryNormal, index, term, data: bytes(text) };
}

/** Log of (1, t1), (2, t2), … as the papers draw it. */
export function logOf(...terms: number[]): RaftEntry[] {
  return terms.map((term, i) => entry(i + 1, term));
}

export interface Setup extends Partial<InitialState> {
  voters?: number[];
  learners?: number[];
  options?: Partial<RaftOptions>;
}

/** A member whose membership comes from a snapshot at index 0. */
export function member(id: number, setup: Setup = {}): Raft {
  const voters = new Set(setup.voters ?? [1, 2, 3]);
  const conf_state = confStateOf({ voters, learners: new Set(setup.learners) });
  const entries = setup.entries ?? [];
  const term = entries.at(-1)?.term ?? 0;
  return new Raft(
    {
      id,
      random: new SeededRandom(id),
      electionTicks: ELECTION_TICKS,
      heartbeatTicks: 1,
      maxAppendBytes: 1 << 20,
      maxInflightMessages: 4,
      snapshotRetryTicks: 30,
      restartGuardTicks: 0,
      ...setup.options,
    },
    {
      entries,
      hardState: setup.hardState ?? { term, vote: 0, commit: 0 },
      snapshot: setup.snapshot ?? { index: 0, term: 0, conf_state },
      repair: setup.repair ?? null,
      ...(setup.kept === undefined ? {} : { kept: setup.kept }),
    },
  );
}

/** Does every Ready, applies conf changes, collects messages. Disks are as fast as thought unless they are slow. */
export class Harness {
  readonly rafts = new Map<number, Raft>();
  readonly applied = new Map<number, RaftEntry[]>();
  readonly reads = new Map<number, number[]>();
  /** Members whose writes wait for `finishWrite`. */
  readonly slow = new Set<number>();
  readonly writes = new Map<number, LogWrite>();
  /** Messages to drop. */
  lost: (message: RaftMessage) => boolean = () => false;
  snapshotData = bytes('state');
  onReady: (id: number, ready: Ready) => void = () => undefined;

  constructor(...rafts: Raft[]) {
    for (const raft of rafts) this.add(raft);
  }

  add(raft: Raft): void {
    this.rafts.set(raft.id, raft);
    this.applied.set(raft.id, []);
    this.reads.set(raft.id, []);
  }

  get(id: number): Raft {
    return must(this.rafts.get(id), `member ${id}`);
  }

  /** Does all that one member asks for; returns its messages. */
  drain(raft: Raft): RaftMessage[] {
    const out: RaftMessage[] = [];
    while (raft.hasReady()) {
      const ready = raft.ready();
      this.onReady(raft.id, ready);
      out.push(...ready.messages);
      if (ready.write !== null) {
        if (this.slow.has(raft.id)) this.writes.set(raft.id, ready.write);
        else raft.written(ready.write);
      }
      this.#apply(raft, ready.committed);
      for (const read of ready.readStates) this.reads.get(raft.id)?.push(read.index);
    }
    return out;
  }

  #apply(raft: Raft, committed: readonly RaftEntry[]): void {
    for (const each of committed) {
      this.applied.get(raft.id)?.push(each);
      raft.appliedTo(each.index);
      if (each.type === RaftEntryType.EntryConfChange) raft.applyConfChange(RaftConfChange.decode(each.data));
      if (each.type === RaftEntryType.EntryConfChangeV2) raft.applyConfChangeV2(RaftConfChangeV2.decode(each.data));
    }
  }

  /** The write of a slow disk is durable. */
  finishWrite(id: number): void {
    const write = must(this.writes.get(id), `write of member ${id}`);
    this.writes.delete(id);
    this.get(id).written(write);
  }

  deliver(message: RaftMessage): void {
    if (this.lost(message)) return;
    const snapshot: RaftSnapshot | null = message.snapshot && { ...message.snapshot, data: this.snapshotData };
    this.rafts.get(message.to)?.step({ ...message, snapshot });
  }

  /** Delivers until nobody has anything to say. */
  settle(): void {
    for (let round = 0; round < 1000; round++) {
      const messages = [...this.rafts.values()].flatMap((raft) => this.drain(raft));
      if (messages.length === 0) return;
      for (const message of messages) this.deliver(message);
    }
    throw new Error('the group does not come to rest');
  }

  elect(id: number): void {
    this.get(id).campaign();
    this.settle();
    if (this.get(id).role !== 'leader') throw new Error(`member ${id} is no leader`);
  }

  tick(id: number, times: number): void {
    for (let i = 0; i < times; i++) this.get(id).tick();
  }

  /** Time passes for one member, and everybody reacts. */
  pass(id: number, times: number): void {
    for (let i = 0; i < times; i++) {
      this.get(id).tick();
      this.settle();
    }
  }

  texts(id: number): string[] {
    const normal = this.applied.get(id)?.filter((e) => e.type === RaftEntryType.EntryNormal && e.data.length > 0);
    return (normal ?? []).map((e) => textOf(e.data));
  }
}

export function three(setup: Setup = {}): Harness {
  return new Harness(member(1, setup), member(2, setup), member(3, setup));
}

/** Sends one message to a lone member and returns the answers. */
export function answers(raft: Raft, fields: Partial<RaftMessage> & { type: RaftMessage['type'] }): RaftMessage[] {
  raft.step(raftMessage({ to: raft.id, ...fields }));
  return new Harness(raft).drain(raft);
}

export const terms = (raft: Raft): number[] => raft.entriesFrom(1).map((e) => e.term);
export const isolate = (id: number) => (m: RaftMessage) => m.from === id || m.to === id;
