import { must } from '../../base/index.ts';
import { RaftMessageType } from '../../proto/index.ts';
import type { RaftMessage } from '../../proto/index.ts';
import { messageSize } from './codec.ts';

/** Messages that wait for one peer at the most. */
export const PEER_QUEUE_MESSAGES = 4096;
/** Their bytes at the most: a whole window of appends (256 of 256 KiB) and some. Entries are shared, not copied. */
export const PEER_QUEUE_BYTES = 72 * 1024 * 1024;

interface Waiting {
  message: RaftMessage;
  bytes: number;
}

/** What makes room first: a rank that says how little is lost with a message. */
type Rank = 'beat' | 'append' | 'other' | 'vote';

const RANKS: ReadonlyMap<RaftMessageType, Rank> = new Map([
  [RaftMessageType.MsgHeartbeat, 'beat'],
  [RaftMessageType.MsgHeartbeatResp, 'beat'],
  [RaftMessageType.MsgApp, 'append'],
  [RaftMessageType.MsgVote, 'vote'],
  [RaftMessageType.MsgVoteResp, 'vote'],
  [RaftMessageType.MsgPreVote, 'vote'],
  [RaftMessageType.MsgPreVoteResp, 'vote'],
  [RaftMessageType.MsgTimeoutNow, 'vote'],
]);

const rankOf = (type: RaftMessageType): Rank => RANKS.get(type) ?? 'other';

export interface Dropped {
  messages: number;
  /** Whether the sender must learn that something which it counts on is lost. */
  told: boolean;
}

/**
 * What waits for one peer, bounded in messages and bytes. When it is full: heartbeats that a newer one replaces go
 * first; then all appends (with one of them lost the peer refuses those after it, so the leader has to begin anew there
 * anyway, and is told); then the oldest of the rest. Of votes and their answers the newest of each kind always stays.
 */
export class SendQueue {
  readonly #maxMessages: number;
  readonly #maxBytes: number;
  #items: Waiting[] = [];
  #head = 0;
  #bytes = 0;

  constructor(maxMessages = PEER_QUEUE_MESSAGES, maxBytes = PEER_QUEUE_BYTES) {
    this.#maxMessages = maxMessages;
    this.#maxBytes = maxBytes;
  }

  get length(): number {
    return this.#items.length - this.#head;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** Takes a message; says what had to go for it, if anything. */
  push(message: RaftMessage): Dropped | undefined {
    const bytes = messageSize(message);
    this.#items.push({ message, bytes });
    this.#bytes += bytes;
    if (this.length <= this.#maxMessages && this.#bytes <= this.#maxBytes) return undefined;
    return this.#makeRoom();
  }

  /** The next messages in order, up to about `maxBytes` and `maxMessages`, but one at least if there is any. */
  take(maxBytes: number, maxMessages: number): RaftMessage[] {
    const out: RaftMessage[] = [];
    let bytes = 0;
    while (this.length > 0 && out.length < maxMessages) {
      const next = must(this.#items[this.#head], 'queued message');
      if (out.length > 0 && bytes + next.bytes > maxBytes) break;
      bytes += next.bytes;
      this.#head++;
      out.push(next.message);
    }
    this.#bytes -= bytes;
    if (this.#head === this.#items.length) {
      this.#items = [];
      this.#head = 0;
    } else if (this.#head > this.#maxMessages) {
      this.#items = this.#items.slice(this.#head);
      this.#head = 0;
    }
    return out;
  }

  /** There is no way to the peer: only the newest vote of each kind is worth waiting with. */
  keepVotes(): Dropped {
    const votes = this.#newest((rank) => rank === 'vote');
    return this.#retain((item) => votes.has(item));
  }

  /** The newest message of each type, of those with a rank that `of` names. */
  #newest(of: (rank: Rank) => boolean): Set<Waiting> {
    const newest = new Map<RaftMessageType, Waiting>();
    for (const item of this.#items.slice(this.#head)) {
      if (of(rankOf(item.message.type))) newest.set(item.message.type, item);
    }
    return new Set(newest.values());
  }

  #retain(keep: (item: Waiting, at: number) => boolean): Dropped {
    const dropped: Dropped = { messages: 0, told: false };
    const kept = this.#items.slice(this.#head).filter((item, at) => {
      if (keep(item, at)) return true;
      this.#bytes -= item.bytes;
      dropped.messages++;
      if (rankOf(item.message.type) !== 'beat') dropped.told = true;
      return false;
    });
    this.#items = kept;
    this.#head = 0;
    return dropped;
  }

  /** Goes down to half of the bounds where it can, so that the work for one message stays small on the whole. */
  #makeRoom(): Dropped {
    const newest = this.#newest((rank) => rank === 'beat' || rank === 'vote');
    const total: Dropped = { messages: 0, told: false };
    const pass = (goes: (item: Waiting, at: number) => boolean): boolean => {
      const dropped = this.#retain((item, at) => newest.has(item) || !goes(item, at));
      total.messages += dropped.messages;
      total.told ||= dropped.told;
      return this.length <= this.#maxMessages / 2 && this.#bytes <= this.#maxBytes / 2;
    };
    if (pass((item) => rankOf(item.message.type) === 'beat')) return total;
    if (pass((item) => rankOf(item.message.type) === 'append')) return total;
    const surplus = this.length - Math.floor(this.#maxMessages / 2);
    pass((_item, at) => this.#bytes > this.#maxBytes / 2 || at < surplus);
    return total;
  }
}
