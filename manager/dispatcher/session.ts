import { ShoalError, type Clock, type Timer } from '../../base/index.ts';
import { SessionMessage } from '../../proto/index.ts';
import { NodeUsage } from './usage.ts';
import { Wakeup } from './wakeup.ts';
import type { AssignmentFeed } from './assignment-feed.ts';

export const sessionInvalid = (): ShoalError => new ShoalError('InvalidArgument', 'session invalid');
export const nodeNotRegistered = (): ShoalError => new ShoalError('NotFound', 'node not registered');

/**
 * One agent's session: from its registration until it is replaced, its node is removed, or nothing was heard of it for
 * too long. It outlives the stream on which it was made: an agent may come back to it.
 */
export class Session {
  readonly id: string;
  readonly nodeId: string;
  /** 0 for a stock agent. */
  readonly shoalVersion: number;
  /** Wakes the stream of session messages. */
  readonly messages = new Wakeup();
  /** Wakes the stream of assignments. */
  readonly assignments = new Wakeup();
  /** What the newest stream of assignments has told; undefined while there is none. */
  feed: AssignmentFeed | undefined;
  /** Of the stream that is open, or was last; aborted when the agent opens a newer one of the same kind. */
  messageStream: AbortController | undefined;
  assignmentStream: AbortController | undefined;
  /** Ends the stream of reports; undefined while there is none. */
  endReports: ((reason: ShoalError) => void) | undefined;
  /** What the node's tasks use, as its agent told in this session. */
  readonly usage = new NodeUsage();
  readonly #controller = new AbortController();

  constructor(id: string, nodeId: string, shoalVersion: number) {
    this.id = id;
    this.nodeId = nodeId;
    this.shoalVersion = shoalVersion;
  }

  /** Aborts, with the ShoalError for the agent as reason, when the session ends. */
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  close(reason: ShoalError): void {
    this.#controller.abort(reason);
  }
}

/** Lateness of a timer that says that the manager itself, not the node, was slow, ms. */
const STALL_MS = 250;

/**
 * The silence of one node: calls `expire` once when `deadlineMs` passes without being moved. One timer per node, set
 * anew only when it fires, so that a heartbeat costs nothing.
 */
export class Deadline {
  readonly #clock: Clock;
  readonly #expire: () => void;
  #deadlineMs: number;
  #timer: Timer | undefined;

  constructor(clock: Clock, delayMs: number, expire: () => void) {
    this.#clock = clock;
    this.#expire = expire;
    this.#deadlineMs = clock.monotonic() + delayMs;
    this.#arm();
  }

  /** Moves the deadline to `delayMs` from now. */
  extend(delayMs: number): void {
    const deadlineMs = this.#clock.monotonic() + delayMs;
    const earlier = deadlineMs < this.#deadlineMs;
    this.#deadlineMs = deadlineMs;
    if (earlier) this.#arm();
  }

  cancel(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
  }

  #arm(): void {
    this.#timer?.cancel();
    this.#timer = this.#clock.after(Math.max(0, this.#deadlineMs - this.#clock.monotonic()), () => {
      const lateMs = this.#clock.monotonic() - this.#deadlineMs;
      if (lateMs > STALL_MS) {
        // This process stood still: what the node said meanwhile may wait in the sockets. It gets that time back.
        this.#deadlineMs = this.#clock.monotonic() + lateMs;
      }
      if (this.#clock.monotonic() < this.#deadlineMs) this.#arm();
      else this.#expire();
    });
  }
}

/** What of a session message makes the agent do something: the rest (its own status) is not worth a message. */
export function stableContent(message: SessionMessage): Uint8Array {
  const node = message.node === null ? null : { ...message.node, meta: null, status: null, description: null };
  return SessionMessage.encode({ ...message, node });
}
