import { must, systemClock, unreachable, type Random } from '../../base/index.ts';
import type { Lab } from '../../lab/index.ts';

export const FAULT_KINDS = ['kill', 'pause', 'cut', 'cut-one-way'] as const;
export type FaultKind = (typeof FAULT_KINDS)[number];

/** One fault of a plan. */
export interface Fault {
  kind: FaultKind;
  /** Whom it hits: one host by chance, the leader of that moment, or two hosts (cuts only; they still reach each other). */
  victims: 'one' | 'leader' | 'two';
  /** How long it lasts; for a kill, how long the daemon stays down, ms. */
  lastsMs: number;
  /** Time from its begin until the next fault's, ms. */
  nextMs: number;
}

/** Milliseconds, from and to. */
type Range = readonly [number, number];
const LASTS_MS: Readonly<Record<FaultKind, Range>> = {
  kill: [0, 1_500],
  pause: [500, 5_000],
  cut: [1_000, 5_000],
  'cut-one-way': [1_000, 5_000],
};
const NEXT_MS: Range = [500, 3_500];
/** Shares of 12: as many kills as pauses as cuts; a fourth of the cuts is in one direction. */
const KIND_SHARES: readonly FaultKind[] = [
  ...(['kill', 'kill', 'kill', 'kill', 'pause', 'pause', 'pause', 'pause'] as const),
  ...(['cut', 'cut', 'cut', 'cut-one-way'] as const),
];

const between = (random: Random, [from, to]: Range): number => from + random.int(to - from + 1);

/** `count` faults; the same seed gives the same plan. */
export function planFaults(random: Random, count: number): Fault[] {
  return Array.from({ length: count }, () => {
    const kind = must(KIND_SHARES[random.int(KIND_SHARES.length)], 'kind');
    const chance = random.int(4);
    const two = kind === 'cut' || kind === 'cut-one-way';
    const victims = chance === 0 ? 'leader' : chance === 1 && two ? 'two' : 'one';
    return { kind, victims, lastsMs: between(random, LASTS_MS[kind]), nextMs: between(random, NEXT_MS) };
  });
}

export interface FaultsDone {
  byKind: Record<FaultKind, number>;
  onLeader: number;
  onTwo: number;
}

export interface FaultRun {
  lab: Lab;
  hosts: readonly string[];
  random: Random;
  /** The leader as a host that no fault hits sees it now; undefined when it sees none. */
  leader(askedHost: string): Promise<string | undefined>;
  /** Told when hosts go and come back. */
  note(text: string): void;
}

/** Puts a plan into effect. Faults overlap, but never hit so many hosts that no majority is left. */
export class Faults {
  readonly #run: FaultRun;
  readonly #hit = new Set<string>();
  readonly #underWay = new Set<Promise<void>>();
  #failure: unknown;
  readonly done: FaultsDone = { byKind: { kill: 0, pause: 0, cut: 0, 'cut-one-way': 0 }, onLeader: 0, onTwo: 0 };

  constructor(run: FaultRun) {
    this.#run = run;
  }

  /** Does the whole plan; all faults are over when it resolves. @throws what a fault threw, e.g. no start of a daemon */
  async play(plan: readonly Fault[]): Promise<void> {
    for (const fault of plan) {
      const victims = await this.#choose(fault);
      this.done.byKind[fault.kind]++;
      if (victims.length === 2) this.done.onTwo++;
      this.#begin(fault, victims);
      await systemClock.sleep(fault.nextMs);
      if (this.#failure !== undefined) break;
    }
    await Promise.all(this.#underWay);
    if (this.#failure !== undefined) throw this.#failure;
  }

  /** Waits until enough hosts are free of faults, and takes as many as the fault wants. */
  async #choose(fault: Fault): Promise<string[]> {
    const { hosts, random } = this.#run;
    const wanted = fault.victims === 'two' ? 2 : 1;
    const spare = Math.floor((hosts.length - 1) / 2);
    while (this.#hit.size + wanted > spare) await Promise.race(this.#underWay);
    const free = hosts.filter((host) => !this.#hit.has(host));
    const take = (): string => must(free.splice(random.int(free.length), 1)[0], 'host');
    const chosen = [take()];
    if (wanted === 2) chosen.push(take());
    if (fault.victims !== 'leader') return chosen;
    const leader = await this.#run.leader(must(free[0], 'another host'));
    if (leader === undefined || this.#hit.has(leader)) return chosen;
    this.done.onLeader++;
    return [leader];
  }

  #begin(fault: Fault, victims: readonly string[]): void {
    for (const host of victims) this.#hit.add(host);
    const work = this.#inflict(fault, victims)
      .catch((error: unknown) => {
        this.#failure ??= error;
      })
      .finally(() => {
        for (const host of victims) this.#hit.delete(host);
        this.#underWay.delete(work);
      });
    this.#underWay.add(work);
  }

  async #inflict({ kind, lastsMs, victims: whom }: Fault, victims: readonly string[]): Promise<void> {
    const { lab, note } = this.#run;
    const first = must(victims[0], 'victim');
    note(`${kind} ${victims.join('+')}${whom === 'leader' ? ' (leader)' : ''} ${lastsMs} ms`);
    switch (kind) {
      case 'kill':
        await lab.kill(first);
        await systemClock.sleep(lastsMs);
        await lab.start(first);
        break;
      case 'pause':
        lab.pause(first);
        await systemClock.sleep(lastsMs);
        lab.resume(first);
        break;
      case 'cut':
      case 'cut-one-way':
        await lab.partition(victims, kind === 'cut-one-way');
        await systemClock.sleep(lastsMs);
        await lab.heal(victims);
        break;
      default:
        unreachable(kind);
    }
  }
}
