import { TaskPatch, TaskTemplate, type Task } from '../../proto/index.ts';
import { sameMessage } from './dirty.ts';

/** What `TaskPatch.fields` names, bit by bit. Numbers stay: they stand in logs. */
const PATCH_BITS = {
  status: 1,
  node_id: 2,
  desired_state: 4,
  stopped_for: 8,
  assigned_generic_resources: 16,
  networks: 32,
  endpoint: 64,
  started_at: 128,
} as const;

type Patched = keyof typeof PATCH_BITS;

/** What the tasks of one version of a service have in common, most of their bytes. */
export const TEMPLATE_FIELDS = ['spec', 'service_annotations', 'endpoint', 'log_driver', 'spec_version'] as const;

const NO_TEMPLATE = { spec: null, service_annotations: null, endpoint: null, log_driver: null, spec_version: null };

/**
 * The patch that makes `current` of `base`, or undefined when more differs than a patch can say. Objects are compared by
 * identity: whoever changes a task takes over what he does not change.
 * @param baseVersion version of `base`, which the proposer saw.
 */
export function patchOf(base: Task, current: Task, baseVersion: number): TaskPatch | undefined {
  let fields = 0;
  let members = 0;
  for (const key in current) {
    members++;
    const name = key as keyof Task;
    if (name === 'meta' || current[name] === base[name]) continue;
    const bit = PATCH_BITS[name as Patched] as number | undefined;
    if (bit === undefined) return undefined;
    fields |= bit;
  }
  if (members !== Object.keys(base).length) return undefined;
  const has = (name: Patched): boolean => (fields & PATCH_BITS[name]) !== 0;
  return {
    id: current.id,
    version: baseVersion,
    updated_at: current.meta?.updated_at ?? null,
    fields,
    status: has('status') ? current.status : null,
    node_id: has('node_id') ? current.node_id : '',
    desired_state: has('desired_state') ? current.desired_state : 0,
    stopped_for: has('stopped_for') ? current.stopped_for : null,
    assigned_generic_resources: has('assigned_generic_resources') ? current.assigned_generic_resources : [],
    networks: has('networks') ? current.networks : [],
    endpoint: has('endpoint') ? current.endpoint : null,
    started_at: has('started_at') ? current.started_at : null,
  };
}

/** A task with a patch applied; what is not patched is shared with `stored`. */
export function patched(stored: Task, patch: TaskPatch): Task {
  const has = (name: Patched): boolean => (patch.fields & PATCH_BITS[name]) !== 0;
  const task = { ...stored };
  if (stored.meta !== null) task.meta = { ...stored.meta, updated_at: patch.updated_at };
  if (has('status')) task.status = patch.status;
  if (has('node_id')) task.node_id = patch.node_id;
  if (has('desired_state')) task.desired_state = patch.desired_state;
  if (has('stopped_for')) task.stopped_for = patch.stopped_for;
  if (has('assigned_generic_resources')) task.assigned_generic_resources = patch.assigned_generic_resources;
  if (has('networks')) task.networks = patch.networks;
  if (has('endpoint')) task.endpoint = patch.endpoint;
  if (has('started_at')) task.started_at = patch.started_at;
  return task;
}

/** Templates of one spec that a task is compared with, the newest. */
const TEMPLATES_COMPARED_MAX = 4;

/** Whether a task has what a template of the same spec says. The spec is large and compared by identity alone. */
function fits(template: Template, task: Task): boolean {
  return TEMPLATE_FIELDS.every((name) => template[name] === task[name] || sameMessage(template[name], task[name]));
}

export type Template = Pick<Task, (typeof TEMPLATE_FIELDS)[number]>;

/**
 * Collects what tasks have in common, so that it is encoded once. Tasks share a template when they share the spec (the
 * same object, not an equal one), as those do that the orchestrator makes for one service, and the rest is equal.
 */
export class TemplateWriter {
  readonly #bySpec = new Map<object, { template: Template; number: number }[]>();
  readonly #encoded: Uint8Array[] = [];
  /** Size of all templates, bytes. */
  bytes = 0;

  /** The templates, in the order of their numbers. */
  get encoded(): readonly Uint8Array[] {
    return this.#encoded;
  }

  /** The number of a task's template, from 1; 0 when the task has no spec and is encoded whole. */
  numberOf(task: Task): number {
    if (task.spec === null) return 0;
    const known = this.#bySpec.get(task.spec) ?? [];
    const same = known.slice(-TEMPLATES_COMPARED_MAX).find(({ template }) => fits(template, task));
    if (same !== undefined) return same.number;
    const template = templateOf(task);
    const encoded = TaskTemplate.encode(template);
    this.bytes += encoded.length;
    const number = this.#encoded.push(encoded);
    known.push({ template, number });
    this.#bySpec.set(task.spec, known);
    return number;
  }

  /** Forgets the templates after the first `count`. */
  truncate(count: number): void {
    for (const encoded of this.#encoded.splice(count)) this.bytes -= encoded.length;
    for (const [spec, known] of this.#bySpec) {
      const kept = known.filter(({ number }) => number <= count);
      if (kept.length === 0) this.#bySpec.delete(spec);
      else this.#bySpec.set(spec, kept);
    }
  }
}

export function templateOf(task: Task): Template {
  const { spec, service_annotations, endpoint, log_driver, spec_version } = task;
  return { spec, service_annotations, endpoint, log_driver, spec_version };
}

/** A task without what its template says. */
export function withoutTemplate(task: Task): Task {
  return { ...task, ...NO_TEMPLATE };
}

/**
 * Gives a decoded task what its template says; the parts are shared by all tasks of the template.
 * @throws Error when there is no such template.
 */
export function completeTask(task: Task, templates: readonly TaskTemplate[], number: number): void {
  if (number === 0) return;
  const template = templates[number - 1];
  if (template === undefined) throw new Error(`task ${task.id} names template ${number} of ${templates.length}`);
  for (const name of TEMPLATE_FIELDS) (task[name] as unknown) = template[name];
}
