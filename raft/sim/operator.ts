import { isShoalError, type Random } from '../../base/index.ts';
import { RaftConfChange, RaftConfChangeType } from '../../proto/index.ts';
import type { Membership } from '../core/index.ts';
import { majority } from '../core/quorum.ts';
import type { PendingVoters } from './account.ts';
import type { Member } from './member.ts';
import type { World } from './world.ts';

const WATCH_MS = 100;
const OPERATE_MS = 400;
/** A removed member's program runs on for this time at the most, ms. */
const ZOMBIE_MS = 15_000;
/** Entries that a learner may be behind when it becomes a voter. */
const BEHIND_MAX = 20;

interface Pending extends PendingVoters {
  /** Decided once this index is applied anywhere. */
  index: number;
}

const EXPECTED = ['Unavailable', 'FailedPrecondition', 'ResourceExhausted'] as const;

/** Changes of membership as they are asked for: member id and what it becomes. */
export interface Change {
  id: number;
  to: 'voter' | 'learner' | 'gone';
}

const TYPES = {
  voter: RaftConfChangeType.ConfChangeAddNode,
  learner: RaftConfChangeType.ConfChangeAddLearnerNode,
  gone: RaftConfChangeType.ConfChangeRemoveNode,
} as const;

/** Keeps the group whole as people and supervisors do: starts programs again, replaces dead disks, adds and removes. */
export class Operator {
  /** Changes nothing of the membership. */
  rests = false;
  readonly #world: World;
  readonly #random: Random;
  readonly #removedAt = new Map<number, number>();
  #pending: Pending[] = [];

  constructor(world: World, random: Random) {
    this.#world = world;
    this.#random = random;
    this.#every(WATCH_MS, () => this.#watch());
    this.#every(OPERATE_MS, () => this.#operate());
  }

  #every(ms: number, run: () => void): void {
    this.#world.scheduler.after(ms, () => {
      this.#world.guard(run);
      this.#every(ms, run);
    });
  }

  #watch(): void {
    const world = this.#world;
    for (const member of world.members.values()) {
      if (member.run === undefined && member.startAt <= world.now) world.start(member);
    }
    this.#settlePending();
  }

  /** Starts everything that may run, now. */
  startAll(): void {
    for (const member of this.#world.members.values()) {
      member.startAt = Math.min(member.startAt, this.#world.now);
      if (member.run === undefined) this.#world.start(member);
    }
  }

  #settlePending(): void {
    if (this.#pending.length === 0) return;
    let applied = 0;
    for (const member of this.#world.up()) applied = Math.max(applied, member.node?.core.applied ?? 0);
    this.#pending = this.#pending.filter((pending) => {
      if (applied < pending.index) return true;
      this.#world.account.forget(pending);
      return false;
    });
  }

  #operate(): void {
    const world = this.#world;
    const leader = world.leader();
    if (leader?.node === undefined || leader.paused) return;
    const { membership } = leader.node.core;
    this.#retireRemoved();
    if (this.rests || this.#pending.length > 0 || membership.outgoing.size > 0) return;
    const change = this.#wanted(leader, membership);
    if (change !== undefined) this.change([change]);
  }

  #retireRemoved(): void {
    const world = this.#world;
    for (const member of [...world.members.values()]) {
      if (!member.removed) continue;
      const at = this.#removedAt.get(member.id) ?? world.now + this.#random.float() * ZOMBIE_MS;
      this.#removedAt.set(member.id, at);
      if (at <= world.now) world.retire(member);
    }
  }

  /** What is missing most. */
  #wanted(leader: Member, { voters, learners }: Membership): Change | undefined {
    const world = this.#world;
    const isDead = (id: number): boolean => (world.members.get(id)?.health ?? 'dead') === 'dead';
    for (const id of [...learners, ...voters]) {
      if (isDead(id) && (voters.size > 1 || learners.has(id))) return { id, to: 'gone' };
    }
    for (const id of learners) {
      const match = leader.node?.core.progress.get(id)?.match ?? 0;
      const member = world.members.get(id);
      if (member?.health !== 'sound' || match + BEHIND_MAX < (leader.node?.core.lastIndex ?? 0)) continue;
      return { id, to: 'voter' };
    }
    const { voters: size } = world.profile;
    if (voters.size > size) return { id: this.#one([...voters]), to: 'gone' };
    for (const member of world.members.values()) {
      if (voters.has(member.id) || learners.has(member.id) || member.joined || isDead(member.id)) continue;
      return { id: member.id, to: 'learner' };
    }
    if (voters.size + learners.size >= size) return undefined;
    return { id: world.addMember(false).id, to: 'learner' };
  }

  #one(ids: readonly number[]): number {
    return ids[this.#random.int(ids.length)] as number;
  }

  /** Voters after `changes`. */
  #after(voters: ReadonlySet<number>, changes: readonly Change[]): Set<number> {
    const after = new Set(voters);
    for (const { id, to } of changes) {
      if (to === 'voter') after.add(id);
      else after.delete(id);
    }
    return after;
  }

  /** Proposes changes, as one joint change if there are several, unless a majority would hang on bad disks. */
  change(changes: readonly Change[]): void {
    const world = this.#world;
    const run = world.leader()?.run;
    const core = run?.node?.core;
    if (run?.node === undefined || core === undefined || changes.length === 0) return;
    const voters = this.#after(core.membership.voters, changes);
    if (voters.size === 0 || !world.account.isSound(voters) || !this.#mayRun(voters)) return;
    const pending: Pending = { voters, index: Number.MAX_SAFE_INTEGER };
    const text = changes.map(({ id, to }) => `${id} ${to}`).join(', ');
    run.process.run(() => {
      const { node } = run;
      if (node === undefined) return;
      world.journal.fault(changes.length > 1 ? 'joint change' : 'membership change', text);
      world.account.expect(pending);
      this.#pending.push(pending);
      const wire = changes.map(({ id, to }) => RaftConfChange.create({ type: TYPES[to], node_id: id }));
      const first = wire[0] as RaftConfChange;
      const answer = wire.length === 1 ? node.proposeConfChange(first) : node.proposeJointChange(wire);
      pending.index = node.core.lastIndex;
      answer.catch((error: unknown) => {
        if (!isShoalError(error, ...EXPECTED)) world.fail(error);
      });
    });
  }

  /** A change that takes away who is up could leave a group that can never agree again. */
  #mayRun(voters: ReadonlySet<number>): boolean {
    let alive = 0;
    for (const id of voters) if ((this.#world.members.get(id)?.health ?? 'dead') !== 'dead') alive++;
    return alive >= majority(voters.size);
  }
}
