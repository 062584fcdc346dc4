import type { Clock, Random } from '../../base/index.ts';
import { RaftMessageType } from '../../proto/index.ts';
import type { RaftMessage } from '../../proto/index.ts';
import type { RaftTransport, RaftTransportReports } from '../transport/transport.ts';

/** Faults of all links. */
export interface LinkFaults {
  dropProbability: number;
  duplicateProbability: number;
  delayMinMs: number;
  delayMaxMs: number;
}

export const CALM: LinkFaults = { dropProbability: 0, duplicateProbability: 0, delayMinMs: 1, delayMaxMs: 3 };

/** A network that drops, delays, duplicates and so reorders messages, and that can be cut in one direction only. */
export class VirtualNetwork {
  faults: LinkFaults = CALM;
  sent = 0;
  dropped = 0;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #deliver: (message: RaftMessage) => void;
  readonly #cut = new Set<string>();

  constructor(clock: Clock, random: Random, deliver: (message: RaftMessage) => void) {
    this.#clock = clock;
    this.#random = random;
    this.#deliver = deliver;
  }

  cut(from: number, to: number): void {
    this.#cut.add(`${from}>${to}`);
  }

  /** Cuts both directions between every member of `side` and every other of `all`. */
  partition(side: readonly number[], all: readonly number[]): void {
    for (const a of side) {
      for (const b of all) {
        if (side.includes(b)) continue;
        this.cut(a, b);
        this.cut(b, a);
      }
    }
  }

  heal(): void {
    this.#cut.clear();
  }

  transport(): RaftTransport {
    let reports: RaftTransportReports | undefined;
    return {
      attach: (given) => {
        reports = given;
      },
      send: (messages) => {
        for (const message of messages) this.#send(message, reports);
      },
      addPeer: () => undefined,
      updatePeer: () => undefined,
      removePeer: () => undefined,
      stop: () => Promise.resolve(),
    };
  }

  #send(message: RaftMessage, reports: RaftTransportReports | undefined): void {
    this.sent++;
    const { dropProbability, duplicateProbability } = this.faults;
    const lost = this.#cut.has(`${message.from}>${message.to}`) || this.#random.float() < dropProbability;
    const known = this.#random.float() < 0.5;
    if (lost) {
      this.dropped++;
      // A real transport sometimes learns of it.
      if (known) this.#clock.after(5, () => reports?.unreachable(message.to));
    } else {
      this.#later(message);
      if (this.#random.float() < duplicateProbability) this.#later(message);
    }
    if (message.type === RaftMessageType.MsgSnap && known) {
      this.#clock.after(20, () => reports?.snapshot(message.to, !lost));
    }
  }

  #later(message: RaftMessage): void {
    const { delayMinMs, delayMaxMs } = this.faults;
    const delayMs = delayMinMs + this.#random.float() * (delayMaxMs - delayMinMs);
    this.#clock.after(delayMs, () => {
      if (!this.#cut.has(`${message.from}>${message.to}`)) this.#deliver(message);
    });
  }
}
