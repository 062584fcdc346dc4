import { assert } from '../../base/index.ts';
import type { RaftMessage } from '../../proto/index.ts';

/** Messages that wait for the disk at the most; the oldest gives way. */
const HELD_MESSAGES_MAX = 4096;

interface Held {
  message: RaftMessage;
  /** The (term, vote) that must be durable first. */
  version: number;
}

/**
 * Messages on their way out. One that promises something waits until that is durable: every message needs the term and
 * vote as of its making; one that accepts entries needs those. What is held gives way when the term changes: a promise
 * of an old term may be about entries that a newer leader has overwritten.
 */
export class Outbox {
  #ready: RaftMessage[] = [];
  #held: Held[] = [];
  /** The acceptance that waits for its entries. There is one leader a term, so there is one at the most. */
  #accept: (Held & { told: number }) | null = null;
  /** Number of the present (term, vote); it grows with each change. */
  #version = 0;
  #durableVersion = 0;

  /** Messages that may leave now. */
  get readyCount(): number {
    return this.#ready.length;
  }

  get heldCount(): number {
    return this.#held.length + (this.#accept === null ? 0 : 1);
  }

  get version(): number {
    return this.#version;
  }

  /** Whether the present term and vote are durable. */
  get voteDurable(): boolean {
    return this.#durableVersion === this.#version;
  }

  /** The vote changed. */
  voteChanged(): void {
    this.#version++;
  }

  /** The term changed: what is held was promised in an older one. */
  termChanged(): void {
    this.#version++;
    this.#held = [];
    this.#accept = null;
  }

  push(message: RaftMessage): void {
    if (this.voteDurable) this.#ready.push(message);
    else {
      this.#held.push({ message, version: this.#version });
      // While a disk stands still; raft sends again what matters.
      if (this.#held.length > HELD_MESSAGES_MAX) this.#held.shift();
    }
  }

  /**
   * A MsgAppResp that accepts everything up to its index.
   * @param durable the log is durable up to here.
   */
  pushAccept(message: RaftMessage, durable: number): void {
    const waiting = this.#accept;
    if (waiting !== null) {
      assert(waiting.message.to === message.to, 'one leader a term');
      // Accepts of one term collapse to the highest.
      if (message.index > waiting.message.index) waiting.message = message;
      waiting.version = this.#version;
      return;
    }
    // A log that does not hold the entries on the disk yet acknowledges nothing: they could be lost.
    if (message.index <= durable) this.push(message);
    else this.#accept = { message, version: this.#version, told: durable };
  }

  /** More is durable: `version` of term and vote, the log up to `durable`. Lets go what waited for that. */
  release(version: number, durable: number): void {
    assert(version >= this.#durableVersion && version <= this.#version, 'versions become durable in their order');
    this.#durableVersion = version;
    if (this.#held.length > 0) {
      for (const held of this.#held) if (held.version <= version) this.#ready.push(held.message);
      this.#held = this.#held.filter((held) => held.version > version);
    }
    this.#releaseAccept(durable);
  }

  #releaseAccept(durable: number): void {
    const accept = this.#accept;
    if (accept === null || accept.version > this.#durableVersion) return;
    if (accept.message.index <= durable) {
      this.#accept = null;
      this.#ready.push(accept.message);
    } else if (durable > accept.told) {
      // Part of it is true already: a leader under load must not wait for a pause of the disk.
      accept.told = durable;
      this.#ready.push({ ...accept.message, index: durable });
    }
  }

  /** Takes the messages that may leave. */
  take(): RaftMessage[] {
    const out = this.#ready;
    this.#ready = [];
    return out;
  }
}
