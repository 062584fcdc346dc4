import { quorumValue, type Quorum } from './quorum.ts';

/** A read that waits for the leader to prove that it still leads. */
export interface PendingRead {
  /** The first heartbeat round that was sent after the read came. */
  round: number;
  /** Commit index when the read came. */
  index: number;
  /** Member that asked. */
  from: number;
  context: Uint8Array;
}

/** Reads that one leader holds at once at the most. */
export const PENDING_READS_MAX = 4096;

interface Answer {
  round: number;
  /** When that round was sent, ticks. */
  sentAt: number;
}

/**
 * Linearizable reads (thesis §6.4) and the leader's lease (§6.4.1). Heartbeats go in numbered rounds; the answer to one
 * confirms that this leader was not deposed when the round was sent. Lives as long as one leadership.
 */
export class ReadQueue {
  #round = 0;
  #pending: PendingRead[] = [];
  #answers = new Map<number, Answer>();

  get length(): number {
    return this.#pending.length;
  }

  /** False when the queue is full. */
  add(index: number, from: number, context: Uint8Array): boolean {
    if (this.#pending.length >= PENDING_READS_MAX) return false;
    this.#pending.push({ round: this.#round + 1, index, from, context });
    return true;
  }

  /** Begins a round of heartbeats. @returns what they carry. */
  beginRound(now: number): Uint8Array {
    return encodeRound(++this.#round, now);
  }

  /** A member answered a heartbeat with this context. */
  acknowledge(id: number, context: Uint8Array): void {
    const answer = decodeRound(context);
    if (answer === null || answer.round > this.#round) return;
    if (answer.round > (this.#answers.get(id)?.round ?? 0)) this.#answers.set(id, answer);
  }

  /** Takes the reads that a quorum confirmed by answering a round that began after them; the leader counts itself. */
  release(quorum: Quorum, self: number): PendingRead[] {
    if (this.#pending.length === 0) return [];
    const confirmed = quorumValue(quorum, (id) => (id === self ? Infinity : (this.#answers.get(id)?.round ?? 0)));
    let count = 0;
    while (count < this.#pending.length && (this.#pending[count] as PendingRead).round <= confirmed) count++;
    return this.#pending.splice(0, count);
  }

  /** When the newest round was sent that a quorum answered, in ticks; -Infinity when there is none. */
  confirmedAt(quorum: Quorum, self: number): number {
    return quorumValue(quorum, (id) => (id === self ? Infinity : (this.#answers.get(id)?.sentAt ?? -Infinity)));
  }
}

const ROUND_BYTES = 16;

/** A round as it travels in a heartbeat's context, and back in the answer's: number and time, two doubles. */
function encodeRound(round: number, sentAt: number): Uint8Array {
  const out = new Uint8Array(ROUND_BYTES);
  const view = new DataView(out.buffer);
  view.setFloat64(0, round);
  view.setFloat64(8, sentAt);
  return out;
}

/** Null for anything that is no round. */
function decodeRound(context: Uint8Array): Answer | null {
  if (context.length !== ROUND_BYTES) return null;
  const view = new DataView(context.buffer, context.byteOffset, ROUND_BYTES);
  return { round: view.getFloat64(0), sentAt: view.getFloat64(8) };
}
