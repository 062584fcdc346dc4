import { must, type Random } from '../../base/index.ts';
import { Violation } from './checkers.ts';
import type { Clients } from './clients.ts';
import { CUT_MODES } from './disk.ts';
import { NemesisContext, type Nemesis } from './nemesis/context.ts';
import { blackout, churn, comeback, laggard, sleep } from './nemesis/groups.ts';
import { duel, figure8, leaderHunt, voteEdge, writeEdge } from './nemesis/leaders.ts';
import { amnesia, staleLeader } from './nemesis/reads.ts';
import { orphan, rot } from './nemesis/rot.ts';
import { schism } from './nemesis/schism.ts';
import { chaos, lies, storm } from './nemesis/weather.ts';
import type { Member } from './member.ts';
import type { Operator } from './operator.ts';
import { disturbFollowers } from './stability.ts';
import type { Style } from './profile.ts';
import type { World } from './world.ts';

const NEMESES: Record<Style, Nemesis> = {
  chaos,
  'leader-hunt': leaderHunt,
  'write-edge': writeEdge,
  'vote-edge': voteEdge,
  comeback,
  'figure-8': figure8,
  blackout,
  churn,
  rot,
  storm,
  duel,
  'stale-leader': staleLeader,
  laggard,
  lies,
  sleep,
  amnesia,
  schism,
  orphan,
};
/** Styles that go together with any other: they take none of the world's hooks. */
const SECOND: ReadonlySet<Style> = new Set<Style>(['chaos', 'churn', 'rot', 'lies', 'sleep', 'blackout', 'laggard']);
const EPOCH_MIN_MS = 15_000;
const EPOCH_MEAN_MS = 45_000;
/** Within this time after the last fault a group agrees again, and repairs end, ms. */
export const RECOVERY_MS = 180_000;
const LOOK_MS = 500;

/** Lets troubles come and go, puts everything right in between, and then asks whether the group is well. */
export class Director {
  readonly #world: World;
  readonly #clients: Clients;
  readonly #operator: Operator;
  readonly #random: Random;

  constructor(world: World, clients: Clients, operator: Operator, random: Random) {
    this.#world = world;
    this.#clients = clients;
    this.#operator = operator;
    this.#random = random;
  }

  #context(): NemesisContext {
    return new NemesisContext(this.#world, this.#clients, this.#operator, this.#random);
  }

  /** The first member begins the group, the operator adds the others. */
  async grow(): Promise<void> {
    this.#world.start(this.#world.addMember(true));
    await this.settle();
  }

  /** Faults until `endMs`. */
  async torment(endMs: number): Promise<void> {
    const world = this.#world;
    while (world.now < endMs) {
      await this.#epoch(endMs);
      if (this.#random.int(3) > 0 || world.now >= endMs) continue;
      await this.settle();
      await disturbFollowers(world, this.#clients, this.#operator, this.#context());
      this.putRight();
    }
  }

  async #epoch(endMs: number): Promise<void> {
    const world = this.#world;
    const { styles } = world.profile;
    const style = styles[this.#random.int(styles.length)] as Style;
    const seconds = styles.filter((other) => other !== style && SECOND.has(other));
    const context = this.#context();
    world.journal.note(`—— ${style}`);
    NEMESES[style](context);
    const second = seconds[this.#random.int(2 * seconds.length + 1)];
    if (second !== undefined) {
      world.journal.note(`—— and ${second}`);
      NEMESES[second](context);
    }
    const ms = EPOCH_MIN_MS - Math.log(1 - this.#random.float()) * EPOCH_MEAN_MS;
    await world.run(Math.min(endMs, world.now + ms));
    context.end();
    this.putRight();
  }

  /** Ends everything that disturbs. */
  putRight(): void {
    const world = this.#world;
    world.journal.note('—— all is put right');
    world.network.filter = null;
    world.network.temper = world.profile.links;
    world.network.heal();
    world.onElected = null;
    this.#clients.pinned = undefined;
    this.#clients.idle = false;
    this.#operator.rests = false;
    const rate = Math.min(0.1, world.profile.drift);
    for (const member of world.members.values()) {
      member.disk.onLogWrite = null;
      member.disk.crashAfter = null;
      member.disk.cutModes = CUT_MODES;
      member.disk.temper = world.profile.disk;
      member.rate = Math.min(1 + rate, Math.max(1 - rate, member.rate));
      member.run?.process.setRate(member.rate);
      member.run?.process.resume();
    }
    this.#operator.startAll();
  }

  /** Waits until the group is well. @throws Violation when it takes too long. */
  async settle(): Promise<void> {
    const world = this.#world;
    this.putRight();
    const end = world.now + RECOVERY_MS;
    for (let wait = this.#unwell(); wait !== undefined; wait = this.#unwell()) {
      if (world.now >= end) throw new Violation(`liveness: ${RECOVERY_MS} ms after the last fault, ${wait}`);
      this.#restartDamaged();
      await world.run(world.now + LOOK_MS);
    }
  }

  /** A program that runs does not know of bytes that were changed behind it: it must start to find out. */
  #restartDamaged(): void {
    const world = this.#world;
    for (const member of world.members.values()) {
      if (member.health !== 'damaged' || member.run === undefined || member.damagedRun !== member.run) continue;
      world.kill(member);
    }
    this.#operator.startAll();
  }

  /** What is missing for the group to be well; undefined when nothing is. */
  #unwell(): string | undefined {
    const world = this.#world;
    const leader = world.leader();
    if (leader?.node === undefined) return 'nobody leads';
    const core = leader.node.core;
    const { voters, learners, outgoing } = core.membership;
    if (outgoing.size > 0) return 'the membership is joint';
    if (voters.size !== world.profile.voters || learners.size > 0) return `the voters are ${[...voters].join()}`;
    if (world.account.pendingCount > 0) return 'a change of membership is under way';
    for (const id of voters) {
      const wait = this.#unwellMember(leader, world.members.get(id));
      if (wait !== undefined) return wait;
    }
    return undefined;
  }

  #unwellMember(leader: Member, member: Member | undefined): string | undefined {
    if (member?.node === undefined) return `member ${member?.id} does not run`;
    const { core } = member.node;
    const led = must(leader.node, 'leader').core;
    if (member.health !== 'sound') return `member ${member.id} has a ${member.health} disk`;
    if (core.repairReason !== null) return `member ${member.id} is in repair`;
    if (core.term !== led.term || core.leaderId !== led.id) return `member ${member.id} does not follow the leader`;
    if (core.applied + 50 < led.commit) return `member ${member.id} is at ${core.applied}, the leader at ${led.commit}`;
    return undefined;
  }
}
