import type { Columns } from './columns.ts';
import type { Demand } from './demand.ts';
import type { Filter } from './filters/filter.ts';
import { pluginsOf } from './filters/plugin.ts';
import { fixedFiltersFor, passes } from './pipeline.ts';
import type { NodeView } from './node-view.ts';

/** Sets of conditions whose answers are kept; a byte and a version for each node. */
const SETS_MAX = 128;

/** Which nodes pass one set of fixed filters; a node is asked again only when it has changed. */
export class FixedFits {
  readonly #filters: readonly Filter[];
  readonly #columns: Columns;
  #fits = new Uint8Array(0);
  #versions = new Uint32Array(0);
  /** `columns.changes` when all nodes were last up to date. */
  #seen = -1;

  constructor(filters: readonly Filter[], columns: Columns) {
    this.#filters = filters;
    this.#columns = columns;
  }

  /** 1 for each row whose node passes; right until a node changes. @param views by row. */
  upToDate(views: readonly (NodeView | undefined)[]): Uint8Array {
    if (this.#seen === this.#columns.changes) return this.#fits;
    const { version, capacity } = this.#columns;
    if (this.#fits.length < capacity) {
      const fits = new Uint8Array(capacity);
      fits.set(this.#fits);
      const versions = new Uint32Array(capacity);
      versions.set(this.#versions);
      this.#fits = fits;
      this.#versions = versions;
    }
    for (let row = 0; row < views.length; row++) {
      if (this.#versions[row] === version[row]) continue;
      const view = views[row];
      this.#fits[row] = view?.isKnown === true && passes(this.#filters, view) ? 1 : 0;
      this.#versions[row] = version[row] as number;
    }
    this.#seen = this.#columns.changes;
    return this.#fits;
  }
}

/** What the fixed filters of a group depend on; '' when it has none. */
function keyOf(demand: Demand): string {
  const spec = demand.task.spec;
  const constraints = spec?.placement?.constraints ?? [];
  const platforms = spec?.placement?.platforms ?? [];
  const plugins = pluginsOf(demand.task);
  const mounts = (spec?.container?.mounts ?? []).map((mount) => mount.type);
  const isFree = constraints.length + platforms.length + plugins.length + mounts.length === 0;
  return isFree ? '' : JSON.stringify([constraints, platforms, plugins, mounts]);
}

/** Kept answers of the fixed filters, for groups that come again and for groups alike. */
export class FixedFitsCache {
  readonly #columns: Columns;
  readonly #sets = new Map<string, FixedFits>();

  constructor(columns: Columns) {
    this.#columns = columns;
  }

  /** Undefined when the group puts no fixed condition on its nodes. */
  of(demand: Demand): FixedFits | undefined {
    const key = keyOf(demand);
    if (key === '') return undefined;
    const fits = this.#sets.get(key) ?? new FixedFits(fixedFiltersFor(demand), this.#columns);
    // Used last, forgotten last.
    this.#sets.delete(key);
    this.#sets.set(key, fits);
    if (this.#sets.size > SETS_MAX) {
      const oldest = this.#sets.keys().next();
      if (oldest.done !== true) this.#sets.delete(oldest.value);
    }
    return fits;
  }
}
