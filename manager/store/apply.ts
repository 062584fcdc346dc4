import { StoreActionKind, type StoreAction, type Task, type TaskPatch } from '../../proto/index.ts';
import { KINDS, UNIQUE_NAMES, nameOf, type TableSet } from './tables.ts';
import { patched } from './task-parts.ts';
import type { Change, Kind, Tables } from './types.ts';

/** What an entry did: its changes, or why the whole of it was dropped. */
export type Applied = { ok: true; changes: Change[] } | { ok: false; reason: string };

/** One object's change as an entry says it; the object becomes the store's own. */
export interface Step {
  kind: Kind;
  action: StoreActionKind;
  id: string;
  /** Version that the proposer saw. */
  version: number;
  /** The new object; for a removal one with its id alone; a patch is applied to what is stored. */
  object: Tables[Kind] | { patch: TaskPatch };
}

/** The step of an action; undefined for kinds that this program does not keep (it skips them). */
function stepOf(action: StoreAction): Step | undefined {
  const patch = action.task_patch;
  if (patch !== undefined) {
    return { kind: 'task', action: action.action, id: patch.id, version: patch.version, object: { patch } };
  }
  for (const kind of KINDS) {
    const object = action[kind];
    if (object === undefined) continue;
    return { kind, action: action.action, id: object.id, version: versionOf(object), object };
  }
  return undefined;
}

/** The steps of an entry's actions. */
export function stepsOf(actions: readonly StoreAction[]): Step[] {
  return actions.map(stepOf).filter((step) => step !== undefined);
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
  for (const { kind, action, id, version } of steps) {
    const stored = tables.get(kind, id);
    if (action === StoreActionKind.STORE_ACTION_CREATE) {
      if (stored !== undefined) return `${kind} ${id} already exists`;
    } else if (stored === undefined) {
      return `${kind} ${id} not found`;
    } else if (versionOf(stored) !== version) {
      return `${kind} ${id}: update out of sequence`;
    }
  }
  return nameTaken(
    tables,
    steps.filter((step) => UNIQUE_NAMES.has(step.kind)),
  );
}

function nameTaken(tables: TableSet, steps: readonly Step[]): string | undefined {
  const touched = new Set(steps.map((step) => `${step.kind}/${step.id}`));
  const names = new Set<string>();
  for (const { kind, action, object } of steps) {
    if (action === StoreActionKind.STORE_ACTION_REMOVE || 'patch' in object) continue;
    const name = nameOf(kind, object);
    if (name === '') continue;
    const taken = tables.named(kind, name).some((other) => !touched.has(`${kind}/${other.id}`));
    if (taken || names.has(`${kind}/${name}`)) return `${kind} ${name} already exists`;
    names.add(`${kind}/${name}`);
  }
  return undefined;
}

function applyOne(tables: TableSet, { kind, action, id, object }: Step, index: number): Change {
  const old = tables.get(kind, id);
  if (action === StoreActionKind.STORE_ACTION_REMOVE) {
    tables.remove(kind, id);
    return { kind, action: 'remove', object: old, old } as Change;
  }
  const now = 'patch' in object ? patched(old as Task, object.patch) : object;
  now.meta = {
    version: { index },
    created_at: now.meta?.created_at ?? null,
    updated_at: now.meta?.updated_at ?? null,
  };
  tables.put(kind, now);
  if (old === undefined) return { kind, action: 'create', object: now } as Change;
  return { kind, action: 'update', object: now, old } as Change;
}

/**
 * Applies one entry's steps, all or none. Deterministic: the same tables and steps give the same result on every
 * replica. The version of every changed object becomes `index`, the raft index of the entry. The objects of `steps`
 * become the store's own.
 */
export function applySteps(tables: TableSet, steps: readonly Step[], index: number): Applied {
  const reason = misfit(tables, steps);
  if (reason !== undefined) return { ok: false, reason };
  return { ok: true, changes: steps.map((step) => applyOne(tables, step, index)) };
}
