import type { SeededRandom } from '../../base/index.ts';
import { around } from './image.ts';
import { pick } from './specs.ts';
import type { Users } from './users.ts';
import type { WorkerHost } from './worker-host.ts';
import type { World } from './world.ts';

/** Mean time that a fault lasts, ms. */
const FAULT_MS = 6_000;
/** Some last until nodes are Down and their tasks are elsewhere, ms. */
const LONG_FAULT_MS = 25_000;
/** Workers that are away (or on their way in) at once, at the most: a third. */
const AWAY_SHARE = 3;

type Fault = (typeof FAULTS)[number];

/** Does harm: one fault after the other, some at once; each is taken back after a while. */
export class Nemesis {
  readonly #world: World;
  readonly #users: Users;
  readonly #random: SeededRandom;
  /** It does nothing new. */
  idle = true;
  /** What is to be put right, and has not been yet. */
  readonly #open = new Set<() => void>();

  constructor(world: World, users: Users, random: SeededRandom) {
    this.#world = world;
    this.#users = users;
    this.#random = random;
    this.#next();
  }

  #next(): void {
    const world = this.#world;
    world.scheduler.after(around(this.#random, world.profile.faultMs), () => {
      if (!this.idle) this.#strike(pick(this.#random, FAULTS));
      this.#next();
    });
  }

  /** Ends every fault, and starts all that stands still. */
  putRight(): void {
    const world = this.#world;
    for (const end of [...this.#open]) end();
    world.network.heal();
    world.network.temper = world.profile.links;
    world.wires.temper = world.profile.wire;
    for (const manager of world.managers) {
      manager.run?.process.resume();
      manager.start();
    }
    for (const worker of world.members) {
      worker.run?.process.resume();
      worker.start();
    }
  }

  #noteFault(kind: Fault, detail: string): void {
    this.#world.journal.fault(kind, detail);
  }

  /** Takes a fault back after a while. */
  #later(undo: () => void): void {
    const meanMs = this.#random.int(3) === 0 ? LONG_FAULT_MS : FAULT_MS;
    const end = (): void => {
      if (!this.#open.delete(end)) return;
      undo();
    };
    this.#open.add(end);
    this.#world.scheduler.after(200 + around(this.#random, meanMs), end);
  }

  #strike(kind: Fault): void {
    switch (kind) {
      case 'manager crash':
      case 'manager killed':
        return this.#fellManager(kind);
      case 'manager paused':
        return this.#pauseManager(kind);
      case 'leader change':
        return this.#changeLeader(kind);
      case 'disk stalls':
        return this.#stallDisk(kind);
      case 'worker crash':
      case 'worker daemon killed':
        return this.#fellWorker(kind);
      case 'worker paused':
        return this.#pauseWorker(kind);
      case 'container killed':
        return this.#killContainer(kind);
      case 'worker cut off':
      case 'worker cut from leader':
      case 'one-way cut':
      case 'managers parted':
        return this.#cut(kind);
      case 'slow links':
      case 'connections break':
        return this.#weather(kind);
      case 'worker joins':
        return this.#join(kind);
      case 'worker leaves':
        return this.#leave(kind);
    }
  }

  /** One of the managers; the leader half of the time. */
  #manager() {
    const leader = this.#random.int(2) === 0 ? this.#world.leader() : undefined;
    return leader ?? pick(this.#random, this.#world.managers);
  }

  #fellManager(kind: 'manager crash' | 'manager killed'): void {
    const manager = this.#manager();
    if (manager.run === undefined) return;
    this.#noteFault(kind, manager.nodeId);
    if (kind === 'manager crash') manager.crash();
    else manager.kill();
    this.#later(() => manager.start());
  }

  #pauseManager(kind: Fault): void {
    const run = this.#manager().run;
    if (run === undefined || run.process.paused) return;
    this.#noteFault(kind, run.manager.consensus.id.toString());
    run.process.pause();
    this.#later(() => run.process.resume());
  }

  #changeLeader(kind: Fault): void {
    const leader = this.#world.leader();
    if (leader?.run === undefined) return;
    const { process, manager } = leader.run;
    this.#noteFault(kind, `from ${leader.nodeId}`);
    process.run(() => {
      manager.consensus.transferLeadership().catch(() => undefined);
    });
  }

  #stallDisk(kind: Fault): void {
    const manager = this.#manager();
    const ms = 200 + around(this.#random, 2_000);
    this.#noteFault(kind, `${manager.nodeId} for ${Math.round(ms)} ms`);
    manager.disk.stall(ms);
  }

  #worker(): WorkerHost | undefined {
    const up = this.#world.members.filter((worker) => worker.run !== undefined && !worker.run.process.paused);
    const away = this.#world.members.length - up.length;
    return up.length === 0 || away * AWAY_SHARE > up.length ? undefined : pick(this.#random, up);
  }

  #fellWorker(kind: 'worker crash' | 'worker daemon killed'): void {
    const worker = this.#worker();
    if (worker === undefined) return;
    this.#noteFault(kind, worker.name);
    if (kind === 'worker crash') worker.powerOff();
    else worker.killDaemon();
    this.#later(() => worker.start());
  }

  #pauseWorker(kind: Fault): void {
    const worker = this.#worker();
    const process = worker?.run?.process;
    if (worker === undefined || process === undefined) return;
    this.#noteFault(kind, worker.name);
    process.pause();
    this.#later(() => process.resume());
  }

  #killContainer(kind: Fault): void {
    const worker = pick(this.#random, this.#world.members);
    if (worker.killOne()) this.#noteFault(kind, `on ${worker.name}`);
  }

  #cut(kind: 'worker cut off' | 'worker cut from leader' | 'one-way cut' | 'managers parted'): void {
    const { network, managers } = this.#world;
    const all = managers.map(({ id }) => id);
    const cuts: [number, number][] = [];
    if (kind === 'managers parted') {
      const side = all.filter(() => this.#random.int(2) === 0);
      for (const a of side) for (const b of all) if (!side.includes(b)) cuts.push([a, b], [b, a]);
    } else {
      const worker = this.#worker();
      if (worker === undefined) return;
      const leader = this.#world.leader()?.id ?? 1;
      const from = kind === 'worker cut off' ? all : kind === 'one-way cut' ? [pick(this.#random, all)] : [leader];
      for (const id of from) {
        if (kind !== 'one-way cut' || this.#random.int(2) === 0) cuts.push([id, worker.id]);
        else cuts.push([worker.id, id]);
        if (kind !== 'one-way cut') cuts.push([worker.id, id]);
      }
      // Between managers, too.
      if (kind === 'one-way cut') cuts.push([pick(this.#random, all), pick(this.#random, all)]);
    }
    this.#noteFault(kind, cuts.map(([a, b]) => `${a}→${b}`).join(' '));
    for (const [a, b] of cuts) network.cut(a, b);
    this.#later(() => {
      for (const [a, b] of cuts) network.join(a, b);
    });
  }

  #weather(kind: 'slow links' | 'connections break'): void {
    const world = this.#world;
    this.#noteFault(kind, '');
    if (kind === 'slow links') {
      const meanMs = pick(this.#random, [30, 100, 300]);
      world.network.temper = { ...world.network.temper, meanMs, dropShare: 0.02 };
      world.wires.temper = { ...world.wires.temper, meanMs, lossShare: 0.05 };
    } else {
      world.wires.temper = { ...world.wires.temper, breakShare: 0.02 };
    }
    this.#later(() => {
      world.network.temper = world.profile.links;
      world.wires.temper = world.profile.wire;
    });
  }

  #join(kind: Fault): void {
    const world = this.#world;
    if (world.members.length >= world.profile.workers + 2) return;
    const worker = world.addWorker();
    this.#noteFault(kind, worker.name);
    this.#users.admit(worker);
    worker.start();
  }

  /** A machine is given away: switched off, then removed; or removed by force while it still runs. */
  #leave(kind: Fault): void {
    const world = this.#world;
    const worker = this.#worker();
    if (worker === undefined || world.members.length <= Math.max(2, world.profile.workers - 2)) return;
    this.#noteFault(kind, worker.name);
    worker.powerOff();
    worker.retired = true;
    this.#users.remove(worker, this.#random.int(2) === 0);
  }
}

const FAULTS = [
  'manager crash',
  'manager crash',
  'manager killed',
  'manager killed',
  'manager paused',
  'leader change',
  'leader change',
  'disk stalls',
  'worker crash',
  'worker crash',
  'worker daemon killed',
  'worker daemon killed',
  'worker paused',
  'container killed',
  'container killed',
  'worker cut off',
  'worker cut from leader',
  'one-way cut',
  'managers parted',
  'slow links',
  'connections break',
  'worker joins',
  'worker leaves',
] as const;
