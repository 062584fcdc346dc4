import { assert, isShoalError, must, SeededRandom, silentLogger, type Logger } from '../../base/index.ts';
import { RaftMember } from '../../proto/index.ts';
import { membersOf, type Membership } from '../core/conf-change.ts';
import { RaftNode } from '../node.ts';
import type { RaftNodeOptions } from '../options.ts';
import { holdsWal } from '../wal/wal.ts';
import { DiskAccount } from './account.ts';
import { Checkers, CoreWatch, Violation } from './checkers.ts';
import { SimDisk, SimulatedCrash, type DamagedPart, type DamageKind } from './disk.ts';
import { DiskHandle } from './disk-handle.ts';
import { Journal } from './journal.ts';
import { SimKeys } from './keys.ts';
import { Member, type Run } from './member.ts';
import { ModelMachine, type MachineFactory } from './model.ts';
import { SimNetwork } from './network.ts';
import { SimProcess } from './process.ts';
import { profileOf, type Profile } from './profile.ts';
import { Scheduler } from './scheduler.ts';

export interface WorldOptions {
  seed: number;
  /** Changes the profile that the seed gives; for tests. */
  profile?: Partial<Profile>;
  machine?: MachineFactory;
  log?: Logger;
}

/** Errors of the file system that a disk may have in a simulation. */
const DISK_ERRORS: ReadonlySet<unknown> = new Set(['EIO', 'ENOSPC']);
/** How far clocks may be off for a lease to hold: core/lease.ts allows ten percent between two. */
const LEASE_DRIFT_MAX = 0.04;
/** Time until a start that failed for want of a disk is tried again, ms. */
const START_RETRY_MS = 2000;

function isDiskError(error: unknown): boolean {
  for (let at: unknown = error, depth = 0; at instanceof Error && depth < 4; at = at.cause, depth++) {
    if (DISK_ERRORS.has((at as NodeJS.ErrnoException).code)) return true;
  }
  return false;
}

function isCrash(error: unknown): boolean {
  for (let at: unknown = error, depth = 0; at instanceof Error && depth < 4; at = at.cause, depth++) {
    if (at instanceof SimulatedCrash) return true;
  }
  return false;
}

/** A whole group on virtual time, network and disks, around the production driver, core and log. */
export class World {
  readonly scheduler = new Scheduler();
  readonly random: SeededRandom;
  readonly profile: Profile;
  readonly checkers = new Checkers();
  readonly network: SimNetwork;
  readonly members = new Map<number, Member>();
  readonly account = new DiskAccount(this.members);
  readonly journal: Journal;
  /** A member was found to lead a new term. */
  onElected: ((member: Member) => void) | null = null;
  readonly #options: WorldOptions;
  readonly #keys: SimKeys | undefined;
  #failure: unknown;
  #nextId = 1;

  constructor(options: WorldOptions) {
    this.#options = options;
    const root = new SeededRandom(options.seed);
    this.profile = { ...profileOf(new SeededRandom(root.uint32())), ...options.profile };
    this.random = new SeededRandom(root.uint32());
    this.journal = new Journal(this.scheduler);
    this.#keys = this.profile.sealed ? new SimKeys(this.random) : undefined;
    this.network = new SimNetwork(this.scheduler, new SeededRandom(root.uint32()), (message) => {
      const run = this.members.get(message.to)?.run;
      const receive = (): void => {
        run?.node?.step(message);
        run?.node?.pulse();
      };
      run?.process.run(receive, message.from);
    });
    this.network.temper = this.profile.links;
    this.network.encodes = this.profile.encodes;
  }

