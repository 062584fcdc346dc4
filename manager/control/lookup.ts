import { invalidArgument, notFound } from '../../base/index.ts';
import type { Kind, ReadView, Tables } from '../store/types.ts';
import { taskName } from './names.ts';

/** Objects whose full name this is. */
function named<K extends Kind>(view: ReadView, kind: K, name: string): Tables[K][] {
  if (kind === 'node') {
    // Hostnames may be shared by several nodes.
    return view.list('node').filter((node) => node.description?.hostname === name) as Tables[K][];
  }
  if (kind === 'task') {
    const task = view.get('task', name.slice(name.lastIndexOf('.') + 1));
    if (task !== undefined && taskName(task) === name) return [task as Tables[K]];
  }
  const found = view.byName(kind, name);
  return found === undefined ? [] : [found];
}

/**
 * The object that a user's reference stands for: a full id, else a full name, else a prefix of one id only.
 * @throws ShoalError NotFound, or InvalidArgument when it is ambiguous or empty.
 */
export function resolve<K extends Kind>(view: ReadView, kind: K, reference: string): Tables[K] {
  if (reference === '') throw invalidArgument(`a ${kind} id or name must be provided`);
  const exact = view.get(kind, reference);
  if (exact !== undefined) return exact;
  const byName = named(view, kind, reference);
  const found = byName.length > 0 ? byName : view.byIdPrefix(kind, reference);
  if (found.length > 1) throw invalidArgument(`${kind} ${reference} is ambiguous (${found.length} matches found)`);
  const [only] = found;
  if (only === undefined) throw notFound(`${kind} ${reference} not found`);
  return only;
}

/** As `resolve`, but undefined instead of an error. */
export function tryResolve<K extends Kind>(view: ReadView, kind: K, reference: string): Tables[K] | undefined {
  const exact = view.get(kind, reference);
  if (exact !== undefined) return exact;
  const byName = named(view, kind, reference);
  const found = byName.length > 0 ? byName : view.byIdPrefix(kind, reference);
  return found.length === 1 ? found[0] : undefined;
}
