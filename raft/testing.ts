/** Test help: disks in memory that can be slow, stall and fail, and a network in memory, both on any clock. */
import { must, SeededRandom, silentLogger, VirtualClock, type Clock, type Timer } from '../base/index.ts';
import { RaftConfChange, RaftConfChangeType, RaftMember } from '../proto/index.ts';
import type { RaftMessage } from '../proto/index.ts';
import type { StartMode } from './bootstrap.ts';
import { RaftNode } from './node.ts';
import type { AppliedEntry, RaftNodeOptions, StateMachine } from './options.ts';
import type { RaftTransport, RaftTransportReports } from './transport/transport.ts';
import type { LogDisk, LogFile } from './wal/disk.ts';

function fileError(code: string, path: string): Error {
  return Object.assign(new Error(`${code}: ${path}`), { code });
}

type Done = (error: unknown) => void;

/** A disk in memory; everything written is durable. It outlives the member that uses it. */
export class MemoryDisk implements LogDisk {
  readonly files = new Map<string, Buffer>();
  /** How long a call with `done` takes, ms. */
  latencyMs: number;
  /** Calls with `done` made before this monotonic time are not done earlier. */
  stalledUntilMs = 0;
  /** Set to fail every change from now on with this code. */
  failWith: string | undefined;
  /** Changes done so far by calls with `done`. */
  writes = 0;
  readonly #clock: Clock;
  #directories = new Set<string>();

  constructor(clock: Clock, latencyMs = 0.1) {
    this.#clock = clock;
    this.latencyMs = latencyMs;
  }

  #content(path: string): Buffer {
    const content = this.files.get(path);
    if (content === undefined) throw fileError('ENOENT', path);
    return content;
  }

  #check(path: string): void {
    if (this.failWith !== undefined) throw fileError(this.failWith, path);
  }

  #later(run: () => void, done: Done): void {
    const delayMs = Math.max(this.latencyMs, this.stalledUntilMs - this.#clock.monotonic());
    this.#clock.after(delayMs, () => {
      let failure: unknown = null;
      try {
        run();
        this.writes++;
      } catch (error) {
        failure = error;
      }
      done(failure);
    });
  }

  makeDirectory(path: string): void {
    this.#directories.add(path);
  }
  list(path: string): string[] {
    const prefix = `${path}/`;
    return [...this.files.keys()]
      .filter((name) => name.startsWith(prefix))
      .map((name) => name.slice(prefix.length))
      .sort();
  }
  read(path: string): Buffer {
    return Buffer.from(this.#content(path));
  }
  readLater(path: string, done: (error: unknown, content: Buffer | null) => void): void {
    let content: Buffer | null = null;
    const read = (): void => {
      content = this.read(path);
    };
    this.#later(read, (error) => done(error, content));
  }
  replace(path: string, parts: readonly Uint8Array[]): void {
    this.#check(path);
    this.files.set(path, Buffer.concat(parts));
  }
  replaceLater(path: string, parts: readonly Uint8Array[], done: Done): void {
    this.#later(() => this.replace(path, parts), done);
  }
  allocate(path: string, bytes: number): void {
    this.#check(path);
    this.files.set(path, Buffer.alloc(bytes));
  }
  allocateLater(path: string, bytes: number, done: Done): void {
    this.#later(() => this.allocate(path, bytes), done);
  }
  rename(from: string, to: string): void {
    this.#check(from);
    const content = this.#content(from);
    this.files.delete(from);
    this.files.set(to, content);
  }
  renameLater(from: string, to: string, done: Done): void {
    this.#later(() => this.rename(from, to), done);
  }
  remove(path: string): void {
    this.files.delete(path);
  }
  open(path: string): LogFile {
    const target = this.#content(path);
    const write = (bytes: Uint8Array, position: number): void => {
      this.#check(path);
      target.set(bytes, position);
    };
    return {
      write,
      writeLater: (bytes, position, done) => this.#later(() => write(bytes, position), done),
      close: () => undefined,
    };
  }
}