  get now(): number {
    return this.scheduler.now;
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

  /** A change of the keys that the logs are sealed with. */
  rotateKeys(): void {
    this.#keys?.rotate();
  }

  /** Clocks run together closely enough for reads by the lease. */
  get leaseReads(): boolean {
    return this.profile.drift <= LEASE_DRIFT_MAX;
  }

  get sealed(): boolean {
    return this.#keys !== undefined;
  }

  addMember(first: boolean): Member {
    const id = this.#nextId++;
    const random = new SeededRandom(this.random.uint32());
    const disk = new SimDisk(this.scheduler, new SeededRandom(this.random.uint32()));
    disk.temper = this.profile.disk;
    const rate = 1 + (this.random.float() * 2 - 1) * Math.min(0.5, this.profile.drift);
    const member = new Member(id, disk, random, first, rate);
    this.members.set(id, member);
    return member;
  }

  /** Starts the program of a member, unless it runs or may not. */
  start(member: Member): void {
    if (member.run !== undefined || member.retired || member.health === 'dead') return;
    assert(member.startAt <= this.now, 'a member is started when its time has come');
    const process = new SimProcess(
      {
        scheduler: this.scheduler,
        random: member.random,
        turnMs: this.profile.turnMs,
        after: () => this.#observe(member, run),
        fail: (error) => this.#threw(member, run, error),
      },
      member.rate,
    );
    const make = this.#options.machine ?? ((reports) => new ModelMachine(reports, this.profile.snapshotFillerBytes));
    const machine = make({
      applied: (index, _term, value, hash) => this.checkers.applied(member.id, index, value, hash),
      restored: (index, hash) => this.checkers.restored(member.id, index, hash),
    });
    const run: Run = { process, node: undefined, machine, watch: undefined, membership: undefined };
    member.run = run;
    this.journal.count('start');
    process.run(() => this.#launch(member, run));
  }

  #launch(member: Member, run: Run): void {
    const disk = new DiskHandle(member.disk, run.process);
    const fresh = !holdsWal(disk);
    const first = { kind: 'bootstrap' as const, member: RaftMember.create({ raft_id: member.id }) };
    const how = !fresh ? { kind: 'restart' as const } : member.first ? first : { kind: 'join' as const };
    RaftNode.start(this.#nodeOptions(member, run, disk), how).then(
      (node) => {
        if (!run.process.alive) return;
        run.node = node;
        run.watch = new CoreWatch(this.checkers, node.core);
        this.guard(() => this.#started(member, node));
      },
      (error: unknown) => this.#startFailed(member, run, error),
    );
  }

  #nodeOptions(member: Member, run: Run, disk: DiskHandle): RaftNodeOptions {
    const { profile } = this;
    return {
      id: member.id,
      dir: `member-${member.id}`,
      clock: run.process,
      random: member.random,
      log: this.#options.log?.with({ member: member.id }) ?? silentLogger,
      transport: this.network.transport(run.process),
      stateMachine: run.machine,
      tickMs: profile.tickMs,
      electionTicks: profile.electionTicks,
      heartbeatTicks: profile.heartbeatTicks,
      snapshotEntries: profile.snapshotEntries,
      keepEntries: profile.keepEntries,
      maxAppendBytes: profile.maxAppendBytes,
      maxInflightMessages: profile.maxInflightMessages,
      segmentBytes: profile.segmentBytes,
      knownMembers: profile.voters,
      disk,
      ...(this.#keys === undefined ? {} : { keys: this.#keys.ringOf(member.id) }),
      schedule: (work) => run.process.defer(work),
      onFatal: (error) => this.#fatal(member, run, error),
    };
  }

  #started(member: Member, node: RaftNode): void {
    const reason = node.core.repairReason;
    this.journal.note(`member ${member.id} runs: term ${node.core.term}, log to ${node.core.lastIndex}`);
    if (reason !== null) {
      this.journal.count('repair');
      this.journal.note(`member ${member.id} is in repair: ${reason}`);
      if (member.health === 'sound') {
        throw new Violation(`member ${member.id} repairs a log whose disk is sound: ${reason}`);
      }
    }
  }

  /** Something escaped from the program. */
  #threw(member: Member, run: Run, error: unknown): void {
    if (!isCrash(error)) this.fail(error);
    else if (member.run === run) this.powerCut(member);
  }

