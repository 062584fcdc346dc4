import { SeededRandom, type Logger } from '../../base/index.ts';
import { Violation } from './checkers.ts';
import { Clients } from './clients.ts';
import { Director, RECOVERY_MS } from './director.ts';
import type { MachineFactory } from './model.ts';
import { Operator } from './operator.ts';
import type { Profile } from './profile.ts';
import { World } from './world.ts';

export interface SimulationOptions {
  seed: number;
  /** Virtual time with faults, ms. */
  durationMs: number;
  /** Changes what the seed gives. */
  profile?: Partial<Profile>;
  machine?: MachineFactory;
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
  messages: number;
  elections: number;
  entries: number;
  acknowledged: number;
  operations: number;
  /** By kind. */
  faults: Record<string, number>;
}

/** A seed that failed: the violation, and the last that happened. */
export class SimulationFailure extends Error {
  override readonly name = 'SimulationFailure';
  readonly seed: number;
  readonly lines: readonly string[];

  constructor(seed: number, lines: readonly string[], cause: unknown) {
    super(cause instanceof Error ? cause.message : String(cause), { cause });
    this.seed = seed;
    this.lines = lines;
  }
}

/**
 * Runs one seed: the production driver, core and log over virtual time, network and disks, with faults drawn from the
 * seed. The same options give the same run. @throws SimulationFailure when a promise is broken.
 */
export async function simulate(options: SimulationOptions): Promise<SimulationResult> {
  const world = new World(options);
  world.journal.onLine = options.onLine ?? null;
  try {
    return await play(world, options);
  } catch (error) {
    throw new SimulationFailure(options.seed, world.journal.lines, error);
  }
}

async function play(world: World, { seed, durationMs }: SimulationOptions): Promise<SimulationResult> {
  const clients = new Clients(world, new SeededRandom(world.random.uint32()));
  const operator = new Operator(world, new SeededRandom(world.random.uint32()));
  const director = new Director(world, clients, operator, new SeededRandom(world.random.uint32()));
  clients.idle = true;
  await director.grow();
  clients.idle = false;
  await director.torment(durationMs);
  await director.settle();
  await finish(world, clients);
  return resultOf(world, clients, seed);
}

/** A write must go through, every member must come to it, and every answer must make sense. */
async function finish(world: World, clients: Clients): Promise<void> {
  const end = world.now + RECOVERY_MS;
  let done = false;
  clients.idle = true;
  for (let tries = 0; !done; tries++) {
    if (world.now >= end) throw new Violation(`liveness: no write went through in ${tries} tries`);
    const run = world.leader()?.run;
    if (run !== undefined) {
      clients.write(run, 0, () => {
        done = true;
      });
    }
    await world.run(world.now + 1000, () => done);
  }
  const target = world.checkers.maxCommitted;
  const voters = [...(world.leader()?.node?.core.membership.voters ?? [])];
  const behind = (): boolean => voters.some((id) => (world.members.get(id)?.node?.core.applied ?? 0) < target);
  await world.run(end, () => !behind());
  if (behind()) throw new Violation(`liveness: not every member came to entry ${target}`);
  clients.check();
}

function resultOf(world: World, clients: Clients, seed: number): SimulationResult {
  const { journal, scheduler, network, checkers } = world;
  journal.count('message lost', network.counts.dropped);
  journal.count('message doubled', network.counts.duplicated);
  journal.count('message late', network.counts.late);
  for (const member of world.members.values()) {
    journal.count('sync that failed', member.disk.counts.eio);
    journal.count('sync that lied', member.disk.counts.lied);
    journal.count('no space left', member.disk.counts.enospc);
  }
  const { puts, cas, gets } = clients.counts;
  return {
    seed,
    simulatedMs: Math.round(world.now),
    hash: scheduler.hash,
    events: scheduler.events,
    messages: network.counts.sent,
    elections: checkers.elections,
    entries: checkers.maxCommitted,
    acknowledged: checkers.acknowledged,
    operations: puts + cas + gets,
    faults: Object.fromEntries([...journal.counts].sort(([a], [b]) => (a < b ? -1 : 1))),
  };
}
