import { env } from 'node:process';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { RaftConfChange, RaftConfChangeType } from '../../proto/index.ts';
import type { RaftConfChangeSingle, RaftMessage } from '../../proto/index.ts';
import { bytes } from './harness.ts';
import { confStateOf, isJoint, membersOf } from './index.ts';
import { ModelChecks } from './model-checks.ts';
import { ModelMember, snapshotOf } from './model-member.ts';

const MEMBERS = 5;
const MESSAGES_MAX = 400;
const NO_LEARNERS = new Set<number>();

/** One step of a schedule; `a` and `b` choose among what is possible. */
interface Step {
  kind: number;
  a: number;
  b: number;
}

/** Beside crashes, losses and late disks. */
interface Faults {
  damages: boolean;
  changes: boolean;
}

class World {
  readonly checks = new ModelChecks();
  readonly members: ModelMember[] = [];
  network: RaftMessage[] = [];
  readonly #cut = new Set<number>();
  readonly #asked = new Map<string, number>();
  readonly #faults: Faults;
  #now = 0;
  #counter = 0;

  constructor(voters: number, faults: Faults) {
    this.#faults = faults;
    const ids = new Set(Array.from({ length: voters }, (_, i) => i + 1));
    const conf_state = confStateOf({ voters: ids, learners: NO_LEARNERS });
    for (let id = 1; id <= MEMBERS; id++) {
      this.members.push(new ModelMember(id, this.checks, snapshotOf(0, { index: 0, term: 0, conf_state })));
    }
  }

  #member(a: number): ModelMember {
    return this.members[a % this.members.length] as ModelMember;
  }

  step({ kind, a, b }: Step): void {
    if (kind < 100) for (let i = 0; i <= b % 8; i++) this.#deliver(a + i, b + i);
    else if (kind < 140) this.#finishWrites(a);
    else if (kind < 160) this.tickAll();
    else if (kind < 178) this.#propose(a, b);
    else if (kind < 180) this.#crash(a, b);
    else if (kind < 185) this.#member(a).snapshot(b % 4);
    else if (kind < 189) this.#changeMembership(a, b);
    else if (kind < 193) this.#read(a);
    else if (kind < 194) this.#leader()?.core.transferLeadership((b % MEMBERS) + 1);
    else if (kind < 195) this.#member(a).core.reportUnreachable((b % MEMBERS) + 1);
    else if (kind < 196) this.#toggleCut(a);
    else if (kind < 199) this.network.splice(0, b % 8);
    else this.#damage(a, b);
    this.collect();
  }

  #leader(): ModelMember | undefined {
    const leading = this.members.filter((member) => member.core.role === 'leader');
    return leading.sort((x, y) => y.core.term - x.core.term)[0];
  }

  /** Takes what members sent, and checks reads. */
  collect(): void {
    for (const member of this.members) {
      member.work();
      for (const message of member.outgoing) {
        if (!this.#cut.has(message.to) && !this.#cut.has(message.from)) this.network.push(message);
      }
      member.outgoing = [];
      for (const [key, index] of member.reads) this.checks.read(index, this.#asked.get(key) ?? 0);
      member.reads.clear();
      const leased = member.core.leaseRead(this.#now);
      if (leased !== null) this.checks.read(leased, this.checks.maxCommit);
    }
    if (this.network.length > MESSAGES_MAX) this.network.splice(0, this.network.length - MESSAGES_MAX);
  }

  #deliver(a: number, b: number): void {
    const at = b % 3 === 0 ? a % Math.max(1, this.network.length) : 0;
    const message = this.network[at];
    if (message === undefined) return;
    // Some arrive twice.
    if (b % 17 !== 1) this.network.splice(at, 1);
    this.#member(message.to - 1).step(message);
  }

  /** Some disks are done. */
  #finishWrites(a: number): void {
    for (const member of this.members) if (((a >> member.id) & 1) === 1) member.finishWrite();
  }

  tickAll(): void {
    this.#now++;
    for (const member of this.members) member.core.tick(this.#now);
  }

  #propose(a: number, b: number): void {
    const leader = this.#leader();
    const items = Array.from({ length: 1 + (a % 3) }, () => bytes(`${++this.#counter}${'x'.repeat(b % 9)}`));
    leader?.core.propose(items);
  }

  #crash(a: number, b: number): void {
    this.#member(a).crash(b % 2 === 0);
  }

  #toggleCut(a: number): void {
    const id = (a % MEMBERS) + 1;
    if (!this.#cut.delete(id) && this.#cut.size < 1) this.#cut.add(id);
  }

  #read(a: number): void {
    const member = this.#member(a);
    const key = `${member.id}/${++this.#counter}`;
    this.#asked.set(key, this.checks.maxCommit);
    member.core.readIndex(bytes(key));
  }

  /** Keeps three voters at least, so that one damaged disk is never half of a group. */
  #changeMembership(a: number, b: number): void {
    const core = this.#leader()?.core;
    if (core === undefined || !this.#faults.changes) return;
    const part = (by: number): RaftConfChangeSingle => {
      const { ConfChangeAddNode, ConfChangeAddLearnerNode, ConfChangeRemoveNode } = RaftConfChangeType;
      const types = [ConfChangeAddNode, ConfChangeAddLearnerNode, ConfChangeRemoveNode, ConfChangeAddNode];
      return { type: types[by % 4] as RaftConfChangeType, node_id: ((by >> 2) % MEMBERS) + 1 };
    };
    const parts = [part(a), ...(b % 2 === 0 ? [part(b >> 1), part(b >> 6)] : [])];
    const voters = new Set(core.membership.voters);
    for (const { type, node_id } of parts) {
      if (type === RaftConfChangeType.ConfChangeAddNode) voters.add(node_id);
      else voters.delete(node_id);
    }
    if (voters.size < 3) return;
    if (parts.length > 1) core.proposeJointChange(parts, bytes(''));
    else core.proposeConfChange(RaftConfChange.create({ ...parts[0], id: 1 }));
  }

  /** One disk at a time loses what it held. */
  #damage(a: number, b: number): void {
    if (!this.#faults.damages || this.members.some((member) => member.disk.repair !== null)) return;
    const member = this.#member(a);
    const first = member.disk.entries[0]?.index ?? 1;
    member.damage(first + (b % 8), b % 5 === 0, b % 3 !== 0);
  }

  /** All faults end: the group must agree again, and take a new entry. */
  recover(): void {
    this.#cut.clear();
    for (let round = 0; round < 600; round++) {
      for (const message of this.network.splice(0)) this.#member(message.to - 1).step(message);
      for (const member of this.members) member.finishWrite();
      if (round % 3 === 0) this.tickAll();
      if (round % 20 === 19) this.#propose(0, 0);
      this.collect();
      if (round > 100 && this.#agreed()) return;
    }
    // A removed member and a damaged one together may be more than a group can do without.
    if (this.#faults.damages && this.#faults.changes) return;
    throw new Error(`the group does not recover: ${this.members.map(describe).join('; ')}`);
  }

  #agreed(): boolean {
    const leader = this.#leader()?.core;
    if (leader === undefined || isJoint(leader.membership) || leader.commit < leader.lastIndex) return false;
    return membersOf(leader.membership).every((id) => {
      const { core, applied } = this.#member(id - 1);
      return applied === leader.commit && core.repairReason === null;
    });
  }
}

