import { must } from '../../base/index.ts';
import { RaftConfChangeType } from '../../proto/index.ts';
import { Violation } from './checkers.ts';
import { CALM } from './network.ts';
import { World, type Member } from './world.ts';

export interface SimulationOptions {
  seed: number;
  /** Virtual time with faults, ms. */
  durationMs: number;
}

export interface SimulationResult {
  seed: number;
  simulatedMs: number;
  members: number;
  leaderTerms: number;
  acknowledged: number;
  messages: number;
  dropped: number;
  crashes: number;
  restarts: number;
  proposals: number;
  reads: number;
  transfers: number;
  confChanges: number;
}

const CLIENT_EVERY_MS = 25;
const OPERATOR_EVERY_MS = 300;
const FAULT_EVERY_MS = 1200;
/** Time that a healed group gets to agree again. */
const RECOVERY_MS = 60_000;

class Simulation {
  readonly world: World;
  readonly #size: number;
  #calm = false;

  constructor(seed: number) {
    this.world = new World(seed);
    this.#size = this.world.random.int(2) === 0 ? 3 : 5;
    this.world.start(this.world.addMember(true));
    for (let i = 1; i < this.#size; i++) this.world.start(this.world.addMember(false));
    this.#every(CLIENT_EVERY_MS, () => this.#client());
    this.#every(OPERATOR_EVERY_MS, () => this.#operator());
    this.#every(FAULT_EVERY_MS, () => this.#fault());
  }

  #every(ms: number, run: () => void): void {
    const delayMs = ms / 2 + this.world.random.float() * ms;
    this.world.clock.after(delayMs, () => {
      this.world.guard(run);
      this.#every(ms, run);
    });
  }

  #any(): Member | undefined {
    const live = this.world.live();
    return live.length === 0 ? undefined : live[this.world.random.int(live.length)];
  }

  #client(): void {
    const { world } = this;
    const roll = world.random.float();
    // Clients mostly find the leader; sometimes they ask one that only thinks it leads.
    const member = roll < 0.7 ? world.leader() : this.#any();
    if (member === undefined) return;
    if (world.random.float() < 0.2) world.read(member);
    for (let i = world.random.int(3); i >= 0; i--) world.propose(member);
  }

  /** Keeps the membership whole: learners first, then voters; members that were removed give way to new ones. */
  #operator(): void {
    const { world } = this;
    const leading = world.leader()?.node;
    if (leading === undefined) return;
    const { voters, learners } = leading.core.membership;
    for (const member of [...world.members.values()]) {
      if (!leading.isRemoved(member.id)) continue;
      world.kill(member);
      world.members.delete(member.id);
      world.start(world.addMember(false));
    }
    for (const id of learners) {
      if (!world.members.has(id)) return world.changeMembership(RaftConfChangeType.ConfChangeRemoveNode, id);
      const progress = leading.core.progress.get(id);
      if ((progress?.match ?? 0) + 20 > leading.core.lastIndex) {
        return world.changeMembership(RaftConfChangeType.ConfChangeAddNode, id);
      }
    }
    for (const member of world.members.values()) {
      if (voters.has(member.id) || learners.has(member.id)) continue;
      return world.changeMembership(RaftConfChangeType.ConfChangeAddLearnerNode, member.id);
    }
  }

  #fault(): void {
    if (this.#calm) return;
    const { world } = this;
    const { random, network } = world;
    const ids = [...world.members.keys()];
    switch (random.int(10)) {
      case 0:
        return network.partition(this.#someIds(ids), ids);
      case 1:
        // One way only.
        return network.cut(must(ids[random.int(ids.length)], 'id'), must(ids[random.int(ids.length)], 'id'));
      case 2:
        return network.partition([world.leader()?.id ?? 1], ids);
      case 3:
      case 4:
        network.heal();
        return;
      case 5:
        network.faults = {
          dropProbability: random.float() * 0.3,
          duplicateProbability: random.float() * 0.2,
          delayMinMs: 1,
          delayMaxMs: 1 + random.int(150),
        };
        return;
      case 6:
        network.faults = CALM;
        return;
      case 7:
        return this.#crash();
      case 8:
        return this.#startAll();
      default:
        return this.#handOver();
    }
  }

  #someIds(ids: readonly number[]): number[] {
    const count = 1 + this.world.random.int(Math.max(1, ids.length - 1));
    return ids.filter(() => this.world.random.int(ids.length) < count);
  }

  #crash(): void {
    const { random } = this.world;
    // Now and then everything at once: a power cut.
    const victims = random.int(8) === 0 ? this.world.live() : [this.#any()];
    for (const victim of victims) {
      if (victim === undefined) continue;
      const kind = random.int(3);
      if (kind === 0) this.world.kill(victim);
      else victim.disk.crashAt = kind === 1 ? 'before' : 'after';
    }
  }

  #handOver(): void {
    const { world } = this;
    if (world.random.int(2) === 0) return world.transfer();
    const voters = [...(world.leader()?.node?.core.membership.voters ?? [])];
    if (voters.length < 3) return;
    const victim = must(voters[world.random.int(voters.length)], 'voter');
    world.changeMembership(RaftConfChangeType.ConfChangeRemoveNode, victim);
  }

  #startAll(): void {
    for (const member of this.world.members.values()) this.world.start(member);
  }

  /** Everything works again: the group must elect, accept a write and bring every member up to date. */
  async recover(): Promise<void> {
    const { world } = this;
    this.#calm = true;
    world.network.heal();
    world.network.faults = CALM;
    for (const member of world.members.values()) member.disk.crashAt = null;
    this.#startAll();
    const end = world.clock.now() + RECOVERY_MS;
    let acknowledged = false;
    const settled = (): boolean => {
      this.#startAll();
      if (!acknowledged) return false;
      const core = world.leader()?.node?.core;
      if (core === undefined || core.membership.voters.size !== this.#size) return false;
      return world.live().length === this.#size && world.live().every((m) => m.node?.core.applied === core.commit);
    };
    // Writes from now on: one must go through.
    this.#every(500, () => {
      const leading = world.leader();
      if (leading !== undefined) {
        world.propose(leading, () => {
          acknowledged = true;
        });
      }
    });
    await world.run(end, settled);
    if (!settled()) throw new Violation(`liveness: the group did not recover within ${RECOVERY_MS} ms`);
    for (const member of world.live()) world.checkers.complete(member.id, must(member.machine, 'machine').ids);
  }
}

/**
 * Runs one seed: the production driver and core over virtual time, network and disks, with faults drawn from the seed.
 * The same options give the same run. @throws Violation when a promise is broken.
 */
export async function simulate(options: SimulationOptions): Promise<SimulationResult> {
  const simulation = new Simulation(options.seed);
  const { world } = simulation;
  await world.run(options.durationMs);
  await simulation.recover();
  return {
    seed: options.seed,
    simulatedMs: Math.round(world.clock.now()),
    members: world.members.size,
    leaderTerms: world.checkers.leaderTerms,
    acknowledged: world.checkers.acknowledged.size,
    messages: world.network.sent,
    dropped: world.network.dropped,
    ...world.counts,
  };
}
