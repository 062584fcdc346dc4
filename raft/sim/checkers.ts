import type { Raft } from '../core/index.ts';

/** A broken promise. */
export class Violation extends Error {
  override readonly name = 'Violation';
}

interface KnownEntry {
  previousTerm: number;
  data: Uint8Array;
}

function same(a: Uint8Array, b: Uint8Array): boolean {
  return a === b || Buffer.compare(a, b) === 0;
}

/** Terms stay far below this in a simulation, so that an index and a term make one number. */
const TERM_STRIDE = 2 ** 28;

/** The five properties of Raft's figure 3, and that nothing acknowledged is lost; asked after every event. */
export class Checkers {
  readonly #leaders = new Map<number, number>();
  readonly #entries = new Map<number, KnownEntry>();
  /** By index: term of the committed entry, and the lowest term of a member that knew it as committed. */
  readonly #committedTerm: number[] = [];
  readonly #committedIn: number[] = [];
  /** By index: the write that was applied, and the hash of the state after it. */
  readonly #appliedValue: number[] = [];
  readonly #appliedHash: number[] = [];
  readonly #indexOf = new Map<number, number>();
  acknowledged = 0;
  elections = 0;

  get maxCommitted(): number {
    return this.#committedTerm.length - 1;
  }

  /** Where a write stands, if it was ever applied. */
  indexOf(value: number): number | undefined {
    return this.#indexOf.get(value);
  }

  /** Election safety: one leader a term. Leader completeness: it holds what earlier terms committed. */
  leads(core: Raft): void {
    const { term, id } = core;
    const known = this.#leaders.get(term);
    if (known !== undefined && known !== id) {
      throw new Violation(`election safety: members ${known} and ${id} both lead term ${term}`);
    }
    if (known === undefined) this.elections++;
    this.#leaders.set(term, id);
    for (let index = core.firstIndex - 1; index <= this.maxCommitted; index++) {
      const committed = this.#committedTerm[index];
      const knownIn = this.#committedIn[index];
      if (committed === undefined || knownIn === undefined || knownIn >= term) continue;
      if (core.termAt(index) === committed) continue;
      throw new Violation(
        `leader completeness: member ${id} leads term ${term} with ${describe(core, index)} where ` +
          `an entry of term ${committed} was committed in term ${knownIn}`,
      );
    }
  }

  /** Log matching, by induction: an (index, term) names one entry, and the term before it. */
  entry(member: number, index: number, term: number, previousTerm: number | undefined, data: Uint8Array): void {
    const key = index * TERM_STRIDE + term;
    const known = this.#entries.get(key);
    if (known === undefined) {
      this.#entries.set(key, { previousTerm: previousTerm ?? -1, data });
      return;
    }
    if (previousTerm !== undefined) {
      if (known.previousTerm === -1) known.previousTerm = previousTerm;
      if (known.previousTerm !== previousTerm) {
        throw new Violation(
          `log matching: entry ${index} of term ${term} follows term ${previousTerm} on member ${member}, ` +
            `term ${known.previousTerm} elsewhere`,
        );
      }
    }
    if (!same(known.data, data)) {
      throw new Violation(`log matching: entry ${index} of term ${term} differs on member ${member}`);
    }
  }

  /** A member knows the entry at `index` as committed. */
  committed(core: Raft, index: number): void {
    const term = core.termAt(index);
    if (term === undefined) return;
    const known = this.#committedTerm[index];
    if (known !== undefined && known !== term) {
      throw new Violation(
        `state-machine safety: member ${core.id} commits an entry of term ${term} at ${index}, another one of ${known}`,
      );
    }
    this.#committedTerm[index] = term;
    this.#committedIn[index] = Math.min(core.term, this.#committedIn[index] ?? core.term);
  }

  /** State-machine safety: one command at an index, and the same state after it, on every member. */
  applied(member: number, index: number, value: number, hash: number): void {
    const known = this.#appliedValue[index];
    if (known === undefined) {
      this.#appliedValue[index] = value;
      this.#appliedHash[index] = hash;
      this.#indexOf.set(value, index);
    } else if (known !== value) {
      throw new Violation(`state-machine safety: member ${member} applied write ${value} at ${index}, not ${known}`);
    } else if (this.#appliedHash[index] !== hash) {
      throw new Violation(`state-machine safety: member ${member} has another state after ${index}`);
    }
  }

  /** A snapshot holds the state that was at its index; entries that change no state leave gaps. */
  restored(member: number, index: number, hash: number): void {
    let at = index;
    while (at > 0 && this.#appliedHash[at] === undefined) at--;
    if (at === 0 || this.#appliedHash[at] === hash) return;
    throw new Violation(`state-machine safety: the snapshot at ${index} on member ${member} has another state`);
  }

  /** A client was told that its write is done. */
  acknowledge(value: number, index: number): void {
    this.acknowledged++;
    if (this.#appliedValue[index] === value) return;
    throw new Violation(`write ${value} was acknowledged at ${index} but is not there`);
  }
}

function describe(core: Raft, index: number): string {
  if (index > core.lastIndex) return `a log that ends at ${core.lastIndex}, before ${index},`;
  return `an entry of term ${core.termAt(index)} at ${index}`;
}

/** Looks at one run of one member after every event, and asks the checkers about what changed. */
export class CoreWatch {
  readonly #checkers: Checkers;
  readonly #core: Raft;
  /** Terms of this log as they were checked. */
  readonly #checked: number[] = [];
  #ledTerm = 0;
  #commit = 0;
  #lastIndex = -1;
  #lastTerm = -1;

  constructor(checkers: Checkers, core: Raft) {
    this.#checkers = checkers;
    this.#core = core;
    this.#commit = core.firstIndex - 1;
  }

  /** @returns whether this member was found to lead a new term. */
  look(): boolean {
    const core = this.#core;
    const { lastIndex, commit } = core;
    const lastTerm = core.termAt(lastIndex) ?? 0;
    if (lastIndex !== this.#lastIndex || lastTerm !== this.#lastTerm) this.#checkTail(lastIndex, lastTerm);
    if (commit > this.#commit) {
      for (let i = this.#commit + 1; i <= commit; i++) this.#checkers.committed(core, i);
      this.#commit = commit;
    }
    if (core.role !== 'leader' || core.term === this.#ledTerm) return false;
    this.#ledTerm = core.term;
    this.#checkers.leads(core);
    return true;
  }

  #checkTail(lastIndex: number, lastTerm: number): void {
    const core = this.#core;
    let from = lastIndex + 1;
    while (from > core.firstIndex && this.#checked[from - 1] !== core.termAt(from - 1)) from--;
    for (const { index, term, data } of core.entriesFrom(from)) {
      this.#checkers.entry(core.id, index, term, core.termAt(index - 1), data);
      this.#checked[index] = term;
    }
    this.#lastIndex = lastIndex;
    this.#lastTerm = lastTerm;
  }
}
