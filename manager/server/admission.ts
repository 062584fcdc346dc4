import type { Clock, Logger, Timer } from '../../base/index.ts';

/** Handshakes begun in one turn of the event loop: each takes about a millisecond, most of it in later turns. */
export const HANDSHAKES_PER_TURN = 2;
/** Handshakes under way: all of them may have something to do in one turn. */
export const HANDSHAKES_MAX = 32;
/** Time after which a handshake that has not ended leaves its place: it waits for the network and costs nothing, ms. */
export const HANDSHAKE_PLACE_MS = 500;
/** Time within which a handshake must end, ms. */
export const HANDSHAKE_TIMEOUT_MS = 10_000;
/** Connections whose handshake has not ended, with and without a place. */
export const UNFINISHED_MAX = 1024;
/** Connections that wait for their handshake; further ones are closed at once, their owners try again after a pause. */
export const WAITING_MAX = 4096;
/** Longest wait for a handshake, ms: by then the other side has given up. */
export const WAITING_TIMEOUT_MS = 10_000;
/** Least time between two warnings of refused connections, ms. */
const WARN_INTERVAL_MS = 10_000;
/** The shortest timer: it fires once per turn of the event loop, ms. */
const TURN_MS = 1;

/** A connection that was accepted, and of which nothing was read. */
export interface Arrival {
  /** Where it comes from. */
  readonly host: string;
  /** Begins the handshake. */
  begin(): void;
  /** Closes the connection at once. */
  drop(): void;
}

export interface AdmissionOptions {
  clock: Clock;
  log: Logger;
  /** Whether connections from there go first: consensus must not wait behind thousands of agents. */
  isPreferred: (host: string) => boolean;
}

interface Waiting {
  arrival: Arrival;
  sinceMs: number;
}

/** Connections that wait, by where they come from; hosts are served in turns. */
class WaitingLine {
  readonly #byHost = new Map<string, Waiting[]>();
  size = 0;

  push(waiting: Waiting): void {
    const { host } = waiting.arrival;
    const line = this.#byHost.get(host);
    if (line === undefined) this.#byHost.set(host, [waiting]);
    else line.push(waiting);
    this.size++;
  }

  /** The oldest one of the host whose turn it is. */
  shift(): Waiting | undefined {
    const [entry] = this.#byHost;
    if (entry === undefined) return undefined;
    const [host, line] = entry;
    const waiting = line.shift();
    // The host goes to the end of the line.
    this.#byHost.delete(host);
    if (line.length > 0) this.#byHost.set(host, line);
    this.size--;
    return waiting;
  }

  remove(arrival: Arrival): boolean {
    const line = this.#byHost.get(arrival.host);
    const at = line?.findIndex((one) => one.arrival === arrival) ?? -1;
    if (line === undefined || at < 0) return false;
    line.splice(at, 1);
    if (line.length === 0) this.#byHost.delete(arrival.host);
    this.size--;
    return true;
  }
}

interface Unfinished {
  /** Holds its place among those under way; undefined once it has left it. */
  place: { preferred: boolean } | undefined;
  timer: Timer;
}

/**
 * Decides when accepted connections begin their TLS handshake, so that thousands at once do not hold up the event loop:
 * few per turn, few under way, managers first, others in turns by where they come from. It counts, it does not measure.
 */
export class Admission {
  readonly #options: AdmissionOptions;
  readonly #preferred = new WaitingLine();
  readonly #others = new WaitingLine();
  readonly #unfinished = new Map<Arrival, Unfinished>();
  /** Places taken, of preferred ones and of others: neither kind can take those of the other. */
  readonly #places = { preferred: 0, others: 0 };
  #begun = 0;
  #turn: Timer | undefined;
  #refused = 0;
  #warnedMs = Number.NEGATIVE_INFINITY;
  #closed = false;

  constructor(options: AdmissionOptions) {
    this.#options = options;
  }

  /** Connections that wait. */
  get waiting(): number {
    return this.#preferred.size + this.#others.size;
  }

