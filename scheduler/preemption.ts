import { isTaken, type Demand } from './demand.ts';
import type { Held, NodeView, Promised } from './node-view.ts';

/** Room on a node for one task: who must leave. Empty when those who are leaving already make room enough. */
export interface RoomPlan {
  view: NodeView;
  victims: readonly Held[];
}

/** Amounts of everything that a removal can free: CPU, memory, places of the service, units by kind, ports. */
type Amounts = number[];

/** Reads amounts of one demand, always in the same order. */
class Ledger {
  readonly #demand: Demand;
  readonly #kinds: readonly string[];

  constructor(demand: Demand) {
    this.#demand = demand;
    this.#kinds = [...demand.wanted.generic.keys()];
  }

  wanted(): Amounts {
    const { wanted, most, ports } = this.#demand;
    const units = this.#kinds.map((kind) => wanted.generic.get(kind) ?? 0);
    return [wanted.nanoCpus, wanted.memoryBytes, most === 0 ? 0 : 1, ...units, ...ports.map(() => 1)];
  }

  free(view: NodeView): Amounts {
    const { most, ports, kin } = this.#demand;
    const { nanoCpus, memoryBytes } = view.free;
    return [
      nanoCpus,
      memoryBytes,
      most - (most === 0 ? 0 : view.activeTasks(kin.serviceId)),
      ...this.#kinds.map((kind) => view.units(kind)),
      ...ports.map((port) => 1 - view.holdersOfPort(port).length),
    ];
  }

  promised(room: Promised): Amounts {
    const { ports, groupKey } = this.#demand;
    return [
      room.nanoCpus,
      room.memoryBytes,
      room.groupKey === groupKey ? 1 : 0,
      ...this.#kinds.map((kind) => room.generic.get(kind) ?? 0),
      ...ports.map((port) => (isTaken(port, room.ports) ? 1 : 0)),
    ];
  }

  /** What a task's end gives back. Only tasks that shall stay count for the places of the service. */
  held({ nanoCpus, memoryBytes, active, kin, generic, ports }: Held): Amounts {
    const mine = kin.serviceId === this.#demand.kin.serviceId;
    const units = (kind: string): number =>
      generic.reduce((sum, { named_resource_spec: named, discrete_resource_spec: discrete }) => {
        if (named !== undefined) return sum + (named.kind === kind ? 1 : 0);
        return sum + (discrete?.kind === kind ? discrete.value : 0);
      }, 0);
    return [
      nanoCpus,
      memoryBytes,
      active && mine ? 1 : 0,
      ...this.#kinds.map(units),
      ...this.#demand.ports.map((port) => (isTaken(port, ports) ? 1 : 0)),
    ];
  }
}

function add(to: Amounts, amounts: Amounts, sign: 1 | -1): void {
  for (let i = 0; i < to.length; i++) to[i] = (to[i] as number) + sign * (amounts[i] as number);
}

function isCovered(need: Amounts): boolean {
  return need.every((one) => one <= 0);
}

/** Whether giving back these amounts brings the need down anywhere. */
function helps(need: Amounts, amounts: Amounts): boolean {
  return need.some((one, i) => one > 0 && (amounts[i] as number) > 0);
}

interface Candidate {
  held: Held;
  gives: Amounts;
}

/** Lowest priority first, then the youngest. */
function byRank(a: Candidate, b: Candidate): number {
  const priority = a.held.kin.hints.priority - b.held.kin.hints.priority;
  if (priority !== 0) return priority;
  return b.held.bornMs - a.held.bornMs || (a.held.id < b.held.id ? -1 : 1);
}

/** Greatest share of the need first: fewer have to leave. */
function byHelp(need: Amounts): (a: Candidate, b: Candidate) => number {
  const share = ({ gives }: Candidate): number =>
    need.reduce((sum, one, i) => (one > 0 ? sum + Math.min(1, (gives[i] as number) / one) : sum), 0);
  return (a, b) => share(b) - share(a) || byRank(a, b);
}

/** Takes candidates in order until the need is covered, then lets those stay that turn out not to be needed. */
function choose(need: Amounts, candidates: readonly Candidate[]): Candidate[] | undefined {
  const left = [...need];
  const chosen: Candidate[] = [];
  for (const candidate of candidates) {
    if (isCovered(left)) break;
    if (!helps(left, candidate.gives)) continue;
    add(left, candidate.gives, -1);
    chosen.push(candidate);
  }
  if (!isCovered(left)) return undefined;
  for (const candidate of chosen.toSorted(byRank).toReversed()) {
    add(left, candidate.gives, 1);
    if (isCovered(left)) chosen.splice(chosen.indexOf(candidate), 1);
    else add(left, candidate.gives, -1);
  }
  return chosen.toSorted(byRank);
}

/** Those that the group must be beside cannot make room for it: it would find its place gone with them. */
function mayLeave({ kin }: Held, demand: Demand): boolean {
  return kin.hints.priority < demand.priority && !demand.near.some(({ kins }) => kins.includes(kin));
}

/**
 * Who must leave a node so that one more task of the group fits there, as few as can be, of lower priority than the
 * group's; undefined when that does not help. Tasks that are told to go already are taken as gone, promised room as taken.
 */
export function planRoom(view: NodeView, demand: Demand): RoomPlan | undefined {
  const ledger = new Ledger(demand);
  const need = ledger.wanted();
  const wanted = [...need];
  add(need, ledger.free(view), -1);
  for (const room of view.promises) add(need, ledger.promised(room), 1);
  const candidates: Candidate[] = [];
  for (const held of view.tasks) {
    if (!held.active) add(need, ledger.held(held), -1);
    else if (mayLeave(held, demand)) candidates.push({ held, gives: ledger.held(held) });
  }
  // What is not asked for cannot be lacking, though a node may have less than nothing of it.
  for (let i = 0; i < need.length; i++) if (wanted[i] === 0) need[i] = 0;
  if (isCovered(need)) return { view, victims: [] };
  const lowest = choose(need, candidates.toSorted(byRank));
  if (lowest === undefined) return undefined;
  const fewest = choose(need, candidates.toSorted(byHelp(need))) ?? lowest;
  const chosen = fewest.length < lowest.length ? fewest : lowest;
  return { view, victims: chosen.map((one) => one.held) };
}

function highest({ victims }: RoomPlan): number {
  return victims.reduce((most, one) => Math.max(most, one.kin.hints.priority), -1);
}

function oldestMs({ victims }: RoomPlan): number {
  return victims.reduce((least, one) => Math.min(least, one.bornMs), Number.POSITIVE_INFINITY);
}

/** Whether one plan costs less: fewer victims, then of lower priority, then younger ones; then by the node's id. */
export function isCheaper(a: RoomPlan, b: RoomPlan): boolean {
  if (a.victims.length !== b.victims.length) return a.victims.length < b.victims.length;
  if (highest(a) !== highest(b)) return highest(a) < highest(b);
  if (oldestMs(a) !== oldestMs(b)) return oldestMs(a) > oldestMs(b);
  return a.view.id < b.view.id;
}
