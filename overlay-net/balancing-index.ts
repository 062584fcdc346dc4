/** The balancing of one network, at the cost of what changes in its table. Pure: no I/O, clock or randomness. */
import type { NetworkEndpoint, NetworkService, NetworkTable } from '../proto/index.ts';
import { canonicalIp } from './ip.ts';
import { atOnce, MEMBERS_PER_TURN } from './paced.ts';
import { addressesOf } from './plan.ts';
import { placesOfVip, type Balancing } from './plan-balancing.ts';
import { changeSteps } from './table-change.ts';

/** Changes that are remembered; who is further behind is brought up to date whole. */
const JOURNAL_MAX = 8192;

/** A change of one virtual address; undefined: it was, or is, not there. */
export interface VipChange {
  before: readonly string[] | undefined;
  after: readonly string[] | undefined;
}

function vipsOf(service: NetworkService): string[] {
  return [canonicalIp(service.vip), canonicalIp(service.vip6)].filter((vip) => vip !== '');
}

export class BalancingIndex {
  /** Places by virtual address. A list is replaced when it changes, so the same list is the same content. */
  readonly #current = new Map<string, readonly string[]>();
  readonly #services = new Map<string, NetworkService>();
  readonly #tasks = new Map<string, Map<string, NetworkEndpoint>>();
  readonly #serviceOf = new Map<string, string>();
  /** Addresses that several tasks have had at once, as none should. */
  readonly #shared = new Set<string>();
  /** Services that hold a virtual address; mostly one. */
  readonly #holders = new Map<string, Set<string>>();
  #table: NetworkTable | undefined;
  #drained: ReadonlySet<string> = new Set();
  #journal: { vip: string; before: readonly string[] | undefined }[] = [];
  #first = 0;

  get current(): Balancing {
    return this.#current;
  }

  /** Number of changes so far. */
  get sequence(): number {
    return this.#first + this.#journal.length;
  }

  /** Takes the next table and the addresses of containers about to stop. */
  update(table: NetworkTable, drained: ReadonlySet<string>): void {
    atOnce(this.steps(table, drained));
  }

  /** As `update`, in steps; two must not run at once. */
  *steps(table: NetworkTable, drained: ReadonlySet<string>): Generator<undefined, void> {
    const services = new Set<string>();
    const vips = new Set<string>();
    this.#drain(drained, services);
    if (table !== this.#table) yield* this.#follow(table, services, vips);
    for (const id of services) {
      const service = this.#services.get(id);
      if (service !== undefined) for (const vip of vipsOf(service)) vips.add(vip);
    }
    let looked = 0;
    for (const vip of vips) {
      looked += this.#settle(vip);
      if (looked < MEMBERS_PER_TURN) continue;
      looked = 0;
      yield;
    }
    const excess = this.#journal.length - JOURNAL_MAX;
    if (excess <= 0) return;
    this.#journal = this.#journal.slice(excess);
    this.#first += excess;
  }

  #drain(drained: ReadonlySet<string>, services: Set<string>): void {
    const before = this.#drained;
    this.#drained = drained;
    for (const address of [...before, ...drained]) {
      if (before.has(address) && drained.has(address)) continue;
      const service = this.#serviceOf.get(address);
      if (this.#shared.has(address)) for (const id of this.#services.keys()) services.add(id);
      else if (service !== undefined) services.add(service);
    }
  }

  *#follow(table: NetworkTable, services: Set<string>, vips: Set<string>): Generator<undefined, void> {
    const change = yield* changeSteps(this.#table, table);
    this.#table = table;
    for (const { before } of change.endpoints) if (before !== undefined) this.#leave(before, services);
    let count = 0;
    for (const { after } of change.endpoints) {
      if (after !== undefined) this.#join(after, services);
      if (++count % MEMBERS_PER_TURN === 0) yield;
    }
    for (const { before, after } of change.services) {
      for (const vip of before === undefined ? [] : vipsOf(before)) {
        vips.add(vip);
        const holders = this.#holders.get(vip);
        holders?.delete(before?.service_id ?? '');
        if (holders?.size === 0) this.#holders.delete(vip);
      }
      if (after === undefined) this.#services.delete(before?.service_id ?? '');
      else this.#services.set(after.service_id, after);
    }
    for (const { after } of change.services) {
      for (const vip of after === undefined ? [] : vipsOf(after)) {
        vips.add(vip);
        const holders = this.#holders.get(vip) ?? new Set();
        this.#holders.set(vip, holders.add(after?.service_id ?? ''));
      }
    }
  }

  #leave(endpoint: NetworkEndpoint, services: Set<string>): void {
    const { service_id: service } = endpoint;
    services.add(service);
    const tasks = this.#tasks.get(service);
    tasks?.delete(endpoint.task_id);
    if (tasks?.size === 0) this.#tasks.delete(service);
    for (const address of addressesOf(endpoint)) this.#serviceOf.delete(address);
  }

  #join(endpoint: NetworkEndpoint, services: Set<string>): void {
    const { service_id: service } = endpoint;
    services.add(service);
    let tasks = this.#tasks.get(service);
    if (tasks === undefined) this.#tasks.set(service, (tasks = new Map()));
    tasks.set(endpoint.task_id, endpoint);
    for (const address of addressesOf(endpoint)) {
      if (this.#serviceOf.has(address)) this.#shared.add(address);
      this.#serviceOf.set(address, service);
    }
  }

  /** Returns how much it looked at. */
  #settle(vip: string): number {
    const before = this.#current.get(vip);
    const [holder] = [...(this.#holders.get(vip) ?? [])].sort();
    const tasks = holder === undefined ? undefined : (this.#tasks.get(holder)?.values() ?? []);
    const after = tasks === undefined ? undefined : placesOfVip(vip, tasks, this.#drained);
    const looked = 1 + (after?.length ?? 0);
    if (before === after || (before !== undefined && after !== undefined && sameList(before, after))) return looked;
    if (after === undefined) this.#current.delete(vip);
    else this.#current.set(vip, after);
    this.#journal.push({ vip, before });
    return looked;
  }

  /** What changed since `sequence`; undefined when that is not known any more. */
  since(sequence: number): Map<string, VipChange> | undefined {
    if (sequence < this.#first) return undefined;
    const changes = new Map<string, VipChange>();
    for (let at = sequence - this.#first; at < this.#journal.length; at++) {
      const entry = this.#journal[at];
      if (entry === undefined || changes.has(entry.vip)) continue;
      changes.set(entry.vip, { before: entry.before, after: this.#current.get(entry.vip) });
    }
    return changes;
  }

  /** The balancing as of `sequence`; undefined when that is not known any more. */
  at(sequence: number): Balancing | undefined {
    if (sequence === this.sequence) return this.#current;
    const changes = this.since(sequence);
    if (changes === undefined) return undefined;
    const then = new Map(this.#current);
    for (const [vip, { before }] of changes) {
      if (before === undefined) then.delete(vip);
      else then.set(vip, before);
    }
    return then;
  }
}

function sameList(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((one, i) => one === b[i]);
}

/** Serving addresses behind each virtual address of a network; `drained` addresses are left out. */
export function balancingOf(table: NetworkTable, drained: ReadonlySet<string>): Balancing {
  const index = new BalancingIndex();
  index.update(table, drained);
  return index.current;
}
