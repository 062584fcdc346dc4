import type { Random } from '../../base/index.ts';
import { RaftMessage, RaftMessageType } from '../../proto/index.ts';
import type { RaftTransport, RaftTransportReports } from '../transport/transport.ts';
import type { SimProcess } from './process.ts';
import type { Scheduler } from './scheduler.ts';

/** How all links behave now. */
export interface LinkTemper {
  minMs: number;
  meanMs: number;
  dropShare: number;
  duplicateShare: number;
  /** Share of messages that come up to `lateMs` later: after what was sent behind them, even in another term. */
  lateShare: number;
  lateMs: number;
  /** What goes from one member to another comes in the order in which it was sent, as on a stream; late messages not. */
  ordered: boolean;
}

export const GOOD_LINKS: LinkTemper = {
  minMs: 0.2,
  meanMs: 0.6,
  dropShare: 0,
  duplicateShare: 0,
  lateShare: 0,
  lateMs: 0,
  ordered: true,
};

/** What an adversary that reads the messages does with one: lets it pass, drops it, or holds it back for some ms. */
export type Verdict = 'pass' | 'drop' | number;

/** A network that drops, delays, duplicates and so reorders messages, and that can be cut in one direction only. */
export class SimNetwork {
  temper: LinkTemper = GOOD_LINKS;
  /** Looks at each message before anything else happens to it. */
  filter: ((message: RaftMessage) => Verdict) | null = null;
  /** Messages pass through the wire format. */
  encodes = false;
  readonly counts = { sent: 0, dropped: 0, duplicated: 0, late: 0 };
  readonly #scheduler: Scheduler;
  readonly #random: Random;
  readonly #deliver: (message: RaftMessage) => void;
  readonly #cut = new Set<number>();
  /** When the newest message of each direction comes. */
  readonly #newestAt = new Map<number, number>();

  constructor(scheduler: Scheduler, random: Random, deliver: (message: RaftMessage) => void) {
    this.#scheduler = scheduler;
    this.#random = random;
    this.#deliver = deliver;
  }

  /** Cuts one direction. */
  cut(from: number, to: number): void {
    this.#cut.add(from * 65_536 + to);
  }

  join(from: number, to: number): void {
    this.#cut.delete(from * 65_536 + to);
  }

  isCut(from: number, to: number): boolean {
    return this.#cut.size > 0 && this.#cut.has(from * 65_536 + to);
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

  /** The transport of one run of a member. */
  transport(process: SimProcess): RaftTransport {
    let reports: RaftTransportReports | undefined;
    return {
      attach: (given) => {
        reports = given;
      },
      send: (messages) => {
        if (!process.alive) return;
        for (const message of messages) this.#send(message, process, reports);
      },
      addPeer: () => undefined,
      updatePeer: () => undefined,
      removePeer: () => undefined,
      stop: () => Promise.resolve(),
    };
  }

  /** Delivers a message that was sent before once more, in `ms`. */
  repeat(message: RaftMessage, ms: number): void {
    this.counts.duplicated++;
    this.#scheduler.after(ms, () => this.#deliver(message));
  }

  #send(given: RaftMessage, process: SimProcess, reports: RaftTransportReports | undefined): void {
    const random = this.#random;
    this.counts.sent++;
    const message = this.encodes ? RaftMessage.decode(RaftMessage.encode(given)) : given;
    const { temper } = this;
    const verdict = this.filter === null ? 'pass' : this.filter(message);
    const lost =
      verdict === 'drop' ||
      this.isCut(message.from, message.to) ||
      (temper.dropShare > 0 && random.float() < temper.dropShare);
    if (lost) {
      this.counts.dropped++;
    } else {
      this.#later(message, typeof verdict === 'number' ? verdict : 0);
      if (temper.duplicateShare > 0 && random.float() < temper.duplicateShare) {
        this.counts.duplicated++;
        this.#later(message, 0);
      }
    }
    // A real transport learns of a loss, but not of each.
    if (lost && random.int(4) === 0) {
      this.#scheduler.after(5, () => process.run(() => reports?.unreachable(message.to)));
    }
    if (message.type === RaftMessageType.MsgSnap && random.int(2) === 0) {
      this.#scheduler.after(20, () => process.run(() => reports?.snapshot(message.to, !lost)));
    }
  }

  #later(message: RaftMessage, heldMs: number): void {
    const { temper } = this;
    const random = this.#random;
    let ms = heldMs + temper.minMs - Math.log(1 - random.float()) * temper.meanMs;
    if (temper.lateShare > 0 && random.float() < temper.lateShare) {
      this.counts.late++;
      ms += random.float() * temper.lateMs;
    } else if (temper.ordered && heldMs === 0) {
      const link = message.from * 65_536 + message.to;
      const at = Math.max(this.#scheduler.now + ms, this.#newestAt.get(link) ?? 0);
      this.#newestAt.set(link, at);
      ms = at - this.#scheduler.now;
    }
    this.#scheduler.after(ms, () => {
      // Late messages may outlive a cut; what was sent just before it does not.
      if (ms > 1000 || !this.isCut(message.from, message.to)) this.#deliver(message);
    });
  }
}
