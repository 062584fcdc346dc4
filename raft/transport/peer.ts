import * as grpc from '@grpc/grpc-js';
import { backoffDelayMs, must } from '../../base/index.ts';
import type { Clock, Logger, Random, Timer } from '../../base/index.ts';
import type { RaftMessage } from '../../proto/index.ts';
import { encodeBatch } from './codec.ts';
import { helloMetadata, type Hello } from './hello.ts';
import { Link, type LinkEnd, type LinkOptions } from './link.ts';
import { SendQueue, type Dropped } from './queue.ts';
import type { PeerStatus } from './status.ts';
import type { RaftTransportReports } from './transport.ts';

/** Bytes of messages in one gRPC message, about: 1 ms of encryption, so that others get their turn. */
export const BATCH_BYTES = 256 * 1024;
/** Messages in one gRPC message at the most. */
export const BATCH_MESSAGES = 1024;
/** Pauses between attempts to connect. A healed network is noticed within the cap. */
const BACKOFF = { baseMs: 50, capMs: 800 };
/** While an attempt hangs, another is begun: packets of the first may have been lost in a cut that is healed now. */
const DIAL_INTERVAL_MS = 900;
const DIALS_MAX = 4;
/** A connection that lasted this long worked, ms: its end is a first failure, not one more. */
const HELD_MS = 2_000;
/** A peer that takes nothing of a batch for this long does not read, ms. */
const STALL_MS = 3_000;
/** Failed attempts after which the others are asked for the peer's address, and again after so many more. */
const RESOLVE_AFTER = 3;
const RESOLVE_EVERY = 8;
/** What a peer that is given up still gets of what waits, in gRPC messages. */
const LAST_BATCHES_MAX = 8;
/** Addresses of one peer that are tried in turn. */
const ADDRESSES_MAX = 3;

export interface PeerOptions {
  raftId: number;
  address: string;
  credentials: () => grpc.ChannelCredentials;
  channelOptions: grpc.ChannelOptions;
  /** Who this side is, as far as it knows. */
  self: () => Hello | undefined;
  check: LinkOptions['check'];
  clock: Clock;
  random: Random;
  log: Logger;
  reports: RaftTransportReports;
  /** Asks other members for the address of this one. */
  resolve: () => void;
  /** What of a snapshot is under way. */
  snapshot: () => PeerStatus['snapshot'];
}

/** The way to one other member: one long-lived stream, made anew whenever it breaks. */
export class Peer {
  readonly #options: PeerOptions;
  readonly #log: Logger;
  readonly #queue = new SendQueue();
  /** The first is believed the most. */
  #addresses: string[];
  #turn = 0;
  #up: Link | null = null;
  readonly #dialing = new Set<Link>();
  #redial: Timer | null = null;
  /** Whether the other side takes several messages at once. */
  #batches = false;
  #writing = false;
  #writtenAtMs = 0;
  #sinceMs: number;
  /** Failures in a row, and in total. */
  #failures = 0;
  #failuresTotal = 0;
  /** Whether the member was told of this outage. */
  #reported = false;
  #lastError: string | undefined;
  readonly #sent = { messages: 0, batches: 0, bytes: 0, dropped: 0 };
  #closed = false;

  constructor(options: PeerOptions) {
    this.#options = options;
    this.#addresses = [options.address];
    this.#log = options.log.with({ peer: options.raftId });
    this.#sinceMs = options.clock.monotonic();
    this.#dial();
  }

  /** Where the peer was found, or else is sought. */
  get address(): string {
    return this.#up?.address ?? must(this.#addresses[this.#turn % this.#addresses.length], 'an address');
  }

  /** The connection, while there is one. */
  get link(): Link | null {
    return this.#up;
  }

  /** Queues a message; `flush` sends. */
  send(message: RaftMessage): void {
    if (this.#closed) return;
    const dropped = this.#queue.push(message);
    if (dropped !== undefined) this.#dropped(dropped);
  }

  #dropped(dropped: Dropped): void {
    this.#sent.dropped += dropped.messages;
    if (dropped.told && !this.#reported) this.#unreachable();
  }

  #unreachable(): void {
    // One report an outage: while there is no connection, the core has nothing more to learn.
    this.#reported = this.#up === null;
    this.#options.reports.unreachable(this.#options.raftId);
  }

