import { StoreActionKind, type StoreAction } from '../../proto/index.ts';
import { KINDS, UNIQUE_NAMES, nameOf, type TableSet } from './tables.ts';
import type { Change, Kind, Tables } from './types.ts';

/** What an entry did: its changes, or why the whole of it was dropped. */
export type Applied = { ok: true; changes: Change[] } | { ok: false; reason: string };

interface Step {
  kind: Kind;
  action: StoreActionKind;
  object: Tables[Kind];
}

/** The object of an action, with its kind; undefined for kinds that this program does not keep (it skips them). */
function stepOf(action: StoreAction): Step | undefined {
  for (const kind of KINDS) {
    const object = action[kind];
    if (object !== undefined) return { kind, action: action.action, object };
  }
  return undefined;
}

/** The raft index at which an object was last changed; 0 for one that was never stored. */
export function versionOf(object: { meta: { version: { index: number } | null } | null } | undefined): number {
  return object?.meta?.version?.index ?? 0;
}

/**
 * Why the steps do not fit the tables, or undefined when they do. Each action carries the version its proposer saw. An
 * entry whose proposer had not seen everything before it (its earlier proposal ended in doubt, or it is a repetition)
 * is thereby dropped on every replica alike, instead of undoing what it did not know.
 */
function misfit(tables: TableSet, steps: readonly Step[]): string | undefined {
  const touched = new Set(steps.map((step) => `${step.kind}/${step.object.id}`));
  const names = new Set<string>();
  for (const { kind, action, object } of steps) {
    const stored = tables.get(kind, object.id);
    if (action === StoreActionKind.STORE_ACTION_CREATE) {
      if (stored !== undefined) return `${kind} ${object.id} already exists`;
    } else if (stored === undefined) {
      return `${kind} ${object.id} not found`;
    } else if (versionOf(stored) !== versionOf(object)) {
      return `${kind} ${object.id}: update out of sequence`;
    }
    const name = nameOf(kind, object);
    if (action === StoreActionKind.STORE_ACTION_REMOVE || !UNIQUE_NAMES.has(kind) || name === '') continue;
    const taken = tables.named(kind, name).some((other) => !touched.has(`${kind}/${other.id}`));
    if (taken || names.has(`${kind}/${name}`)) return `${kind} ${name} already exists`;
    names.add(`${kind}/${name}`);
  }
  return undefined;
}

function change<K extends Kind>(tables: TableSet, kind: K, action: StoreActionKind, object: Tables[K]): Change {
  const old = tables.get(kind, object.id);
  if (action === StoreActionKind.STORE_ACTION_REMOVE) {
    tables.remove(kind, object.id);
    return { kind, action: 'remove', object: old as Tables[K], old } as Change;
  }
  tables.put(kind, object);
  if (old === undefined) return { kind, action: 'create', object } as Change;
  return { kind, action: 'update', object, old } as Change;
}

/**
 * Applies one entry's actions, all or none. Deterministic: the same tables and actions give the same result on every
 * replica. The version of every changed object becomes `index`, the raft index of the entry. The objects of `actions`
 * become the store's own.
 */
export function applyActions(tables: TableSet, actions: readonly StoreAction[], index: number): Applied {
  const steps = actions.map(stepOf).filter((step) => step !== undefined);
  const reason = misfit(tables, steps);
  if (reason !== undefined) return { ok: false, reason };
  const changes = steps.map(({ kind, action, object }) => {
    object.meta = {
      version: { index },
      created_at: object.meta?.created_at ?? null,
      updated_at: object.meta?.updated_at ?? null,
    };
    return change(tables, kind, action, object);
  });
  return { ok: true, changes };
}
