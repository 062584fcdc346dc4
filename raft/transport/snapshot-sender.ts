import { createHash } from 'node:crypto';
import * as grpc from '@grpc/grpc-js';
import { abortReason, backoffDelayMs, errorMessage, must } from '../../base/index.ts';
import type { Clock, Logger, Random } from '../../base/index.ts';
import type { RaftMessage, SnapshotOffer } from '../../proto/index.ts';
import { encodeBatch } from './codec.ts';
import { Link, type LinkEnd, type LinkOptions } from './link.ts';
import { RateLimiter } from './rate-limit.ts';
import { SNAPSHOT_BYTES_MAX, splitSnapshot } from './snapshot-chunks.ts';
import type { PeerStatus } from './status.ts';

/** Snapshots on their way at once; others wait. */
export const SNAPSHOTS_AT_ONCE_MAX = 2;
/** Bytes a second for all snapshots together: half of what 1 Gbit/s carries. */
export const SNAPSHOT_BYTES_PER_SECOND = 64 * 1024 * 1024;
/** Snapshot bytes in one message: 1 ms of encryption at the most, so that heartbeats get their turn. */
const PIECE_BYTES = 256 * 1024;
/** Streams that may fail one after the other without a byte of progress. */
const ATTEMPTS_MAX = 5;
const BACKOFF = { baseMs: 100, capMs: 1_000 };
/** A peer that takes nothing of a piece for this long has failed. */
const STALL_MS = 10_000;
/** Time for the first word of the peer; one that says nothing knows no offers. */
const ANSWER_MS = 2_000;
/** Time for the peer to check and take the whole, ms. */
const FINISH_MS = 30_000;
/** Bytes hashed in one turn. */
const HASH_SLICE_BYTES = 2 * 1024 * 1024;

export interface SnapshotSenderOptions {
  /** A link of its own to a member, for one stream. Undefined when its address is not known. */
  link: (
    raftId: number,
    offer: SnapshotOffer,
    events: Pick<LinkOptions, 'onUp' | 'onAnswer' | 'onEnd'>,
  ) => Link | undefined;
  clock: Clock;
  random: Random;
  log: Logger;
  bytesPerSecond: number;
  /** The fate of a snapshot. */
  report: (raftId: number, delivered: boolean) => void;
  removed: () => void;
}

interface Job {
  readonly raftId: number;
  readonly message: RaftMessage;
  readonly data: Uint8Array;
  readonly controller: AbortController;
  sentBytes: number;
}

/** What one stream came to: it was delivered, may go on by another stream, or never will. */
type Outcome = 'delivered' | 'broken' | 'refused';

/** Sends snapshots, each on connections of its own so that no heartbeat waits behind it, at a bounded rate. */
export class SnapshotSender {
  readonly #options: SnapshotSenderOptions;
  readonly #limiter: RateLimiter;
  readonly #running = new Map<number, Job>();
  readonly #waiting = new Map<number, RaftMessage>();
  /** Digests of snapshots, by their data: several members may get the same one. */
  readonly #digests = new WeakMap<Uint8Array, Promise<Buffer>>();

  constructor(options: SnapshotSenderOptions) {
    this.#options = options;
    this.#limiter = new RateLimiter(options.clock, options.bytesPerSecond);
  }

