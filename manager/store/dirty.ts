import { TaskState, type EndpointSpec, type Node, type Service, type Task, type TaskSpec } from '../../proto/index.ts';
import { nodeMatches, parseConstraints } from '../../scheduler/index.ts';

function isPlainObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !ArrayBuffer.isView(value) && !Array.isArray(value);
}

/** Whether two decoded messages hold the same. Maps have no order; null and an absent field are alike. */
export function sameMessage(a: unknown, b: unknown): boolean {
  if (a === b) return true;
  if (a === null || a === undefined || b === null || b === undefined) return (a ?? null) === (b ?? null);
  if (a instanceof Uint8Array && b instanceof Uint8Array) {
    return a.length === b.length && a.every((byte, i) => byte === b[i]);
  }
  if (Array.isArray(a) && Array.isArray(b)) {
    return a.length === b.length && a.every((item, i) => sameMessage(item, b[i]));
  }
  if (!isPlainObject(a) || !isPlainObject(b)) return false;
  const keys = new Set([...Object.keys(a), ...Object.keys(b)]);
  return [...keys].every((key) => sameMessage(a[key], b[key]));
}

function sameEndpoint(wanted: EndpointSpec | null | undefined, actual: EndpointSpec | null | undefined): boolean {
  return (wanted?.mode ?? 0) === (actual?.mode ?? 0) && sameMessage(wanted?.ports ?? [], actual?.ports ?? []);
}

/** A task spec without the registry credentials: they matter only until the image is there. */
function withoutPullOptions(spec: TaskSpec): TaskSpec {
  const container = spec.container;
  return container === undefined ? spec : { ...spec, container: { ...container, pull_options: null } };
}

/** Whether only the placement constraints differ, and the node satisfies the new ones. */
function onlySatisfiedConstraints(wanted: TaskSpec, actual: TaskSpec, node: Node | undefined): boolean {
  if (node === undefined) return false;
  const constraints = wanted.placement?.constraints ?? [];
  const none = { constraints: [], preferences: [], platforms: [], max_replicas: 0 };
  const placement = { ...(actual.placement ?? none), constraints };
  if (!sameMessage({ ...wanted, placement: wanted.placement ?? none }, { ...actual, placement })) return false;
  try {
    return nodeMatches(node, parseConstraints(constraints));
  } catch {
    return false;
  }
}

/**
 * Whether a task no longer follows its service and must be replaced (swarmkit.md §3.2). A change of constraints alone
 * does not matter while the task's node satisfies them; new registry credentials do not matter once the image is there.
 * @param node the task's node, when it has one.
 */
export function isTaskDirty(service: Service, task: Task, node?: Node): boolean {
  if (
    task.spec_version !== null &&
    service.spec_version !== null &&
    task.spec_version.index === service.spec_version.index
  ) {
    return false;
  }
  let wanted = service.spec?.task;
  let actual = task.spec;
  if (wanted === null || wanted === undefined || actual === null) return (wanted ?? null) !== actual;
  const state = task.status?.state ?? TaskState.NEW;
  if (state >= TaskState.READY && state <= TaskState.RUNNING) {
    wanted = withoutPullOptions(wanted);
    actual = withoutPullOptions(actual);
  }
  if (task.endpoint !== null && !sameEndpoint(service.spec?.endpoint, task.endpoint.spec)) return true;
  if (sameMessage(wanted, actual)) return false;
  return !onlySatisfiedConstraints(wanted, actual, node);
}
