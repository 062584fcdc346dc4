/** Plans that follow a network's table at the cost of what changed in it. Pure: no I/O, clock or randomness. */
import type { NetworkEndpoint, NetworkTable } from '../proto/index.ts';
import { canonicalIp, familyOf, type Family } from './ip.ts';
import type { Op } from './kernel/ops.ts';
import {
  entryItems,
  ingressFamilies,
  ingressItems,
  localEntryItems,
  overlayFacts,
  overlayItems,
  sameOp,
  undo,
  type Items,
  type Underlay,
} from './plan.ts';
import { atOnce, MEMBERS_PER_TURN } from './paced.ts';
import { changeSteps, type TableChange } from './table-change.ts';

/** Of two tasks that claim one address, which counts: one that serves, else the one with the greater id. */
function counts(endpoint: NetworkEndpoint, known: NetworkEndpoint): boolean {
  if (endpoint.serving !== known.serving) return endpoint.serving;
  return endpoint.task_id > known.task_id;
}

/**
 * What the kernel shall hold of one overlay. Whatever the sequence of tables, the items are a function of the last one
 * and of this host's place.
 */
export class LivePlan {
  /** Of the last table; changed in place by `update`. */
  readonly items: Map<string, Op> = new Map();
  readonly #ingress: boolean;
  #table: NetworkTable | undefined;
  #underlay: Underlay | undefined;
  #families: readonly Family[] = [4];
  /** How many tasks claim a key, of those that more than one claims. */
  readonly #claims = new Map<string, number>();
  /** How many members and tasks are behind each tunnel end point, this host's own left out. */
  #vteps = new Map<string, number>();
  #peers: readonly string[] | undefined;

  constructor(ingress: boolean) {
    this.#ingress = ingress;
  }

  /** VTEPs of all other hosts on the network that this one can reach, in order; the same array until they change. */
  get peers(): readonly string[] {
    return (this.#peers ??= [...this.#vteps.keys()].filter((vtep) => this.#reaches(vtep)).sort());
  }

  /** Takes the next table; returns the batch that leads from the items before to those now, removals first. */
  update(table: NetworkTable, underlay: Underlay | undefined): Op[] {
    return atOnce(this.steps(table, underlay));
  }

  /** As `update`, in steps. `peers` is right from the first on, the items are with the last. */
  *steps(table: NetworkTable, underlay: Underlay | undefined): Generator<undefined, Op[]> {
    const families = this.#ingress ? ingressFamilies(overlayFacts(table)) : this.#families;
    const touched = new Map<string, Op | undefined>();
    const elsewhere = this.#underlay !== underlay || this.#families.length !== families.length;
    const anew = this.#table === undefined || elsewhere;
    const change = yield* changeSteps(anew ? undefined : this.#table, table);
    const vteps = yield* this.#countAll(change, anew ? new Map<string, number>() : new Map(this.#vteps), underlay);
    if (anew) this.#restart(touched, underlay, families);
    this.#vteps = vteps.counts;
    if (anew || vteps.changed.size > 0) this.#peers = undefined;
    yield* this.#follow(touched, table, change.endpoints);
    this.#followHosts(touched, vteps.changed);
    this.#table = table;
    return this.#batch(touched);
  }

  /** Forgets all but the keys that were there. */
  #restart(touched: Map<string, Op | undefined>, underlay: Underlay | undefined, families: readonly Family[]): void {
    for (const [key, op] of this.items) touched.set(key, op);
    this.items.clear();
    this.#claims.clear();
    this.#table = undefined;
    this.#underlay = underlay;
    this.#families = families;
    if (this.#ingress) for (const [key, op] of localEntryItems(families)) this.#put(touched, key, op);
  }

  /** Tasks and members behind each tunnel end point after a change, and the end points that came or went. */
  *#countAll(
    { endpoints, peers }: TableChange,
    counts: Map<string, number>,
    underlay: Underlay | undefined,
  ): Generator<undefined, { counts: Map<string, number>; changed: Set<string> }> {
    const changed = new Set<string>();
    const add = (one: { node_id: string; vtep: string } | undefined, by: 1 | -1): void => {
      const vtep = one === undefined || one.node_id === underlay?.nodeId ? '' : canonicalIp(one.vtep);
      if (vtep === '') return;
      const before = counts.get(vtep) ?? 0;
      if (before + by === 0) counts.delete(vtep);
      else counts.set(vtep, before + by);
      if (before === 0 || before + by === 0) changed.add(vtep);
    };
    let count = 0;
    for (const { before, after } of [...peers, ...endpoints]) {
      add(after, 1);
      add(before, -1);
      if (++count % MEMBERS_PER_TURN === 0) yield;
    }
    return { counts, changed };
  }

  *#follow(
    touched: Map<string, Op | undefined>,
    table: NetworkTable,
    endpoints: TableChange['endpoints'],
  ): Generator<undefined, void> {
    const contended = new Set<string>();
    let count = 0;
    for (const { before } of endpoints) {
      if (before !== undefined) this.#leave(touched, before, contended);
      if (++count % MEMBERS_PER_TURN === 0) yield;
    }
    for (const { after } of endpoints) {
      if (after !== undefined) this.#join(touched, after, contended);
      if (++count % MEMBERS_PER_TURN === 0) yield;
    }
    if (contended.size > 0) this.#settle(touched, table, contended);
  }