/** Carries messages between members of one process. */
export class MemoryNetwork {
  /** How long a message is on its way, ms; 0 takes one turn of the clock's timers. */
  delayMs: number;
  /** Messages to drop. */
  lost: (message: RaftMessage) => boolean = () => false;
  readonly #clock: Clock;
  readonly #receivers = new Map<number, (message: RaftMessage) => void>();
  readonly #defer: ((run: () => void) => void) | undefined;

  /** @param defer how a message gets to its receiver, instead of by the clock. */
  constructor(clock: Clock, delayMs: number, defer?: (run: () => void) => void) {
    this.#clock = clock;
    this.delayMs = delayMs;
    this.#defer = defer;
  }

  attach(id: number, receive: (message: RaftMessage) => void): void {
    this.#receivers.set(id, receive);
  }

  transport(): RaftTransport {
    let reports: RaftTransportReports | undefined;
    return {
      attach: (given) => {
        reports = given;
      },
      send: (messages) => {
        for (const message of messages) {
          if (this.lost(message)) continue;
          const deliver = (): void => {
            this.#receivers.get(message.to)?.(message);
            if (message.snapshot !== null) reports?.snapshot(message.to, true);
          };
          if (this.#defer === undefined) this.#clock.after(this.delayMs, deliver);
          else this.#defer(deliver);
        }
      },
      addPeer: () => undefined,
      updatePeer: () => undefined,
      removePeer: () => undefined,
      stop: () => Promise.resolve(),
    };
  }
}

/** Keeps every entry, and the members that it was told of. */
export class ListMachine implements StateMachine {
  values: string[] = [];
  members = new Map<number, string>();
  restored = 0;
  onMember: (id: number, address: string | undefined) => void;

  constructor(onMember: (id: number, address: string | undefined) => void = () => undefined) {
    this.onMember = onMember;
  }
  apply(entries: readonly AppliedEntry[]): void {
    for (const entry of entries) {
      const value = Buffer.from(entry.data).toString();
      // A write that is tried again after a lost lead may be in the log twice.
      if (!this.values.includes(value)) this.values.push(value);
    }
  }
  applyConfChange(change: RaftConfChange): void {
    if (change.type === RaftConfChangeType.ConfChangeRemoveNode) {
      this.members.delete(change.node_id);
      this.onMember(change.node_id, undefined);
    } else {
      this.#setMember(change.node_id, RaftMember.decode(change.context).addr);
    }
  }
  #setMember(id: number, address: string): void {
    this.members.set(id, address);
    this.onMember(id, address);
  }
  snapshot(): Uint8Array {
    return Buffer.from(JSON.stringify({ values: this.values, members: [...this.members] }));
  }
  restore(data: Uint8Array): void {
    const state = JSON.parse(Buffer.from(data).toString()) as { values: string[]; members: [number, string][] };
    this.values = state.values;
    this.restored++;
    for (const [id, address] of state.members) this.#setMember(id, address);
  }
}

