import { setImmediate as yieldLoop } from 'node:timers/promises';
import { readFileSync } from 'node:fs';
import { inNetworkNamespace } from '../../base/index.ts';
import { isNamespace } from '../kernel/index.ts';
import type { NamespaceState } from '../kernel/ops.ts';
import { compareItems, compareOps, compareSysctls, StateIndex, type Comparison, type Drift } from './compare.ts';
import { compareListings, parseListing, tablesOf, type Listing } from './nft-compare.ts';
import { RESOLVER_DRIFT, type NetworkRepairs, type RepairPlace } from './repairs.ts';
import {
  nftSourcesOf,
  placeOfNamespace,
  resolversOf,
  sourcesOf,
  type NftWant,
  type Source,
  type SourcesOptions,
  type Want,
} from './want.ts';
import type { WatchedKernel } from './watched-kernel.ts';

export interface ReconcilerOptions extends SourcesOptions {
  kernel: WatchedKernel;
  repairs: NetworkRepairs;
  /** Runs a job while nothing else changes what the lock's owner wants. */
  locked: <T>(lock: string, job: () => Promise<T>) => Promise<T>;
  /** Path of a namespace in which wanted tables are listed. */
  scratch: string;
}

/** Namespaces without news that are read all the same in one pass; all are, over the passes. */
const QUIET_PER_PASS_MAX = 16;
/** Resolvers that are looked after in one pass. */
const RESOLVERS_PER_PASS_MAX = 32;
/** Entries compared before the loop gets a turn. */
const COMPARED_PER_TURN = 512;
/** Listings of wanted texts that are kept. */
const LISTINGS_MAX = 4;
/** Places whose failed repairs are told once they hold. */
const OWED_MAX = 256;
/** What hangs on a link that was made anew may need a second look. */
const ROUNDS_MAX = 3;

/** Compares the kernel with what is wanted of it, and repairs it. Several passes must not run at once. */
export class Reconciler {
  readonly #o: ReconcilerOptions;
  /** Namespaces that were compared at least once. */
  readonly #seen = new Set<string | null>();
  /** What wanted texts look like when listed; the host's is asked for often where other programs use nft. */
  readonly #listings = new Map<string, Listing>();
  /** What was found of places whose repair failed: it is told when the place holds again, by whatever repaired it. */
  readonly #owed = new Map<string, readonly Drift[]>();
  #quietCursor = 0;
  #resolverCursor = 0;

  constructor(options: ReconcilerOptions) {
    this.#o = options;
  }