  /** The ways to other hosts of the ingress network. */
  #followHosts(touched: Map<string, Op | undefined>, vteps: ReadonlySet<string>): void {
    if (!this.#ingress || this.#underlay === undefined) return;
    for (const vtep of vteps) {
      if (!this.#reaches(vtep)) continue;
      for (const [key, op] of entryItems(vtep, this.#families)) {
        if (this.#vteps.has(vtep)) this.#put(touched, key, op);
        else this.#drop(touched, key);
      }
    }
  }

  #itemsOf(endpoint: NetworkEndpoint): [string, Op][] {
    const underlay = this.#underlay;
    if (underlay === undefined) return [];
    return this.#ingress ? ingressItems(endpoint, underlay, this.#families) : overlayItems(endpoint, underlay);
  }

  #leave(touched: Map<string, Op | undefined>, endpoint: NetworkEndpoint, contended: Set<string>): void {
    for (const [key] of this.#itemsOf(endpoint)) {
      const claims = this.#claims.get(key) ?? 1;
      if (claims > 2) this.#claims.set(key, claims - 1);
      else this.#claims.delete(key);
      if (claims > 1) contended.add(key);
      else this.#drop(touched, key);
    }
  }

  #join(touched: Map<string, Op | undefined>, endpoint: NetworkEndpoint, contended: Set<string>): void {
    for (const [key, op] of this.#itemsOf(endpoint)) {
      if (this.items.has(key)) {
        this.#claims.set(key, (this.#claims.get(key) ?? 1) + 1);
        contended.add(key);
      } else this.#put(touched, key, op);
    }
  }

  /** Decides who counts where several tasks claim a key, or did; this alone looks at the whole table. */
  #settle(touched: Map<string, Op | undefined>, table: NetworkTable, contended: ReadonlySet<string>): void {
    const best = new Map<string, { endpoint: NetworkEndpoint; op: Op }>();
    for (const endpoint of table.endpoints) {
      for (const [key, op] of this.#itemsOf(endpoint)) {
        if (!contended.has(key)) continue;
        const known = best.get(key);
        if (known === undefined || counts(endpoint, known.endpoint)) best.set(key, { endpoint, op });
      }
    }
    for (const [key, { op }] of best) this.#put(touched, key, op);
  }

  #reaches(vtep: string): boolean {
    const own = this.#underlay?.vtep;
    return own === undefined || (vtep !== canonicalIp(own) && familyOf(vtep) === familyOf(own));
  }

  #put(touched: Map<string, Op | undefined>, key: string, op: Op): void {
    if (!touched.has(key)) touched.set(key, this.items.get(key));
    this.items.set(key, op);
  }

  #drop(touched: Map<string, Op | undefined>, key: string): void {
    if (!touched.has(key)) touched.set(key, this.items.get(key));
    this.items.delete(key);
  }

  #batch(touched: ReadonlyMap<string, Op | undefined>): Op[] {
    const ops: Op[] = [];
    for (const [key, before] of touched) if (before !== undefined && !this.items.has(key)) ops.push(undo(before));
    for (const [key, before] of touched) {
      const after = this.items.get(key);
      if (after !== undefined && (before === undefined || !sameOp(before, after))) ops.push(after);
    }
    return ops;
  }
}

/** Neighbours and forwarding entries of a bridged overlay, from its table alone. */
export function planOverlay(table: NetworkTable, underlay: Underlay | undefined): Items {
  const plan = new LivePlan(false);
  plan.update(table, underlay);
  return plan.items;
}

/** Routes to remote tasks, next hops, and the way back to each entry host of the routed ingress network. */
export function planIngress(table: NetworkTable, underlay: Underlay | undefined): Items {
  const plan = new LivePlan(true);
  plan.update(table, underlay);
  return plan.items;
}