  #startFailed(member: Member, run: Run, error: unknown): void {
    if (isCrash(error) || !run.process.alive) {
      if (member.run === run) this.powerCut(member);
      return;
    }
    this.#ended(member, run, error);
  }

  #fatal(member: Member, run: Run, error: unknown): void {
    if (isCrash(error) && member.run === run) this.powerCut(member);
    if (!run.process.alive || isCrash(error)) return;
    this.#ended(member, run, error);
  }

  /** The program gave up by itself. */
  #ended(member: Member, run: Run, error: unknown): void {
    if (member.run === run) {
      run.process.kill();
      member.disk.kill();
      member.run = undefined;
      member.startAt = this.now + START_RETRY_MS;
    }
    const text = error instanceof Error ? error.message : String(error);
    this.journal.note(`member ${member.id} stopped: ${text}`);
    if (isDiskError(error)) return;
    if (isShoalError(error, 'DataLoss') && member.health !== 'sound') {
      this.journal.count('refused to start');
      this.bury(member);
      return;
    }
    this.fail(error);
  }

  /** Nothing can be done with this disk: the operator will take the member away. */
  bury(member: Member): void {
    this.journal.note(`member ${member.id}: its disk is dead`);
    member.health = 'dead';
  }

  /** The program ends at once (SIGKILL); what it wrote is in the cache of the kernel. */
  kill(member: Member): boolean {
    if (member.run === undefined) return false;
    this.#forget(member);
    member.disk.kill();
    return true;
  }

  /** The power fails: what was not synced may be lost. */
  powerCut(member: Member): void {
    this.#forget(member);
    const may = member.health !== 'sound' || this.account.mayDamage(member);
    const loss = member.disk.powerCut(may);
    if (loss === 'none') return;
    this.journal.count('lost a lying sync');
    this.journal.note(`member ${member.id} lost synced data (${loss})`);
    if (loss === 'silent') this.bury(member);
    else if (member.health === 'sound') member.health = 'damaged';
  }

  #forget(member: Member): void {
    member.run?.process.kill();
    member.run = undefined;
    member.startAt = Math.max(member.startAt, this.now - Math.log(1 - this.random.float()) * this.profile.restartMs);
  }

  /** It is no member any more and its program is not needed. */
  retire(member: Member): void {
    this.kill(member);
    member.retired = true;
    member.disk.wipe();
    this.members.delete(member.id);
    this.journal.note(`member ${member.id} is retired`);
  }

  /** Changes bytes of a member's disk, the newest if so asked, if the others can bear it. */
  damage(member: Member, what: DamagedPart, how: DamageKind, newest = false): boolean {
    if (!this.account.mayDamage(member)) return false;
    const done = member.disk.damage(what, how, newest);
    if (done === undefined) return false;
    if (member.health === 'sound') member.health = 'damaged';
    if (member.run !== undefined) member.damagedRun = member.run;
    this.journal.note(`member ${member.id} damaged: ${done.text}`);
    return true;
  }

  #observe(member: Member, run: Run): void {
    if (run.watch === undefined || !run.process.alive) return;
    const { core } = must(run.node, 'a node that runs');
    if (run.watch.look()) {
      this.journal.note(`member ${member.id} leads term ${core.term}, log to ${core.lastIndex}`);
      this.onElected?.(member);
    }
    if (core.membership !== run.membership) {
      this.#noteMembers(run.membership, core.membership);
      run.membership = core.membership;
      member.membership = core.membership;
      const { voters, learners, outgoing } = core.membership;
      const old = outgoing.size === 0 ? '' : `, old voters ${[...outgoing].join()}`;
      this.journal.note(`member ${member.id} has voters ${[...voters].join()}, learners ${[...learners].join()}${old}`);
    }
    if (member.health === 'damaged' && core.repairReason === null && member.damagedRun !== run) this.#healed(member);
  }

  /** Within one run a log goes forward: who was a member and is none any more was removed for good. */
  #noteMembers(before: Membership | undefined, after: Membership): void {
    const members = new Set(membersOf(after));
    for (const id of members) {
      const known = this.members.get(id);
      if (known !== undefined) known.joined = true;
    }
    if (before === undefined) return;
    for (const id of membersOf(before)) {
      const known = this.members.get(id);
      if (!members.has(id) && known !== undefined) known.removed = true;
    }
  }

  #healed(member: Member): void {
    member.health = 'sound';
    member.damagedRun = undefined;
    this.journal.note(`member ${member.id} is whole again`);
  }

  /** Members whose program has started. */
  up(): Member[] {
    return [...this.members.values()].filter((member) => member.up);
  }

  /** Who leads the highest term, as far as the members know. */
  leader(): Member | undefined {
    let best: Member | undefined;
    let bestTerm = 0;
    for (const member of this.members.values()) {
      const core = member.node?.core;
      if (core === undefined || core.role !== 'leader' || core.term <= bestTerm) continue;
      best = member;
      bestTerm = core.term;
    }
    return best;
  }

  /** Runs until `endMs` of virtual time, or until `done`. @throws the first failure. */
  async run(endMs: number, done: () => boolean = () => false): Promise<void> {
    await this.scheduler.run(endMs, () => this.#failure !== undefined || done());
    if (this.#failure !== undefined) throw this.#failure;
  }
}