  /** Sends what waits, as one gRPC message if it fits; what comes while that is on its way makes the next. */
  flush(): void {
    const { clock } = this.#options;
    const link = this.#up;
    if (link === null) {
      // Until a first attempt has failed there is hope that all of it arrives in time.
      if (this.#failures > 0) this.#dropped(this.#queue.keepVotes());
      return;
    }
    if (this.#writing) {
      if (clock.monotonic() - this.#writtenAtMs > STALL_MS) link.cancel('it takes no messages any more');
      return;
    }
    const batch = this.#next();
    if (batch.length === 0) return;
    const bytes = encodeBatch(batch);
    this.#sent.messages += batch.length;
    this.#sent.batches++;
    this.#sent.bytes += bytes.length;
    this.#writing = true;
    this.#writtenAtMs = clock.monotonic();
    link.write(bytes, () => {
      if (link !== this.#up) return;
      this.#writing = false;
      this.flush();
    });
  }

  /** What goes into one gRPC message. */
  #next(): RaftMessage[] {
    return this.#batches ? this.#queue.take(BATCH_BYTES, BATCH_MESSAGES) : this.#queue.take(0, 1);
  }

  #dial(): void {
    this.#redial?.cancel();
    this.#redial = null;
    if (this.#closed || this.#up !== null) return;
    const { credentials, channelOptions, clock, self, check } = this.#options;
    if (this.#dialing.size < DIALS_MAX) {
      const link = new Link({
        address: this.address,
        credentials,
        channelOptions,
        metadata: helloMetadata(self()),
        clock,
        check,
        onUp: (one) => this.#onUp(one),
        onAnswer: (one, { version }) => {
          if (one === this.#up) this.#batches = version > 0;
        },
        onEnd: (one, end) => this.#onEnd(one, end),
      });
      this.#dialing.add(link);
    }
    this.#redial = clock.after(DIAL_INTERVAL_MS, () => this.#dial());
  }

  #onUp(link: Link): void {
    this.#dialing.delete(link);
    if (this.#closed || this.#up !== null) {
      link.cancel('another connection was faster');
      return;
    }
    this.#up = link;
    this.#sinceMs = this.#options.clock.monotonic();
    this.#writing = false;
    this.#batches = false;
    this.#reported = false;
    this.#redial?.cancel();
    this.#redial = null;
    for (const other of this.#dialing) other.cancel('another connection was faster');
    if (this.#failures > 0) this.#log.info('raft stream is back', { address: link.address });
    this.flush();
  }

  /** An attempt failed, the peer ended the stream, or it broke: what was on it is lost. */
  #onEnd(link: Link, end: LinkEnd): void {
    const wasUp = link === this.#up;
    if (wasUp) this.#up = null;
    // One that was given up, or too slow.
    if (!this.#dialing.delete(link) && !wasUp) return;
    if (this.#closed || this.#up !== null) return;
    const { clock, random, reports, resolve } = this.#options;
    const nowMs = clock.monotonic();
    if (wasUp) {
      if (nowMs - this.#sinceMs > HELD_MS) this.#failures = 0;
      this.#sinceMs = nowMs;
    }
    this.#failures++;
    this.#failuresTotal++;
    this.#turn++;
    this.#lastError = end.error ?? 'the manager there ended the connection';
    if (this.#failures === 1) this.#log.info('raft stream ended', { address: link.address, error: this.#lastError });
    if (end.removed) reports.removed();
    this.#sent.dropped += this.#queue.keepVotes().messages;
    if (wasUp || !this.#reported) this.#unreachable();
    if (this.#failures % RESOLVE_EVERY === RESOLVE_AFTER) resolve();
    if (this.#closed || this.#dialing.size > 0) return;
    this.#redial?.cancel();
    this.#redial = clock.after(backoffDelayMs(this.#failures - 1, BACKOFF, random), () => this.#dial());
  }

  /** The owner says where the peer is; only that counts now. */
  setAddress(address: string): void {
    if (this.#addresses[0] === address && this.#addresses.length === 1) return;
    this.#addresses = [address];
    this.#turn = 0;
    this.#moveTo(address);
  }

  /**
   * Another place where the peer may be. @param sure the peer itself says so: it is not at the old place any more.
   */
  suggest(address: string, sure: boolean): void {
    if (this.#closed) return;
    const others = this.#addresses.filter((known) => known !== address);
    if (sure) {
      this.#addresses = [address, ...others].slice(0, ADDRESSES_MAX);
      this.#turn = 0;
      this.#moveTo(address);
    } else if (others.length === this.#addresses.length) {
      this.#addresses = [...others.slice(0, ADDRESSES_MAX - 1), address];
      this.#turn = this.#addresses.length - 1;
    }
  }

  /** Ends connections to other places, and begins one to this. */
  #moveTo(address: string): void {
    if (this.#closed || this.#up?.address === address) return;
    this.#log.info('a manager is sought at another address', { address });
    const old = [...(this.#up === null ? [] : [this.#up]), ...this.#dialing];
    const wasUp = this.#up !== null;
    this.#up = null;
    this.#dialing.clear();
    if (wasUp) {
      this.#sinceMs = this.#options.clock.monotonic();
      this.#unreachable();
    }
    this.#dial();
    for (const link of old) link.cancel('the manager is at another address now');
  }

  status(): PeerStatus {
    const { raftId, clock, snapshot } = this.#options;
    return {
      raftId,
      address: this.address,
      connected: this.#up !== null,
      sinceMs: clock.monotonic() - this.#sinceMs,
      queuedMessages: this.#queue.length,
      queuedBytes: this.#queue.bytes,
      sentMessages: this.#sent.messages,
      sentBatches: this.#sent.batches,
      sentBytes: this.#sent.bytes,
      droppedMessages: this.#sent.dropped,
      failures: this.#failuresTotal,
      lastError: this.#lastError,
      snapshot: snapshot(),
    };
  }

  /** Lets what is queued go out, then ends the stream. */
  close(): void {
    const link = this.#shut();
    if (link === null) return;
    for (let i = 0; i < LAST_BATCHES_MAX && this.#queue.length > 0; i++)
      link.write(encodeBatch(this.#next()), () => undefined);
    link.finish();
  }

  /** Ends the stream at once. */
  abort(): void {
    this.#shut()?.cancel('this manager is stopping');
  }

  /** Stops trying; returns the connection that there was. */
  #shut(): Link | null {
    if (this.#closed) return null;
    this.#closed = true;
    this.#redial?.cancel();
    for (const link of this.#dialing) link.cancel('this connection is not needed any more');
    return this.#up;
  }
}
