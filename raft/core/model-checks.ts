import { RaftMessageType } from '../../proto/index.ts';
import type { RaftHardState, RaftMessage } from '../../proto/index.ts';
import type { LogRepair } from '../storage.ts';
import type { Raft } from './index.ts';

/** What is checked of a member. */
export interface CheckedMember {
  readonly id: number;
  readonly core: Raft;
  readonly disk: { readonly hardState: RaftHardState | null; readonly repair: LogRepair | null };
  /** Whether its disk has the entry. */
  holds(index: number, term: number): boolean;
}

/** Test help: figure 3 of the Raft paper, and the promises of messages, checked after every step of any member. */
export class ModelChecks {
  readonly #leaders = new Map<number, number>();
  readonly #entries = new Map<string, string>();
  readonly #histories = new Map<number, number>();
  /** Term of the committed entry at an index, and the earliest term in which it was known to be. */
  readonly #committed: { term: number; knownIn: number }[] = [{ term: 0, knownIn: 0 }];
  readonly #seen = new WeakMap<object, { role: string; term: number; lastIndex: number; commit: number }>();
  maxCommit = 0;
  leaderTerms = 0;

  /** A history is one and the same on every member. */
  history(id: number, index: number, hash: number): void {
    const known = this.#histories.get(index);
    if (known === undefined) this.#histories.set(index, hash);
    else if (known !== hash) throw new Error(`state-machine safety: member ${id} has another history at ${index}`);
  }

  /** What a member applies is on its disk. */
  durable(member: CheckedMember, index: number, term: number): void {
    if (!member.holds(index, term)) throw new Error(`member ${member.id} applies ${index}, which its disk lacks`);
  }

  /** What a message promises is on its sender's disk. */
  promised(member: CheckedMember, message: RaftMessage): void {
    const hard = member.disk.hardState ?? { term: 0, vote: 0, commit: 0 };
    const { core, id } = member;
    const preVote =
      message.type === RaftMessageType.MsgPreVote ||
      (message.type === RaftMessageType.MsgPreVoteResp && !message.reject);
    if (!preVote && message.term !== core.term) throw new Error(`member ${id} sends a message of an old term`);
    if (hard.term !== core.term)
      throw new Error(`member ${id} speaks in term ${core.term}, its disk says ${hard.term}`);
    const grant = message.type === RaftMessageType.MsgVoteResp && !message.reject;
    if (grant && hard.vote !== message.to) throw new Error(`vote of member ${id} is not on its disk`);
    if (message.type === RaftMessageType.MsgVote && hard.vote !== id) throw new Error(`own vote is not on the disk`);
    if (grant && member.disk.repair !== null) throw new Error(`member ${id} votes with a damaged log`);
    if (message.type !== RaftMessageType.MsgAppResp || message.reject || message.index === 0) return;
    const term = core.termAt(message.index);
    if (term !== undefined && !member.holds(message.index, term)) {
      throw new Error(`member ${id} accepts ${message.index}, which its disk lacks`);
    }
  }

  observe(member: CheckedMember): void {
    const { core } = member;
    const seen = this.#seen.get(core) ?? { role: '', term: 0, lastIndex: 0, commit: core.firstIndex - 1 };
    if (core.commit < seen.commit) throw new Error(`commit of member ${core.id} goes back`);
    this.#logMatching(member);
    this.#commits(member, seen.commit);
    if (core.role === 'leader') this.#leads(member, seen);
    this.#seen.set(core, { role: core.role, term: core.term, lastIndex: core.lastIndex, commit: core.commit });
  }

  /** Log matching, by induction: an (index, term) names one entry and the term before it. */
  #logMatching({ core }: CheckedMember): void {
    for (const { index, term, data } of core.entriesFrom(core.lastIndex - 20)) {
      const fact = `${core.termAt(index - 1) ?? '?'} ${String(data)}`;
      const known = this.#entries.get(`${index}:${term}`);
      if (known === undefined) this.#entries.set(`${index}:${term}`, fact);
      else if (known !== fact) throw new Error(`log matching: ${known} and ${fact} at ${index}:${term}`);
    }
  }

  #commits({ core }: CheckedMember, from: number): void {
    for (let index = from + 1; index <= core.commit; index++) {
      const term = core.termAt(index);
      if (term === undefined) continue;
      const known = this.#committed[index];
      if (known === undefined) this.#committed[index] = { term, knownIn: core.term };
      else if (known.term !== term) throw new Error(`committed ${index} has terms ${known.term} and ${term}`);
      else known.knownIn = Math.min(known.knownIn, core.term);
    }
    this.maxCommit = Math.max(this.maxCommit, core.commit);
  }

  #leads({ core }: CheckedMember, seen: { role: string; term: number; lastIndex: number }): void {
    const other = this.#leaders.get(core.term);
    if (other !== undefined && other !== core.id) {
      throw new Error(`election safety: ${other} and ${core.id} lead term ${core.term}`);
    }
    if (seen.role === 'leader' && seen.term === core.term) {
      if (core.lastIndex < seen.lastIndex) throw new Error(`append-only: leader ${core.id} drops entries`);
      return;
    }
    if (other === undefined) this.leaderTerms++;
    this.#leaders.set(core.term, core.id);
    for (let index = core.firstIndex; index <= this.maxCommit; index++) {
      const known = this.#committed[index];
      if (known === undefined || known.knownIn >= core.term || core.termAt(index) === known.term) continue;
      throw new Error(`leader completeness: ${core.id} leads term ${core.term} without ${index}:${known.term}`);
    }
  }

  /** A linearizable read covers all that was committed when it was asked. */
  read(index: number, commitBefore: number): void {
    if (index < commitBefore) throw new Error(`read at ${index}, but ${commitBefore} was committed before`);
  }
}