  /**
   * One pass: namespaces with news, and some without. @param deep sysctls too, and all namespaces if `all`.
   * Faults of one place are counted and do not keep others from their repair.
   */
  async pass(deep: boolean, all = false): Promise<void> {
    this.#restoreNamespaces();
    const byNamespace = group(sourcesOf(this.#o));
    for (const namespace of this.#seen) if (!byNamespace.has(namespace)) this.#seen.delete(namespace);
    const due = this.#due([...byNamespace.keys()], all);
    for (const [namespace, sources] of byNamespace) {
      if (due.has(namespace)) await this.#guarded(namespace, () => this.#compareNamespace(namespace, sources, deep));
      await yieldLoop();
    }
    for (const [namespace, sources] of group(nftSourcesOf(this.#o))) {
      await this.#guarded(namespace, () => this.#compareRules(namespace, sources));
    }
    await this.#checkResolvers(all);
  }

  #restoreNamespaces(): void {
    const { kernel, repairs } = this.#o;
    for (const path of kernel.restoreNamespaces()) {
      const drift: Drift = { kind: 'link', what: 'namespace', fault: 'missing', repair: [] };
      repairs.done(placeOfNamespace(this.#o, path), [drift]);
    }
  }

  /** A namespace that ended meanwhile has nothing to repair; other faults do not keep the rest from its repair. */
  async #guarded(namespace: string | null, job: () => Promise<void>): Promise<void> {
    if (namespace !== null && !isNamespace(namespace)) return;
    try {
      await job();
    } catch (error) {
      if (namespace !== null && !isNamespace(namespace)) return;
      this.#o.repairs.failure({ id: '', name: '', where: `in namespace ${namespace ?? 'of the host'}` }, [], error);
    }
  }

  /** Namespaces to be read now: with news, never read, and the next few of the rest. */
  #due(namespaces: readonly (string | null)[], all: boolean): Set<string | null> {
    const due = new Set<string | null>();
    const quiet: (string | null)[] = [];
    for (const namespace of namespaces) {
      if (namespace !== null && !isNamespace(namespace)) {
        this.#o.kernel.unwatch(namespace);
        continue;
      }
      const news = this.#o.kernel.watch(namespace).changed();
      if (news || all || !this.#seen.has(namespace)) due.add(namespace);
      else quiet.push(namespace);
    }
    for (const namespace of take(quiet, this.#quietCursor, QUIET_PER_PASS_MAX)) due.add(namespace);
    this.#quietCursor += QUIET_PER_PASS_MAX;
    return due;
  }

  async #compareNamespace(namespace: string | null, sources: readonly Source<Want>[], deep: boolean): Promise<void> {
    const state = await this.#o.kernel.state(namespace);
    this.#seen.add(namespace);
    const index = new StateIndex(state);
    for (const source of sources) {
      const want = source.want();
      if (want === undefined || want.namespace !== namespace) continue;
      const { drifts } = await compare(state, index, want, deep);
      // What was read may be older than what is wanted, so it is read again where nothing can change.
      if (drifts.length > 0) await this.#o.locked(source.lock, () => this.#repair(source, deep));
      else this.#tell(want.place, []);
    }
  }

  async #repair(source: Source<Want>, deep: boolean): Promise<void> {
    const { kernel, repairs } = this.#o;
    let found: Drift[] = [];
    for (let round = 0; round < ROUNDS_MAX; round++) {
      const want = source.want();
      if (want === undefined) return;
      try {
        const state = await kernel.state(want.namespace);
        const { drifts, lost } = await compare(state, new StateIndex(state), want, deep);
        if (round === 0) found = drifts;
        if (drifts.length === 0) break;
        if (lost.size > 0 && want.remake !== undefined) await want.remake(lost);
        else if (lost.size > 0) await kernel.apply(want.namespace, want.ops);
        else {
          await kernel.apply(
            want.namespace,
            drifts.flatMap((drift) => drift.repair),
          );
        }
      } catch (error) {
        repairs.failure(want.place, found, error);
        if (this.#owed.size < OWED_MAX) this.#owed.set(want.place.where, found);
        return;
      }
    }
    const place = source.want()?.place;
    if (place !== undefined) this.#tell(place, found);
  }

  /** Tells what was set right: now, and by an earlier pass that did not come to its end. */
  #tell(place: RepairPlace, found: readonly Drift[]): void {
    const owed = this.#owed.get(place.where) ?? [];
    this.#owed.delete(place.where);
    const named = new Set(found.map((drift) => drift.what));
    const all = [...found, ...owed.filter((drift) => !named.has(drift.what))];
    if (all.length > 0) this.#o.repairs.done(place, all);
  }

  /** Rule sets are listed only when another program's transaction has touched their namespace. */
  async #compareRules(namespace: string | null, sources: readonly Source<NftWant>[]): Promise<void> {
    const { kernel } = this.#o;
    if (!kernel.watch(namespace).foreign()) return;
    const generation = kernel.watch(namespace).generation();
    let clean = true;
    for (const source of sources) {
      const want = source.want();
      if (want === undefined || want.namespace !== namespace) continue;
      const drifts = compareListings(
        await this.#list(namespace, tablesOf(want.text)),
        await this.#listWanted(want.text),
      );
      if (drifts.length === 0) continue;
      clean = false;
      // Our own transaction came in between: the next pass looks again.
      if (source.want()?.text === want.text) await this.#o.locked(source.lock, () => this.#renew(source, drifts));
    }
    const watch = kernel.watch(namespace);
    if (clean && !watch.busy && watch.generation() === generation) watch.accept(generation);
  }

  async #renew(source: Source<NftWant>, drifts: readonly Drift[]): Promise<void> {
    const want = source.want();
    // What was removed meanwhile is left alone.
    if (want === undefined) return;
    try {
      await want.renew();
      this.#o.repairs.done(want.place, drifts);
    } catch (error) {
      this.#o.repairs.failure(want.place, drifts, error);
    }
  }

  async #list(namespace: string | null, tables: readonly string[]): Promise<Listing> {
    const parts = new Map<string, string>();
    for (const table of tables) {
      try {
        const text = await this.#o.kernel.nft(namespace, `list table ${table}\n`);
        for (const [name, part] of parseListing(text)) parts.set(name, part);
      } catch (error) {
        // The words of a table that is not there; any other fault is one.
        if (!/No such file or directory/.test(String(error))) throw error;
      }
    }
    return parts;
  }

  /** The wanted text in the kernel's words: it is put in place where it does nothing. */
  async #listWanted(text: string): Promise<Listing> {
    const { kernel, scratch } = this.#o;
    const known = this.#listings.get(text);
    if (known !== undefined) return known;
    await kernel.createNamespace(scratch);
    try {
      await kernel.nft(scratch, text);
      const listing = parseListing(await kernel.nft(scratch, 'list ruleset\n'));
      const [oldest] = this.#listings.keys();
      if (this.#listings.size >= LISTINGS_MAX && oldest !== undefined) this.#listings.delete(oldest);
      this.#listings.set(text, listing);
      return listing;
    } finally {
      kernel.removeNamespace(scratch);
    }
  }

  async #checkResolvers(all: boolean): Promise<void> {
    const resolvers = resolversOf(this.#o);
    const count = all ? resolvers.length : RESOLVERS_PER_PASS_MAX;
    const asked = take(resolvers, this.#resolverCursor, count);
    this.#resolverCursor += RESOLVERS_PER_PASS_MAX;
    await Promise.all(asked.map((place) => this.#checkResolver(place)));
  }

  async #checkResolver({ namespace, ...place }: RepairPlace & { namespace: string }): Promise<void> {
    const { names, repairs, sandboxes, locked } = this.#o;
    if (!isNamespace(namespace) || (await names.answers(place.id))) return;
    await locked(place.id, async () => {
      if (!sandboxes.has(place.id) || !isNamespace(namespace)) return;
      // While it was asked first, its container may still have been in the making.
      if (await names.answers(place.id)) return;
      try {
        await names.repair(place.id);
        repairs.done(place, [RESOLVER_DRIFT]);
      } catch (error) {
        repairs.failure(place, [RESOLVER_DRIFT], error);
      }
    });
  }
}

function group<W extends { namespace: string | null }>(sources: readonly Source<W>[]): Map<string | null, Source<W>[]> {
  const groups = new Map<string | null, Source<W>[]>();
  for (const source of sources) {
    const want = source.want();
    if (want === undefined) continue;
    const list = groups.get(want.namespace);
    if (list === undefined) groups.set(want.namespace, [source]);
    else list.push(source);
  }
  return groups;
}

/** At most `count` of a list, beginning at a cursor that goes round. */
function take<T>(list: readonly T[], cursor: number, count: number): T[] {
  const start = list.length === 0 ? 0 : cursor % list.length;
  return [...list.slice(start), ...list.slice(0, start)].slice(0, count);
}

async function compare(state: NamespaceState, index: StateIndex, want: Want, deep: boolean): Promise<Comparison> {
  const { drifts, lost } = compareOps(index, want.ops, want.own);
  if (deep) drifts.push(...compareSysctls(readSysctls(want), want.ops));
  if (want.items === undefined || lost.size > 0) return { drifts, lost };
  let count = 0;
  for (const drift of compareItems(want.items.read(state), want.items.wanted)) {
    if (drift !== undefined) drifts.push(drift);
    if (++count % COMPARED_PER_TURN === 0) await yieldLoop();
  }
  return { drifts, lost };
}

function readSysctls({ namespace, ops }: Want): Map<string, string> {
  const paths = ops.flatMap((op) => (op.kind === 'sysctl' ? [op.path] : []));
  const values = new Map<string, string>();
  if (paths.length === 0) return values;
  const read = (): void => {
    for (const path of paths) {
      try {
        values.set(path, readFileSync(`/proc/sys/${path}`, 'utf8').trim());
      } catch {
        // This kernel, or this namespace by now, has no such switch.
      }
    }
  };
  if (namespace === null) read();
  else inNetworkNamespace(namespace, read);
  return values;
}
