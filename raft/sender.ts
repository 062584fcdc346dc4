import type { Logger } from '../base/index.ts';
import { RaftMessageType } from '../proto/index.ts';
import type { RaftMessage, RaftSnapshot } from '../proto/index.ts';
import type { Raft } from './core/index.ts';
import type { RaftStorage } from './storage.ts';
import type { RaftTransport } from './transport/transport.ts';

export interface SenderOptions {
  core: Raft;
  storage: RaftStorage;
  transport: RaftTransport;
  log: Logger;
  /** Called inside a guarded turn of the driver. */
  guard: (run: () => void) => void;
  /** The newest snapshot cannot be read; one of the present state would replace it. */
  onUnreadable: () => void;
}

/** Hands messages to the transport. Those that carry a snapshot wait until it is read from the disk. */
export class Sender {
  readonly #options: SenderOptions;
  /** MsgSnap by receiver, waiting for the disk. */
  #held = new Map<number, RaftMessage>();
  #loading = false;

  constructor(options: SenderOptions) {
    this.#options = options;
  }

  send(messages: readonly RaftMessage[]): void {
    if (messages.length === 0) return;
    if (!messages.some((message) => message.type === RaftMessageType.MsgSnap)) {
      this.#options.transport.send(messages);
      return;
    }
    const others = messages.filter((message) => message.type !== RaftMessageType.MsgSnap);
    if (others.length > 0) this.#options.transport.send(others);
    for (const message of messages) if (message.type === RaftMessageType.MsgSnap) this.#held.set(message.to, message);
    this.#load();
  }

  #load(): void {
    if (this.#loading) return;
    this.#loading = true;
    this.#options.storage.loadSnapshot((error, snapshot) => {
      this.#loading = false;
      this.#options.guard(() => this.#loaded(error, snapshot));
    });
  }

  #loaded(error: unknown, snapshot: RaftSnapshot | null): void {
    const { core, transport, log, onUnreadable } = this.#options;
    const held = [...this.#held.values()].filter((message) => this.#isFresh(message));
    this.#held.clear();
    if (snapshot === null) {
      for (const { to } of held) core.reportSnapshot(to, false);
      log.error('the newest snapshot cannot be read, to be sent to a manager that needs it', { error });
      if (error !== null && error !== undefined) onUnreadable();
      return;
    }
    const index = snapshot.metadata?.index ?? 0;
    const fit = held.filter((message) => (message.snapshot?.metadata?.index ?? 0) <= index);
    if (fit.length > 0) transport.send(fit.map((message) => ({ ...message, snapshot })));
    // Read before the one that is asked for was in its place.
    for (const message of held) if (!fit.includes(message)) this.#held.set(message.to, message);
    if (this.#held.size > 0) this.#load();
  }

  /** Whether the receiver still waits for a snapshot of this leader. */
  #isFresh(message: RaftMessage): boolean {
    const { core } = this.#options;
    return core.role === 'leader' && core.term === message.term && core.progress.get(message.to)?.state === 'snapshot';
  }
}
