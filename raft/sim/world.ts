import { isShoalError, must, SeededRandom, silentLogger, VirtualClock } from '../../base/index.ts';
import { RaftConfChange, RaftMember } from '../../proto/index.ts';
import type { RaftConfChangeType } from '../../proto/index.ts';
import { RaftNode } from '../node.ts';
import { Checkers } from './checkers.ts';
import { SimulatedCrash, VirtualDisk } from './disk.ts';
import { encodeCommand, ModelMachine } from './model.ts';
import { VirtualNetwork } from './network.ts';

/** Errors that a client may meet while faults happen. */
const EXPECTED = ['Unavailable', 'FailedPrecondition', 'ResourceExhausted'] as const;

/** One member: its disk outlives its process. */
export interface Member {
  id: number;
  disk: VirtualDisk;
  node: RaftNode | undefined;
  machine: ModelMachine | undefined;
  /** How the first start goes. */
  bootstrap: boolean;
  starting: boolean;
  statuses: { drain(): { role: string }[] } | undefined;
}

/** A whole group on virtual time, network and disks, around the production driver and core. */
export class World {
  readonly clock = new VirtualClock();
  readonly random: SeededRandom;
  readonly checkers = new Checkers();
  readonly network: VirtualNetwork;
  readonly members = new Map<number, Member>();
  readonly counts = { crashes: 0, restarts: 0, proposals: 0, reads: 0, transfers: 0, confChanges: 0 };
  #failure: unknown;
  #nextWrite = 1;
  #nextId = 1;

  constructor(seed: number) {
    this.random = new SeededRandom(seed);
    this.network = new VirtualNetwork(this.clock, this.random, (message) => {
      this.guard(() => this.members.get(message.to)?.node?.step(message));
    });
  }

  /** Keeps the first failure; the run ends with it. */
  fail(error: unknown): void {
    this.#failure ??= error;
  }

  guard(run: () => void): void {
    try {
      run();
    } catch (error) {
      this.fail(error);
    }
  }

  addMember(bootstrap: boolean): Member {
    const id = this.#nextId++;
    const disk = new VirtualDisk((entry, previousTerm) => this.checkers.written(entry, previousTerm));
    const rest = { node: undefined, machine: undefined, starting: false, statuses: undefined };
    const member: Member = { id, disk, bootstrap, ...rest };
    this.members.set(id, member);
    return member;
  }

  start(member: Member): void {
    if (member.node !== undefined || member.starting) return;
    member.starting = true;
    this.counts.restarts++;
    let started: RaftNode | undefined;
    const machine = new ModelMachine(member.id, this.checkers, () => started?.core.term ?? Number.MAX_SAFE_INTEGER);
    const first = member.bootstrap && member.disk.empty;
    const how = first
      ? { kind: 'bootstrap' as const, member: RaftMember.create({ raft_id: member.id }) }
      : { kind: 'restart' as const };
    const options = {
      id: member.id,
      dir: '',
      clock: this.clock,
      random: this.random,
      log: silentLogger,
      transport: this.network.transport(),
      stateMachine: machine,
      snapshotEntries: 40,
      keepEntries: 10,
      schedule: (run: () => void) => void this.clock.after(0, run),
      openStorage: () => member.disk.open(),
      onFatal: (error: unknown) => this.#onFatal(member, error),
    };
    RaftNode.start(options, how).then(
      (node) => {
        started = node;
        member.starting = false;
        member.node = node;
        member.machine = machine;
        member.statuses = node.changes.subscribe();
      },
      (error: unknown) => {
        member.starting = false;
        if (!(error instanceof SimulatedCrash)) this.fail(error);
      },
    );
  }

  #onFatal(member: Member, error: unknown): void {
    if (error instanceof SimulatedCrash) {
      this.counts.crashes++;
      this.#forget(member);
    } else {
      this.fail(error);
    }
  }

  #forget(member: Member): void {
    member.node = undefined;
    member.machine = undefined;
    member.statuses = undefined;
  }

  /** Takes the power away: what was not synced is lost. */
  kill(member: Member): void {
    const { node } = member;
    if (node === undefined) return;
    this.counts.crashes++;
    this.#forget(member);
    node.stop().catch((error: unknown) => this.fail(error));
  }

  live(): Member[] {
    return [...this.members.values()].filter((member) => member.node !== undefined);
  }

  leader(): Member | undefined {
    let best: Member | undefined;
    for (const member of this.live()) {
      const core = must(member.node, 'node').core;
      if (core.role === 'leader' && (best === undefined || core.term > must(best.node, 'node').core.term))
        best = member;
    }
    return best;
  }

  /** One client's write at one member; the checkers hear of the answer. */
  propose(member: Member, onAcknowledged?: () => void): void {
    if (member.node === undefined) return;
    const id = this.#nextWrite++;
    this.counts.proposals++;
    member.node.propose(encodeCommand(id, this.random.int(200))).then(
      (index) => {
        this.guard(() => this.checkers.acknowledge(id, index));
        onAcknowledged?.();
      },
      (error: unknown) => this.#expected(error),
    );
  }

  read(member: Member): void {
    const { node } = member;
    if (node === undefined) return;
    const before = this.checkers.maxAcknowledged;
    node.readIndex().then(
      (index) => {
        this.counts.reads++;
        this.guard(() => this.checkers.read(before, index, node.core.applied));
      },
      (error: unknown) => this.#expected(error),
    );
  }

  transfer(): void {
    const node = this.leader()?.node;
    node?.transferLeadership().then(
      () => {
        this.counts.transfers++;
      },
      (error: unknown) => this.#expected(error),
    );
  }

  changeMembership(type: RaftConfChangeType, id: number): void {
    const node = this.leader()?.node;
    node?.proposeConfChange(RaftConfChange.create({ type, node_id: id })).then(
      () => {
        this.counts.confChanges++;
      },
      (error: unknown) => this.#expected(error),
    );
  }

  #expected(error: unknown): void {
    if (!isShoalError(error, ...EXPECTED)) this.fail(error);
  }

  /** Runs until `endMs` of virtual time, or until `done`. @throws the first failure. */
  async run(endMs: number, done: () => boolean = () => false): Promise<void> {
    while (this.clock.now() < endMs && !done()) {
      const next = Math.min(endMs, this.clock.nextTimerAt() ?? endMs);
      this.guard(() => this.clock.advance(next - this.clock.now()));
      // Promises settled by this event run before time goes on: no wall clock, hence repeatable.
      for (let i = 0; i < 3; i++) await Promise.resolve();
      this.guard(() => this.#observe());
      if (this.#failure !== undefined) throw this.#failure;
    }
  }

  #observe(): void {
    for (const member of this.live()) {
      const { node, statuses } = member;
      if (statuses === undefined || node === undefined || statuses.drain().length === 0) continue;
      if (node.core.role === 'leader') this.checkers.leads(node.core);
    }
  }
}
