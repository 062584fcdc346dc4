import { unavailable, type Random } from '../../base/index.ts';
import type { SimNetwork, SimProcess, Scheduler } from '../../raft/sim/index.ts';

/** A connection that could not deliver for so long is given up by both sides, ms (keep-alive). */
const BREAK_AFTER_MS = 10_000;
/** Time until a lost segment is sent again, ms. */
const RESEND_MS = 200;

/** How connections between hosts behave now. */
export interface WireTemper {
  minMs: number;
  meanMs: number;
  /** Share of messages whose segment is lost: they, and all behind them, come RESEND_MS later at least. */
  lossShare: number;
  /** Share of messages that break their connection. */
  breakShare: number;
}

export const GOOD_WIRE: WireTemper = { minMs: 0.1, meanMs: 0.4, lossShare: 0, breakShare: 0 };

/** One side of a connection: a program on a host. */
export interface EndPoint {
  hostId: number;
  process: SimProcess;
  /** The connection is gone. Runs in the side's own process. */
  broken(error: Error): void;
}

/** Messages of one direction, in order, as a stream of TCP brings them. */
class Direction {
  readonly #wires: Wires;
  readonly #connection: Connection;
  readonly #from: EndPoint;
  readonly #to: EndPoint;
  #queue: (() => void)[] = [];
  #newestAt = 0;
  #stuckSince: number | undefined;

  constructor(wires: Wires, connection: Connection, from: EndPoint, to: EndPoint) {
    this.#wires = wires;
    this.#connection = connection;
    this.#from = from;
    this.#to = to;
  }

  send(work: () => void): void {
    const { scheduler } = this.#wires;
    this.#queue.push(work);
    const at = Math.max(this.#newestAt, scheduler.now + this.#wires.delayMs());
    this.#newestAt = at;
    scheduler.after(at - scheduler.now, () => this.#arrive());
  }

  /** The next message comes, or waits while the way is cut. */
  #arrive(): void {
    if (this.#connection.closed) return;
    const { scheduler, network } = this.#wires;
    if (network.isCut(this.#from.hostId, this.#to.hostId)) {
      this.#stuckSince ??= scheduler.now;
      if (scheduler.now - this.#stuckSince > BREAK_AFTER_MS) this.#connection.snap();
      else scheduler.after(RESEND_MS, () => this.#arrive());
      return;
    }
    this.#stuckSince = undefined;
    const work = this.#queue.shift();
    if (work === undefined) return;
    if (this.#wires.breaks()) return this.#connection.snap();
    if (!this.#to.process.run(work, this.#from.hostId)) this.#connection.reset(this.#to);
  }
}

/** A connection between programs of two hosts. */
export class Connection {
  readonly #wires: Wires;
  readonly #sides: readonly [EndPoint, EndPoint];
  readonly #there: Direction;
  readonly #back: Direction;
  #closed = false;

  constructor(wires: Wires, client: EndPoint, server: EndPoint) {
    this.#wires = wires;
    this.#sides = [client, server];
    this.#there = new Direction(wires, this, client, server);
    this.#back = new Direction(wires, this, server, client);
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** Work for the server's process. */
  toServer(work: () => void): void {
    if (!this.#closed) this.#there.send(work);
  }

  toClient(work: () => void): void {
    if (!this.#closed) this.#back.send(work);
  }

  /** It broke: both sides notice. */
  snap(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const side of this.#sides) side.process.run(() => side.broken(unavailable('the connection broke')));
  }

  /** One side is gone: the kernel of its host answers for it, where it can be reached. */
  reset(dead: EndPoint): void {
    if (this.#closed) return;
    const other = this.#sides[0] === dead ? this.#sides[1] : this.#sides[0];
    const { scheduler, network } = this.#wires;
    const tell = (): void => {
      if (this.#closed) return;
      if (!other.process.alive) this.#closed = true;
      else if (network.isCut(dead.hostId, other.hostId) || this.#wires.isOff(dead.hostId)) {
        scheduler.after(BREAK_AFTER_MS, tell);
      } else {
        this.#closed = true;
        other.process.run(() => other.broken(unavailable('the connection was reset')));
      }
    };
    scheduler.after(this.#wires.delayMs(), tell);
  }

  /** The client closes it; the server learns of it when it can be reached. */
  close(): void {
    if (this.#closed) return;
    const server = this.#sides[1];
    this.toServer(() => {
      this.#closed = true;
      server.broken(unavailable('the client closed the connection'));
    });
  }

  /** Whether one of the two is this program. */
  joins(process: SimProcess): EndPoint | undefined {
    return this.#sides.find((side) => side.process === process);
  }
}

/** All connections of the cluster but those of consensus, over the same cuts. */
export class Wires {
  temper: WireTemper = GOOD_WIRE;
  readonly counts = { connections: 0, broken: 0 };
  readonly scheduler: Scheduler;
  readonly network: SimNetwork;
  readonly #random: Random;
  readonly #off = new Set<number>();
  #connections: Connection[] = [];

  constructor(scheduler: Scheduler, network: SimNetwork, random: Random) {
    this.scheduler = scheduler;
    this.network = network;
    this.#random = random;
  }

  connect(client: EndPoint, server: EndPoint): Connection {
    this.counts.connections++;
    const connection = new Connection(this, client, server);
    this.#connections = this.#connections.filter((one) => !one.closed);
    this.#connections.push(connection);
    return connection;
  }

  /** A host without power answers nothing. */
  power(hostId: number, on: boolean): void {
    if (on) this.#off.delete(hostId);
    else this.#off.add(hostId);
  }

  isOff(hostId: number): boolean {
    return this.#off.has(hostId);
  }

  /** A program ended: its connections are reset, where its host still answers. */
  ended(process: SimProcess): void {
    for (const connection of this.#connections) {
      const side = connection.joins(process);
      if (side !== undefined) connection.reset(side);
    }
  }

  delayMs(): number {
    const { minMs, meanMs, lossShare } = this.temper;
    const ms = minMs - Math.log(1 - this.#random.float()) * meanMs;
    return lossShare > 0 && this.#random.float() < lossShare ? ms + RESEND_MS : ms;
  }

  breaks(): boolean {
    const breaks = this.temper.breakShare > 0 && this.#random.float() < this.temper.breakShare;
    if (breaks) this.counts.broken++;
    return breaks;
  }
}
