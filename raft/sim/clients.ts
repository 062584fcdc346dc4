import { isShoalError, type Random } from '../../base/index.ts';
import { Violation } from './checkers.ts';
import { checkKey, type Operation } from './linear.ts';
import type { Member, Run } from './member.ts';
import { CLIENT } from './process.ts';
import type { World } from './world.ts';

/** Errors that a client may meet while faults happen. */
const EXPECTED = ['Unavailable', 'FailedPrecondition', 'ResourceExhausted'] as const;
/** A client gives up waiting after this time; its operation may still happen, ms. */
const PATIENCE_MS = 5000;
/** Operations of one burst at the most. */
const BURST_MAX = 150;

interface Client {
  waitsFor: Operation | undefined;
  since: number;
}

/** Clients that read and write registers, and what they were told: the history that must be explained. */
export class Clients {
  readonly history = new Map<number, Operation[]>();
  /** Nobody asks for anything. */
  idle = false;
  /** Reads go to this member. */
  pinned: Member | undefined;
  readonly counts = { puts: 0, cas: 0, gets: 0, answered: 0 };
  readonly #world: World;
  readonly #random: Random;
  readonly #clients: Client[] = [];
  #nextValue = 1;

  constructor(world: World, random: Random) {
    this.#world = world;
    this.#random = random;
    for (let i = 0; i < world.profile.clients; i++) {
      const client: Client = { waitsFor: undefined, since: 0 };
      this.#clients.push(client);
      this.#next(client);
    }
  }

  #next(client: Client): void {
    const { thinkMs } = this.#world.profile;
    const ms = -Math.log(1 - this.#random.float()) * thinkMs;
    this.#world.scheduler.after(ms, () => {
      this.#act(client);
      this.#next(client);
    });
  }

  #act(client: Client): void {
    const { now } = this.#world;
    if (client.waitsFor !== undefined && now - client.since < PATIENCE_MS) return;
    client.waitsFor = undefined;
    if (this.idle) return;
    client.since = now;
    client.waitsFor = this.#operate();
  }

  /** Many operations at once. */
  burst(): void {
    for (let i = this.#random.int(BURST_MAX); i >= 0; i--) this.#operate();
  }

  /** Mostly whom the clients take for the leader, sometimes anybody. */
  #target(reads: boolean): Member | undefined {
    if (reads && this.pinned?.up === true && this.#random.int(4) > 0) return this.pinned;
    if (this.#random.int(10) < 7) return this.#world.leader();
    const up = this.#world.up();
    return up[this.#random.int(Math.max(1, up.length))];
  }

  #operate(): Operation | undefined {
    const random = this.#random;
    const { profile } = this.#world;
    const key = random.int(profile.keys);
    const reads = random.float() < profile.readShare;
    const run = this.#target(reads)?.run;
    if (run?.node === undefined) return undefined;
    if (reads) return this.#get(run, key, this.#world.leaseReads && random.int(2) === 0);
    return this.write(run, key);
  }

  #begin(kind: Operation['kind'], key: number, value: number, expected: number): Operation {
    const operation: Operation = {
      kind,
      value,
      expected,
      found: -1,
      outcome: 'unknown',
      start: this.#world.now,
      end: Number.POSITIVE_INFINITY,
      hint: 0,
    };
    let known = this.history.get(key);
    if (known === undefined) {
      known = [];
      this.history.set(key, known);
    }
    known.push(operation);
    return operation;
  }

  #answered(operation: Operation, found: number): void {
    operation.outcome = 'ok';
    operation.found = found;
    operation.end = this.#world.now;
    this.counts.answered++;
    this.#free(operation);
    this.#world.scheduler.note(found + 2 * operation.value);
  }

  /** Whoever waits for this operation may go on. */
  #free(operation: Operation): void {
    const client = this.#clients.find((one) => one.waitsFor === operation);
    if (client !== undefined) client.waitsFor = undefined;
  }

  /** A read by the way of one member, by its lease if clocks permit it. Nobody waits for it. */
  read(run: Run, key: number): void {
    if (run.node !== undefined) this.#get(run, key, this.#world.leaseReads && this.#random.int(4) > 0);
  }

  #get(run: Run, key: number, lease: boolean): Operation {
    this.counts.gets++;
    const operation = this.#begin('get', key, 0, 0);
    run.process.run(() => {
      const { node } = run;
      const answer = lease ? node?.readLease() : node?.readIndex();
      answer?.then(
        () => this.#answered(operation, run.machine.get(key)),
        (error: unknown) => this.#refused(operation, error),
      );
    }, CLIENT);
    return operation;
  }

  /** A write at one member. */
  write(run: Run, key: number, onAcknowledged?: () => void): Operation {
    const random = this.#random;
    const value = this.#nextValue++;
    const kind = run.machine.conditional || random.int(4) === 0 ? 'cas' : 'put';
    const expected = kind === 'cas' ? run.machine.get(key) : 0;
    if (kind === 'cas') this.counts.cas++;
    else this.counts.puts++;
    const operation = this.#begin(kind, key, value, expected);
    const data = run.machine.encode({ kind, key, value, expected }, random.int(this.#world.profile.fillerBytes + 1));
    run.process.run(() => {
      run.node?.propose(data).then(
        (index) =>
          this.#world.guard(() => {
            this.#world.checkers.acknowledge(value, index);
            const found = kind === 'put' ? 0 : run.machine.foundAt(index);
            if (found !== undefined) this.#answered(operation, found);
            onAcknowledged?.();
          }),
        (error: unknown) => this.#refused(operation, error),
      );
    }, CLIENT);
    return operation;
  }

  #refused(operation: Operation, error: unknown): void {
    this.#free(operation);
    if (!isShoalError(error, ...EXPECTED)) this.#world.fail(error);
  }

  /** Is there one order of all operations that explains every answer? @throws Violation */
  check(): void {
    const { checkers } = this.#world;
    for (const [key, operations] of this.history) {
      for (const operation of operations) {
        operation.hint =
          (operation.value === 0 ? undefined : checkers.indexOf(operation.value)) ?? Number.MAX_SAFE_INTEGER;
      }
      const verdict = checkKey(operations);
      if (verdict.ok) continue;
      const why = verdict.undecided ? 'the search was given up' : 'no order explains all answers';
      const stuck = verdict.stuck.map(describe).join('\n  ');
      throw new Violation(
        `linearizability of register ${key}: ${why}; after ${verdict.explained} operations:\n  ${stuck}`,
      );
    }
  }
}

function describe(op: Operation): string {
  const end = op.end === Number.POSITIVE_INFINITY ? '…' : (op.end / 1000).toFixed(4);
  const what =
    op.kind === 'get'
      ? `get found ${op.found}`
      : op.kind === 'put'
        ? `put ${op.value}`
        : `cas ${op.expected} to ${op.value}, found ${op.found}`;
  return `${(op.start / 1000).toFixed(4)}–${end} s ${what}`;
}
