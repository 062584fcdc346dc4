import { SeededRandom, type Logger } from '../../base/index.ts';
import { Nemesis } from './nemesis.ts';
import type { Profile } from './profile.ts';
import { unrest } from './rest.ts';
import { Users } from './users.ts';
import { Violation } from './violation.ts';
import { World } from './world.ts';

/** Time between two looks at what goes on, ms. */
const LOOK_MS = 1_000;
/** Mean length of a time of trouble, ms. */
const TROUBLE_MS = 60_000;
/** Within this time after the last fault and the last request everything is as it should be, ms. */
export const REST_WITHIN_MS = 600_000;
/** Everything must stay right so long before the next trouble, ms. */
const REST_MS = 5_000;
/** Time to grow the cluster, ms. */
const GROW_MS = 60_000;

export interface SimulationOptions {
  seed: number;
  /** Virtual time with faults, ms. */
  durationMs: number;
  profile?: Partial<Profile>;
  /** Called with each line of the journal. */
  onLine?: (line: string) => void;
  log?: Logger;
}

export interface SimulationResult {
  seed: number;
  simulatedMs: number;
  /** Hash of every event: the same seed gives the same. */
  hash: number;
  events: number;
  /** What there was, by name. */
  counts: Record<string, number>;
  faults: Record<string, number>;
}

/** A seed that failed: the violation, when, and the last that happened. */
export class SimulationFailure extends Error {
  override readonly name = 'SimulationFailure';
  readonly seed: number;
  readonly lines: readonly string[];

  constructor(seed: number, atMs: number, lines: readonly string[], cause: unknown) {
    const what = cause instanceof Error ? cause.message : String(cause);
    super(`at ${(atMs / 1000).toFixed(3)} s: ${what}`, { cause });
    this.seed = seed;
    this.lines = lines;
  }
}

/**
 * Runs one seed of the whole control plane: production managers and agents over virtual time, network, disks and
 * containers, with users and faults drawn from the seed. @throws SimulationFailure when a promise is broken.
 */
export async function simulate(options: SimulationOptions): Promise<SimulationResult> {
  const world = new World(options);
  world.journal.onLine = options.onLine ?? null;
  try {
    return await new Play(world).perform(options);
  } catch (error) {
    throw new SimulationFailure(options.seed, world.now, world.journal.lines, error);
  }
}

class Play {
  readonly #world: World;
  readonly #users: Users;
  readonly #nemesis: Nemesis;
  readonly #random: SeededRandom;

  constructor(world: World) {
    this.#world = world;
    this.#random = new SeededRandom(world.random.uint32());
    this.#users = new Users(world, new SeededRandom(world.random.uint32()));
    this.#nemesis = new Nemesis(world, this.#users, new SeededRandom(world.random.uint32()));
    this.#look();
  }

  async perform({ seed, durationMs }: SimulationOptions): Promise<SimulationResult> {
    const world = this.#world;
    await this.#grow();
    while (world.now < durationMs) {
      this.#users.idle = false;
      // Some time without any harm, that there is something to harm.
      await world.run(world.now + this.#random.float() * 20_000);
      this.#nemesis.idle = false;
      const ms = TROUBLE_MS * (0.3 - Math.log(1 - this.#random.float()));
      await world.run(Math.min(Math.max(durationMs, world.now), world.now + ms));
      await this.#rest();
    }
    return this.#result(seed);
  }

  /** The first manager begins the cluster, the others and the workers join. */
  async #grow(): Promise<void> {
    const world = this.#world;
    const [first, ...others] = world.managers;
    first?.start();
    await this.#until(GROW_MS, () => (first?.leading === true ? undefined : 'nobody leads'));
    for (const other of others) {
      other.start();
      const { run } = world.leader() ?? {};
      run?.process.run(() => {
        run.manager.addMember(other.member).catch((error: unknown) => world.fail(error));
      });
      await world.run(world.now + 2_000);
    }
    for (let i = 0; i < world.profile.workers; i++) {
      const worker = world.addWorker();
      this.#users.admit(worker);
      worker.start();
    }
    await this.#until(GROW_MS, () => unrest(world));
  }

  /** No new faults, no new requests, everything put right: now the cluster has to come to what was asked for. */
  async #rest(): Promise<void> {
    const world = this.#world;
    this.#users.idle = true;
    this.#nemesis.idle = true;
    world.journal.note('—— all is put right');
    this.#nemesis.putRight();
    for (const worker of world.members) worker.calm = true;
    await this.#until(REST_WITHIN_MS, () => this.#unrest());
    await world.run(world.now + REST_MS);
    await this.#until(REST_WITHIN_MS, () => this.#unrest());
    world.journal.count('rest');
    for (const worker of world.members) worker.calm = false;
  }

  /** Machines that left while nobody could note it are removed now; those whose joining got lost join again. */
  #unrest(): string | undefined {
    const world = this.#world;
    const { view } = world.oracle;
    for (const worker of world.workers) {
      const known = view?.get('node', worker.nodeId) !== undefined;
      if (worker.retired && known) this.#users.remove(worker, true);
      if (!worker.retired && !known) this.#users.admit(worker);
    }
    return unrest(world);
  }

  async #until(withinMs: number, wait: () => string | undefined): Promise<void> {
    const world = this.#world;
    const endMs = world.now + withinMs;
    for (let why = wait(); why !== undefined; why = wait()) {
      if (world.now >= endMs) throw new Violation('everything comes to rest', `after ${withinMs / 1000} s ${why}`);
      await world.run(world.now + LOOK_MS);
    }
  }

  #look(): void {
    const world = this.#world;
    world.scheduler.after(LOOK_MS, () => {
      try {
        for (const worker of world.members) this.#lookAt(worker);
        world.oracle.tick(world.members, LOOK_MS, world.leader()?.run?.process.paused === false);
      } catch (error) {
        world.fail(error);
      }
      this.#look();
    });
  }

  #lookAt(worker: World['workers'][number]): void {
    const { network, managers, now } = this.#world;
    const cut = managers.some(({ id }) => network.isCut(id, worker.id) || network.isCut(worker.id, id));
    const reached =
      worker.connected && !cut && worker.run?.process.paused === false && this.#world.leader() !== undefined;
    worker.connectedSince = reached ? (worker.connectedSince ?? now) : undefined;
  }

  #result(seed: number): SimulationResult {
    const { journal, scheduler, oracle, wires, network } = this.#world;
    journal.count('connection broken', wires.counts.broken);
    journal.count('message lost', network.counts.dropped);
    const { asked, done } = this.#users.counts;
    return {
      seed,
      simulatedMs: Math.round(this.#world.now),
      hash: scheduler.hash,
      events: scheduler.events,
      counts: { ...oracle.counts, requests: asked, granted: done },
      faults: Object.fromEntries([...journal.counts].sort(([a], [b]) => (a < b ? -1 : 1))),
    };
  }
}