/** The clock of one process that can be stopped and continued, as by SIGSTOP. Time goes on meanwhile. */
export class PausableClock implements Clock {
  readonly #clock: Clock;
  #paused = false;
  #timers: (() => void)[] = [];
  #arrived: (() => void)[] = [];

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  now(): number {
    return this.#clock.now();
  }
  monotonic(): number {
    return this.#clock.monotonic();
  }
  after(delayMs: number, run: () => void): Timer {
    let cancelled = false;
    const fire = (): void => {
      if (!cancelled) run();
    };
    const timer = this.#clock.after(delayMs, () => {
      if (this.#paused) this.#timers.push(fire);
      else fire();
    });
    return {
      cancel: () => {
        cancelled = true;
        timer.cancel();
      },
    };
  }
  sleep(delayMs: number): Promise<void> {
    return new Promise((resolve) => {
      this.after(delayMs, resolve);
    });
  }

  /** Something arrives from outside; it waits in a socket while the process is stopped. */
  arrive(run: () => void): void {
    if (this.#paused) this.#arrived.push(run);
    else run();
  }

  pause(): void {
    this.#paused = true;
  }

  /** As an event loop: due timers run first, and only then what waits in the sockets. */
  resume(): void {
    this.#paused = false;
    for (const run of this.#timers.splice(0)) run();
    for (const run of this.#arrived.splice(0)) this.#clock.after(0, run);
  }
}

/** One member on a virtual clock, with its own disk. */
export interface TestMember {
  readonly id: number;
  readonly disk: MemoryDisk;
  readonly clock: PausableClock;
  machine: ListMachine;
  node: RaftNode | undefined;
  fatal: unknown[];
  removed: number;
}

/** A group of members on one virtual clock. */
export class TestGroup {
  readonly clock = new VirtualClock(1_000);
  readonly network = new MemoryNetwork(this.clock, 1);
  readonly members = new Map<number, TestMember>();
  readonly #overrides: Partial<RaftNodeOptions>;

  constructor(overrides: Partial<RaftNodeOptions> = {}) {
    this.#overrides = overrides;
  }

  add(id: number): TestMember {
    const clock = new PausableClock(this.clock);
    const member: TestMember = {
      ...{ id, clock, disk: new MemoryDisk(clock), machine: new ListMachine() },
      ...{ node: undefined, fatal: [], removed: 0 },
    };
    this.members.set(id, member);
    this.network.attach(id, (message) => clock.arrive(() => member.node?.step(message)));
    return member;
  }

  options(member: TestMember): RaftNodeOptions {
    const { clock, disk } = member;
    return {
      ...{ id: member.id, dir: '', clock, disk, random: new SeededRandom(member.id), log: silentLogger },
      transport: this.network.transport(),
      stateMachine: member.machine,
      schedule: (run) => void clock.after(0, run),
      onFatal: (error) => {
        member.fatal.push(error);
        member.node = undefined;
      },
      onRemoved: () => {
        member.removed++;
      },
      ...this.#overrides,
    };
  }

  async start(member: TestMember, how: StartMode, overrides: Partial<RaftNodeOptions> = {}): Promise<RaftNode> {
    member.machine = new ListMachine();
    const started = RaftNode.start({ ...this.options(member), ...overrides }, how);
    const node = await this.settled(started);
    member.node = node;
    return node;
  }

  /** What a promise comes to, while time passes; for at most 60 virtual seconds. */
  async settled<T>(promise: Promise<T>): Promise<T> {
    let isDone = false;
    const done = (): void => {
      isDone = true;
    };
    promise.then(done, done);
    for (let i = 0; i < 60_000 && !isDone; i++) await this.clock.advanceAsync(1);
    if (!isDone) throw new Error('the promise was not settled within 60 s of virtual time');
    return await promise;
  }

  async until(what: string, test: () => boolean, limitMs = 30_000): Promise<void> {
    for (let i = 0; i < limitMs && !test(); i++) await this.clock.advanceAsync(1);
    if (!test()) throw new Error(`not within ${limitMs} ms of virtual time: ${what}`);
  }

  /** A group whose first member leads and all of whose members vote. */
  async boot(ids: readonly number[]): Promise<TestMember[]> {
    const members = ids.map((id) => this.add(id));
    for (const [i, member] of members.entries()) {
      const self = memberOf(member.id);
      if (i === 0) {
        await this.start(member, { kind: 'bootstrap', member: self });
        await this.until('the first leads', () => this.leader() === member);
        continue;
      }
      await this.start(member, { kind: 'join' });
      const change = {
        type: RaftConfChangeType.ConfChangeAddNode,
        node_id: member.id,
        context: RaftMember.encode(self),
      };
      const leading = must(this.leader()?.node, 'leading member');
      await this.settled(leading.proposeConfChange(RaftConfChange.create(change)));
      await this.until('it votes', () => member.node?.status().voters.includes(member.id) === true);
    }
    return members;
  }

  leader(): TestMember | undefined {
    let best: TestMember | undefined;
    for (const member of this.members.values()) {
      const status = member.node?.status();
      if (status?.role === 'leader' && status.term >= (best?.node?.status().term ?? 0)) best = member;
    }
    return best;
  }

  async stop(): Promise<void> {
    for (const member of this.members.values()) {
      member.clock.resume();
      const stopping = member.node?.stop();
      member.node = undefined;
      if (stopping !== undefined) await this.settled(stopping);
    }
  }
}

export function memberOf(id: number): RaftMember {
  return RaftMember.create({ raft_id: id, node_id: `node${id}`, addr: `host${id}:1` });
}