function describe({ id, core }: ModelMember): string {
  const voters = [...core.membership.voters].join();
  const log = `${core.firstIndex}..${core.durable}/${core.lastIndex}, commit ${core.commit}`;
  return `${id} ${core.role} of term ${core.term}, ${log}, voters ${voters} ${core.repairReason ?? ''}`;
}

const nat = fc.nat(1 << 20);
const steps = (length: number): fc.Arbitrary<Step[]> =>
  fc.array(fc.record({ kind: fc.nat(199), a: nat, b: nat }), { minLength: length / 2, maxLength: length, size: 'max' });

function run(voters: number, schedule: Step[], faults: Faults): World {
  const world = new World(voters, faults);
  // Somebody leads when the faults begin.
  for (let i = 0; i < 60; i++) {
    world.tickAll();
    for (let j = 0; j < 6; j++) world.step({ kind: j % 2 === 0 ? 0 : 100, a: i + j, b: 7 });
    for (const member of world.members) member.finishWrite();
    world.collect();
  }
  for (const step of schedule) world.step(step);
  world.recover();
  return world;
}

/** A failure names its seed; `RAFT_PROPERTY_SHRINK=1` looks for the shortest schedule, which takes minutes. */
const PARAMETERS = {
  numRuns: Number(env['RAFT_PROPERTY_RUNS'] ?? 40),
  endOnFailure: env['RAFT_PROPERTY_SHRINK'] !== '1',
};

test.each([
  ['late disks, crashes and changes of membership', { damages: false, changes: true }],
  ['disks that lose entries, one at a time', { damages: true, changes: false }],
  ['all of these', { damages: true, changes: true }],
])(
  'figure 3 holds in random schedules with %s',
  (_, faults) => {
    fc.assert(
      fc.property(fc.integer({ min: 3, max: 5 }), steps(1200), (voters, schedule) => {
        const world = run(voters, schedule, faults);
        expect(world.checks.leaderTerms).toBeGreaterThan(0);
      }),
      PARAMETERS,
    );
  },
  // Far more than the standard number of runs needs.
  600_000,
);
