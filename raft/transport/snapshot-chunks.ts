import { assert, must, ShoalError } from '../../base/index.ts';
import { RaftMessageType } from '../../proto/index.ts';
import type { RaftMessage } from '../../proto/index.ts';

/** Snapshot bytes in one message at the most; all else of the message is small. */
export const SNAPSHOT_CHUNK_BYTES = 1000 * 1024;
/** A snapshot that is larger is refused by its receiver. */
export const SNAPSHOT_BYTES_MAX = 1024 * 1024 * 1024;

/**
 * The messages that carry a MsgSnap, at least one: each repeats everything but has one piece of the data (SwarmKit's
 * way). @param from first byte of the data that is sent.
 */
export function* splitSnapshot(
  message: RaftMessage,
  chunkBytes = SNAPSHOT_CHUNK_BYTES,
  from = 0,
): Generator<RaftMessage> {
  assert(message.type === RaftMessageType.MsgSnap, 'only snapshots are split');
  const snapshot = must(message.snapshot, 'snapshot of a MsgSnap');
  for (let at = from; at === from || at < snapshot.data.length; at += chunkBytes) {
    yield { ...message, snapshot: { ...snapshot, data: snapshot.data.subarray(at, at + chunkBytes) } };
  }
}

/** Puts the pieces of one stream together again. Messages that are no snapshot pass through. */
export class SnapshotAssembler {
  #first: RaftMessage | null = null;
  #pieces: Uint8Array[] = [];
  #bytes = 0;

  /** Whether a snapshot is incomplete so far as this side knows. */
  get pending(): boolean {
    return this.#first !== null;
  }

  /**
   * Takes a message; returns those that are whole now: a snapshot is whole when another message or the end comes.
   * @throws ShoalError ResourceExhausted when the snapshot is larger than SNAPSHOT_BYTES_MAX.
   */
  push(message: RaftMessage): RaftMessage[] {
    if (message.type !== RaftMessageType.MsgSnap) return [...this.end(), message];
    const out = this.#continues(message) ? [] : this.end();
    const snapshot = must(message.snapshot, 'snapshot of a MsgSnap');
    this.#first ??= message;
    this.#pieces.push(snapshot.data);
    this.#bytes += snapshot.data.length;
    if (this.#bytes > SNAPSHOT_BYTES_MAX) {
      throw new ShoalError('ResourceExhausted', `raft snapshot of more than ${SNAPSHOT_BYTES_MAX} bytes`);
    }
    return out;
  }

  #continues(message: RaftMessage): boolean {
    const a = this.#first;
    if (a === null) return false;
    return (
      a.from === message.from &&
      a.term === message.term &&
      a.snapshot?.metadata?.index === message.snapshot?.metadata?.index
    );
  }

  /** The stream ended well: whatever was collected is whole. */
  end(): RaftMessage[] {
    const first = this.#first;
    if (first === null) return [];
    const data = this.#pieces.length === 1 ? must(this.#pieces[0], 'piece') : Buffer.concat(this.#pieces);
    const snapshot = { ...must(first.snapshot, 'snapshot of a MsgSnap'), data };
    this.#first = null;
    this.#pieces = [];
    this.#bytes = 0;
    return [{ ...first, snapshot }];
  }
}
