import type { RaftEntry } from '../../proto/index.ts';
import type { Raft } from '../core/index.ts';

/** A broken promise of the algorithm. */
export class Violation extends Error {
  override readonly name = 'Violation';
}

function same(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}

interface Applied {
  id: number;
  term: number;
  /** Term of the first member that applied it: the term in which it was committed, or a later one. */
  knownInTerm: number;
  /** Hash of all commands up to here. */
  hash: number;
}

/** The five properties of Raft's figure 3, and that no acknowledged write is lost; checked at every event. */
export class Checkers {
  #leaders = new Map<number, number>();
  #written = new Map<string, { previousTerm: number; data: Uint8Array }>();
  #applied = new Map<number, Applied>();
  #acknowledged = new Map<number, number>();
  #maxAcknowledged = 0;

  get leaderTerms(): number {
    return this.#leaders.size;
  }

  get acknowledged(): ReadonlyMap<number, number> {
    return this.#acknowledged;
  }

  get maxAcknowledged(): number {
    return this.#maxAcknowledged;
  }

  /** Election safety: one leader a term. Leader completeness: it holds what earlier terms committed. */
  leads(core: Raft): void {
    const known = this.#leaders.get(core.term);
    if (known === core.id) return;
    if (known !== undefined) {
      throw new Violation(`election safety: ${known} and ${core.id} both lead term ${core.term}`);
    }
    this.#leaders.set(core.term, core.id);
    for (const [index, applied] of this.#applied) {
      if (applied.knownInTerm >= core.term || index < core.firstIndex) continue;
      if (core.termAt(index) === applied.term) continue;
      throw new Violation(`leader completeness: ${core.id} leads term ${core.term} without entry ${index}`);
    }
  }

  /** Log matching, by induction: an (index, term) names one entry and the term before it. */
  written(entry: RaftEntry, previousTerm: number): void {
    const key = `${entry.index}:${entry.term}`;
    const known = this.#written.get(key);
    if (known === undefined) {
      this.#written.set(key, { previousTerm, data: entry.data });
    } else if (known.previousTerm !== previousTerm || !same(known.data, entry.data)) {
      throw new Violation(`log matching: two logs differ at or before entry ${key}`);
    }
  }

  /** State-machine safety: one command at an index, and the same history before it. */
  applied(member: number, index: number, fact: Applied): void {
    const known = this.#applied.get(index);
    if (known === undefined) {
      this.#applied.set(index, fact);
    } else if (known.id !== fact.id || known.term !== fact.term || known.hash !== fact.hash) {
      throw new Violation(`state-machine safety: member ${member} applied ${fact.id} at ${index}, not ${known.id}`);
    }
  }

  restored(member: number, index: number, hash: number): void {
    const known = this.#applied.get(index);
    if (known !== undefined && known.hash !== hash) {
      throw new Violation(`state-machine safety: the snapshot of member ${member} at ${index} has another history`);
    }
  }

  acknowledge(id: number, index: number): void {
    if (this.#applied.get(index)?.id !== id) {
      throw new Violation(`write ${id} was acknowledged at ${index} but is not there`);
    }
    this.#acknowledged.set(id, index);
    this.#maxAcknowledged = Math.max(this.#maxAcknowledged, index);
  }

  /** A linearizable read covers every write that was acknowledged before it began. */
  read(acknowledgedBefore: number, index: number, applied: number): void {
    if (index < acknowledgedBefore) {
      throw new Violation(`linearizable read: index ${index} is before the acknowledged ${acknowledgedBefore}`);
    }
    if (applied < index) throw new Violation(`linearizable read: served at ${applied} before ${index} was applied`);
  }

  /** At the end, every member's state has every acknowledged write. */
  complete(member: number, ids: ReadonlySet<number>): void {
    for (const [id, index] of this.#acknowledged) {
      if (!ids.has(id)) throw new Violation(`write ${id}, acknowledged at ${index}, is lost on member ${member}`);
    }
  }
}
