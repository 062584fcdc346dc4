import { isShoalError } from '../base/index.ts';
import type { Task } from '../proto/index.ts';
import type { Constraint } from './constraint.ts';
import { parsePlacementHints, type PlacementHints } from './hints.ts';

/** A node, as far as it matters here (`NodeView`). */
export interface Place {
  readonly row: number;
  readonly isKnown: boolean;
}

/** Tasks of one service with the same name and labels: what affinities and priorities look at. */
export interface Kin {
  readonly serviceId: string;
  /** Name of the service; '' when the task does not tell. */
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly hints: PlacementHints;
  /** How many of them each node has that shall stay. */
  readonly active: Map<Place, number>;
  /** Tasks in the books, those that shall go included. */
  tasks: number;
}

const NO_LABELS: Readonly<Record<string, string>> = {};
const SERVICE_LABELS = 'service.labels.';

/** Hints of a stored task; unreadable ones (control refuses them) ask for nothing. */
function hintsOf(labels: Readonly<Record<string, string>>): PlacementHints {
  try {
    return parsePlacementHints(labels);
  } catch (error) {
    if (isShoalError(error, 'InvalidArgument')) return parsePlacementHints(undefined);
    throw error;
  }
}

function sameLabels(a: Readonly<Record<string, string>>, b: Readonly<Record<string, string>>): boolean {
  if (a === b) return true;
  let left = 0;
  for (const key in b) {
    if (a[key] !== b[key]) return false;
    left++;
  }
  for (const _key in a) left--;
  return left === 0;
}

/** Whether a service with this name and these labels meets an affinity's condition. Values compare as constraints do. */
export function meets(kin: Kin, { key, value }: Constraint): boolean {
  const isLabel = key.toLowerCase().startsWith(SERVICE_LABELS);
  const actual = isLabel ? kin.labels[key.slice(SERVICE_LABELS.length)] : kin.name;
  return actual !== undefined && actual.toLowerCase() === value.toLowerCase();
}

/** All kins that have tasks in the books, by service. */
export class Kinships {
  readonly #byService = new Map<string, Kin[]>();
  /** Those that keep others off their nodes. */
  readonly #excluding = new Set<Kin>();

  /** The kin of a task: the one in the books, or a new one, which is entered with its first task (`hold`). */
  of(task: Task): Kin {
    const name = task.service_annotations?.name ?? '';
    const labels = task.service_annotations?.labels ?? NO_LABELS;
    for (const kin of this.#byService.get(task.service_id) ?? []) {
      if (kin.name === name && sameLabels(kin.labels, labels)) return kin;
    }
    return { serviceId: task.service_id, name, labels, hints: hintsOf(labels), active: new Map(), tasks: 0 };
  }

  /** All kins of a service. */
  ofService(serviceId: string): readonly Kin[] {
    return this.#byService.get(serviceId) ?? [];
  }

  /** Kins that meet a condition. Looks at every service: asked only for groups that have affinities. */
  meeting(condition: Constraint): Kin[] {
    const found: Kin[] = [];
    for (const kins of this.#byService.values()) {
      for (const kin of kins) if (meets(kin, condition)) found.push(kin);
    }
    return found;
  }

  /** Kins that have an anti-affinity against this one. */
  excluding(kin: Kin): Kin[] {
    if (this.#excluding.size === 0) return [];
    return [...this.#excluding].filter((other) => other.hints.antiAffinity.some((one) => meets(kin, one)));
  }

  hold(kin: Kin): void {
    if (kin.tasks++ > 0) return;
    const kins = this.#byService.get(kin.serviceId);
    if (kins === undefined) this.#byService.set(kin.serviceId, [kin]);
    else kins.push(kin);
    if (kin.hints.antiAffinity.length > 0) this.#excluding.add(kin);
  }

  release(kin: Kin): void {
    if (--kin.tasks > 0) return;
    const left = this.ofService(kin.serviceId).filter((one) => one !== kin);
    if (left.length === 0) this.#byService.delete(kin.serviceId);
    else this.#byService.set(kin.serviceId, left);
    this.#excluding.delete(kin);
  }
}