  /** Begins to send, or queues. One at a time to each member: a further one for it is dropped while the first goes on. */
  send(message: RaftMessage): void {
    if (this.#running.has(message.to)) return;
    this.#waiting.set(message.to, message);
    this.#startNext();
  }

  progress(raftId: number): PeerStatus['snapshot'] {
    const job = this.#running.get(raftId);
    return job && { sentBytes: job.sentBytes, totalBytes: job.data.length };
  }

  /** Gives up what goes to a member, or all; nothing is reported. */
  cancel(raftId?: number): void {
    for (const id of raftId === undefined ? [...this.#running.keys(), ...this.#waiting.keys()] : [raftId]) {
      this.#waiting.delete(id);
      const job = this.#running.get(id);
      this.#running.delete(id);
      job?.controller.abort(new Error('this raft snapshot is not needed any more'));
    }
    this.#startNext();
  }

  #startNext(): void {
    for (const [raftId, message] of this.#waiting) {
      if (this.#running.size >= SNAPSHOTS_AT_ONCE_MAX) return;
      this.#waiting.delete(raftId);
      const data = must(message.snapshot, 'snapshot of a MsgSnap').data;
      const job: Job = { raftId, message, data, controller: new AbortController(), sentBytes: 0 };
      this.#running.set(raftId, job);
      this.#run(job).then(
        (delivered) => this.#done(job, delivered),
        (error: unknown) => {
          if (this.#running.get(raftId) === job) {
            this.#options.log.warn('raft snapshot was not delivered', { peer: raftId, error: errorMessage(error) });
          }
          this.#done(job, false);
        },
      );
    }
  }

  #done(job: Job, delivered: boolean): void {
    if (this.#running.get(job.raftId) !== job) return;
    this.#running.delete(job.raftId);
    this.#options.report(job.raftId, delivered);
    this.#startNext();
  }

  async #run(job: Job): Promise<boolean> {
    const { log, clock, random } = this.#options;
    if (job.data.length > SNAPSHOT_BYTES_MAX) {
      const [bytes, max] = [job.data.length, SNAPSHOT_BYTES_MAX];
      log.error('the state of the cluster is too large for a snapshot to another manager', { bytes, max });
      return false;
    }
    const { signal } = job.controller;
    const { index, term } = must(job.message.snapshot?.metadata, 'snapshot metadata');
    const sha256 = await this.#digest(job.data);
    const offer: SnapshotOffer = { from: job.message.from, index, term, bytes: job.data.length, sha256 };
    for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt++) {
      const before = job.sentBytes;
      const outcome = await this.#attempt(job, offer);
      if (outcome !== 'broken') return outcome === 'delivered';
      // Progress makes up for a failure; the size bounds how often.
      if (job.sentBytes > before) attempt = -1;
      await clock.sleep(backoffDelayMs(Math.max(0, attempt), BACKOFF, random), signal);
    }
    return false;
  }

  #digest(data: Uint8Array): Promise<Buffer> {
    let digest = this.#digests.get(data);
    if (digest === undefined) {
      digest = this.#hash(data);
      this.#digests.set(data, digest);
      digest.catch(() => this.#digests.delete(data));
    }
    return digest;
  }

  async #hash(data: Uint8Array): Promise<Buffer> {
    const hash = createHash('sha256');
    for (let at = 0; at < data.length; at += HASH_SLICE_BYTES) {
      if (at > 0) await this.#options.clock.sleep(0);
      hash.update(data.subarray(at, at + HASH_SLICE_BYTES));
    }
    return hash.digest();
  }

  /** One stream, from where the peer says. */
  async #attempt(job: Job, offer: SnapshotOffer): Promise<Outcome> {
    const { signal } = job.controller;
    if (signal.aborted) throw abortReason(signal);
    const { promise: ended, resolve: onEnd } = withResolvers<LinkEnd>();
    const { promise: answered, resolve: onAnswer } = withResolvers<{ offset: number | undefined }>();
    const link = this.#options.link(job.raftId, offer, {
      onUp: () => undefined,
      onAnswer: (_link, answer) => onAnswer(answer),
      onEnd: (_link, end) => onEnd(end),
    });
    if (link === undefined) return 'broken';
    const cancel = (): void => link.cancel('this raft snapshot is not needed any more');
    signal.addEventListener('abort', cancel, { once: true });
    try {
      const silent = this.#options.clock.sleep(ANSWER_MS).then(() => ({ offset: undefined }));
      const answer = await Promise.race([answered, silent, ended.then(() => undefined)]);
      if (answer !== undefined && (await this.#pump(job, link, ended, answer.offset))) link.finish(FINISH_MS);
      const end = await ended;
      if (signal.aborted) throw abortReason(signal);
      return this.#outcome(job, end);
    } finally {
      signal.removeEventListener('abort', cancel);
      link.cancel('the stream is over');
    }
  }

  #outcome(job: Job, end: LinkEnd): Outcome {
    if (end.error === undefined) return 'delivered';
    const { log, removed } = this.#options;
    log.info('a stream with a raft snapshot broke', { peer: job.raftId, sentBytes: job.sentBytes, error: end.error });
    if (end.removed) removed();
    const { DATA_LOSS, PERMISSION_DENIED, NOT_FOUND, INVALID_ARGUMENT } = grpc.status;
    // A wrong checksum, or a refusal: the leader begins anew, if it still wants to.
    return [DATA_LOSS, PERMISSION_DENIED, NOT_FOUND, INVALID_ARGUMENT].includes(end.code) ? 'refused' : 'broken';
  }

  /** Sends the pieces from `offset` on (undefined: the peer knows no offers). @returns whether all were taken. */
  async #pump(job: Job, link: Link, ended: Promise<LinkEnd>, offset: number | undefined): Promise<boolean> {
    const { clock } = this.#options;
    const over = ended.then(() => 'ended' as const);
    job.sentBytes = Math.min(offset ?? 0, job.data.length);
    for (const piece of splitSnapshot(job.message, PIECE_BYTES, job.sentBytes)) {
      const bytes = must(piece.snapshot, 'piece').data.length;
      await this.#limiter.take(bytes, job.controller.signal);
      const { promise: accepted, resolve } = withResolvers<'accepted'>();
      const stall = clock.after(STALL_MS, () => link.cancel('it takes no snapshot any more'));
      link.write(encodeBatch([piece], offset === undefined ? 0 : job.sentBytes), () => resolve('accepted'));
      const outcome = await Promise.race([accepted, over]);
      stall.cancel();
      if (outcome === 'ended') return false;
      job.sentBytes += bytes;
    }
    return true;
  }
}

function withResolvers<T>(): { promise: Promise<T>; resolve: (value: T) => void } {
  let resolve!: (value: T) => void;
  const promise = new Promise<T>((given) => {
    resolve = given;
  });
  return { promise, resolve };
}
