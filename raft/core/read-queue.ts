import { hasQuorum } from './quorum.ts';

/** A read that waits for the leader to prove that it still leads. */
export interface PendingRead {
  sequence: number;
  /** Commit index when the read came. */
  index: number;
  /** Member that asked. */
  from: number;
  context: Uint8Array;
}

/** Reads that one leader holds at once at the most. */
export const PENDING_READS_MAX = 4096;

/**
 * Linearizable reads (thesis §6.4): each read gets a sequence number that heartbeats carry; an answer to a number
 * confirms that and all earlier reads. Lives as long as one leadership.
 */
export class ReadQueue {
  #sequence = 0;
  #pending: PendingRead[] = [];
  #acknowledged = new Map<number, number>();

  get length(): number {
    return this.#pending.length;
  }

  /** Newest sequence number, 0 when nothing waits. */
  get newest(): number {
    return this.#pending.length === 0 ? 0 : this.#sequence;
  }

  /** False when the queue is full. */
  add(index: number, from: number, context: Uint8Array): boolean {
    if (this.#pending.length >= PENDING_READS_MAX) return false;
    this.#pending.push({ sequence: ++this.#sequence, index, from, context });
    return true;
  }

  acknowledge(id: number, sequence: number): void {
    this.#acknowledged.set(id, Math.max(sequence, this.#acknowledged.get(id) ?? 0));
  }

  /** Takes the reads that a majority confirmed; the leader counts itself. */
  release(voters: ReadonlySet<number>, self: number): PendingRead[] {
    const confirmed = (sequence: number): boolean =>
      hasQuorum(voters, (id) => id === self || (this.#acknowledged.get(id) ?? 0) >= sequence);
    let count = 0;
    for (const read of this.#pending) {
      if (!confirmed(read.sequence)) break;
      count++;
    }
    return this.#pending.splice(0, count);
  }
}

/** A sequence number as it travels in a heartbeat's context: 8 bytes, big endian. */
export function encodeSequence(sequence: number): Uint8Array {
  const out = new Uint8Array(8);
  const view = new DataView(out.buffer);
  view.setUint32(0, Math.floor(sequence / 2 ** 32));
  view.setUint32(4, sequence >>> 0);
  return out;
}

/** 0 for anything that is no sequence number. */
export function decodeSequence(context: Uint8Array): number {
  if (context.length !== 8) return 0;
  const view = new DataView(context.buffer, context.byteOffset, 8);
  return view.getUint32(0) * 2 ** 32 + view.getUint32(4);
}
