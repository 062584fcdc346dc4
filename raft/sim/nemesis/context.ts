import type { Random } from '../../../base/index.ts';
import type { Clients } from '../clients.ts';
import type { Member } from '../member.ts';
import type { Operator } from '../operator.ts';
import type { World } from '../world.ts';

/** Ways to hit one member. */
export type Strike = 'kill' | 'power cut' | 'pause' | 'isolation';

/** Longest and shortest pause of a process, ms. */
const PAUSE_MIN_MS = 100;
const PAUSE_MAX_MS = 60_000;

/** What a nemesis works with: faults that count themselves, and timers that end with it. */
export class NemesisContext {
  readonly world: World;
  readonly clients: Clients;
  readonly operator: Operator;
  readonly random: Random;
  #active = true;

  constructor(world: World, clients: Clients, operator: Operator, random: Random) {
    this.world = world;
    this.clients = clients;
    this.operator = operator;
    this.random = random;
  }

  get active(): boolean {
    return this.#active;
  }

  /** Nothing that was planned happens any more. */
  end(): void {
    this.#active = false;
  }

  after(ms: number, run: () => void): void {
    this.world.scheduler.after(ms, () => {
      if (this.#active) this.world.guard(run);
    });
  }

  /** Again and again, at random distances. */
  every(meanMs: number, run: () => void): void {
    this.after(this.exponential(meanMs), () => {
      run();
      this.every(meanMs, run);
    });
  }

  exponential(meanMs: number): number {
    return -Math.log(1 - this.random.float()) * meanMs;
  }

  chance(share: number): boolean {
    return this.random.float() < share;
  }

  pick<T>(items: readonly T[]): T | undefined {
    return items[this.random.int(Math.max(1, items.length))];
  }

  members(): Member[] {
    return [...this.world.members.values()];
  }

  ids(): number[] {
    return [...this.world.members.keys()];
  }

  any(): Member | undefined {
    return this.pick(this.world.up());
  }

  leader(): Member | undefined {
    return this.world.leader();
  }

  follower(): Member | undefined {
    const leader = this.leader();
    return this.pick(this.world.up().filter((member) => member !== leader));
  }

  kill(member: Member, downMs?: number): void {
    if (member.run === undefined) return;
    this.world.journal.fault('kill', `of member ${member.id}`);
    this.world.kill(member);
    this.#startsAfter(member, downMs);
  }

  powerCut(member: Member, downMs?: number): void {
    if (member.run === undefined) return;
    this.world.journal.fault('power cut', `at member ${member.id}`);
    this.world.powerCut(member);
    this.#startsAfter(member, downMs);
  }

  #startsAfter(member: Member, downMs: number | undefined): void {
    if (downMs === undefined) return;
    member.startAt = this.world.now + downMs;
    this.world.scheduler.after(downMs, () => {
      if (member.run === undefined && member.startAt <= this.world.now) this.world.start(member);
    });
  }

  /** SIGSTOP, and SIGCONT after `ms`. */
  pause(member: Member, ms = this.pauseMs()): void {
    const process = member.run?.process;
    if (process === undefined || process.paused) return;
    this.world.journal.fault('pause', `of member ${member.id} for ${Math.round(ms)} ms`);
    process.pause();
    // Comes to an end even if this nemesis does before.
    this.world.scheduler.after(ms, () => process.resume());
  }

  pauseMs(): number {
    return PAUSE_MIN_MS * (PAUSE_MAX_MS / PAUSE_MIN_MS) ** (this.random.float() ** 1.5);
  }

  /** Cuts a member off, both ways or one way. */
  isolate(member: Member, way: 'both' | 'in' | 'out' = 'both'): void {
    this.world.journal.fault(way === 'both' ? 'isolation' : 'one-way isolation', `of member ${member.id}`);
    for (const other of this.ids()) {
      if (other === member.id) continue;
      if (way !== 'in') this.world.network.cut(member.id, other);
      if (way !== 'out') this.world.network.cut(other, member.id);
    }
  }

  rejoin(member: Member): void {
    for (const other of this.ids()) {
      this.world.network.join(member.id, other);
      this.world.network.join(other, member.id);
    }
  }

  /** Joins a member with all but one. */
  rejoinBut(id: number, cutOff: number): void {
    for (const other of this.ids()) {
      if (other === cutOff) continue;
      this.world.network.join(id, other);
      this.world.network.join(other, id);
    }
  }

  heal(): void {
    this.world.network.heal();
  }

  strike(member: Member, how: Strike, downMs?: number): void {
    if (how === 'kill') this.kill(member, downMs);
    else if (how === 'power cut') this.powerCut(member, downMs);
    else if (how === 'pause') this.pause(member, downMs);
    else this.isolate(member);
  }

  /** Changes bytes of a disk; the member finds them when it starts next, soon. */
  damage(member: Member): boolean {
    const roll = this.random.int(10);
    const what = roll < 6 ? 'log' : roll < 9 ? 'snapshot' : 'vote';
    const how = (['bit', 'bits', 'sector'] as const)[this.random.int(3)] ?? 'bit';
    if (!this.world.damage(member, what, how)) return false;
    this.world.journal.count(`${how === 'sector' ? 'bad sector' : 'bit flip'} in ${what}`);
    return true;
  }
}

/** One kind of trouble. It lasts until its context ends; then everything that it changed is put right again. */
export type Nemesis = (context: NemesisContext) => void;