  /** Connections whose handshake has begun and not ended. */
  get unfinished(): number {
    return this.#unfinished.size;
  }

  /** Takes a connection in; it is begun or dropped later, or at once. */
  offer(arrival: Arrival): void {
    const line = this.#options.isPreferred(arrival.host) ? this.#preferred : this.#others;
    if (this.#closed || line.size >= WAITING_MAX) {
      arrival.drop();
      if (!this.#closed) this.#refuse();
      return;
    }
    line.push({ arrival, sinceMs: this.#options.clock.monotonic() });
    this.#serve();
  }

  /** The handshake has ended, well or not, or the connection was closed. */
  done(arrival: Arrival): void {
    const held = this.#unfinished.get(arrival);
    if (held === undefined) {
      if (!this.#preferred.remove(arrival)) this.#others.remove(arrival);
      return;
    }
    this.#unfinished.delete(arrival);
    held.timer.cancel();
    this.#leavePlace(held);
    this.#serve();
  }

  /** Drops all that wait and all whose handshake has not ended. */
  close(): void {
    this.#closed = true;
    this.#turn?.cancel();
    for (const line of [this.#preferred, this.#others]) {
      for (let next = line.shift(); next !== undefined; next = line.shift()) next.arrival.drop();
    }
    for (const [arrival, { timer }] of [...this.#unfinished]) {
      timer.cancel();
      arrival.drop();
    }
    this.#unfinished.clear();
  }

  #serve(): void {
    while (!this.#closed && this.#begun < HANDSHAKES_PER_TURN) {
      const arrival = this.#next();
      if (arrival === undefined) return;
      this.#begun++;
      this.#turn ??= this.#options.clock.after(TURN_MS, () => this.#nextTurn());
      arrival.begin();
    }
  }

  #nextTurn(): void {
    this.#turn = undefined;
    this.#begun = 0;
    this.#serve();
  }

  /** Takes the next one out of its line and gives it a place. */
  #next(): Arrival | undefined {
    return this.#take(this.#preferred, true) ?? this.#take(this.#others, false);
  }

  #take(line: WaitingLine, preferred: boolean): Arrival | undefined {
    const kind = preferred ? 'preferred' : 'others';
    if (this.#places[kind] >= HANDSHAKES_MAX || (!preferred && this.#unfinished.size >= UNFINISHED_MAX)) {
      return undefined;
    }
    const { clock } = this.#options;
    for (let next = line.shift(); next !== undefined; next = line.shift()) {
      const { arrival, sinceMs } = next;
      if (clock.monotonic() - sinceMs > WAITING_TIMEOUT_MS) {
        arrival.drop();
        this.#refuse();
        continue;
      }
      this.#places[kind]++;
      const held: Unfinished = { place: { preferred }, timer: this.#placeTimer(arrival) };
      this.#unfinished.set(arrival, held);
      return arrival;
    }
    return undefined;
  }

  #placeTimer(arrival: Arrival): Timer {
    return this.#options.clock.after(HANDSHAKE_PLACE_MS, () => {
      const held = this.#unfinished.get(arrival);
      if (held === undefined) return;
      held.timer = this.#options.clock.after(HANDSHAKE_TIMEOUT_MS - HANDSHAKE_PLACE_MS, () => {
        this.done(arrival);
        arrival.drop();
      });
      this.#leavePlace(held);
      this.#serve();
    });
  }

  #leavePlace(held: Unfinished): void {
    if (held.place === undefined) return;
    this.#places[held.place.preferred ? 'preferred' : 'others']--;
    held.place = undefined;
  }

  #refuse(): void {
    this.#refused++;
    const { clock, log } = this.#options;
    const nowMs = clock.monotonic();
    if (nowMs - this.#warnedMs < WARN_INTERVAL_MS) return;
    this.#warnedMs = nowMs;
    log.warn('more nodes connect than this manager can take at once; they try again after a pause', {
      refused: this.#refused,
      waiting: this.waiting,
      waitingMax: WAITING_MAX,
    });
    this.#refused = 0;
  }
}
