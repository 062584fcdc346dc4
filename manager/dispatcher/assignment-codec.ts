import {
  AssignmentChange,
  AssignmentsMessage,
  fieldTag,
  joinParts,
  Task,
  type EncodedPart,
} from '../../proto/index.ts';
import { TEMPLATE_FIELDS, templateOf, withoutTemplate, type Template } from '../store/task-parts.ts';
import { TableCodec } from './table-codec.ts';

const CHANGES_TAG = fieldTag(4);
const ASSIGNMENT_TAG = fieldTag(1);
const TASK_TAG = fieldTag(1);
const TABLE_TAG = fieldTag(1001);

/**
 * Encodes assignments as `AssignmentsMessage` does, but the parts that tasks share (the same objects, as those of one
 * service have in the store) only once: thousands of agents get the same specification. Tables likewise.
 */
export class AssignmentCodec {
  readonly #tables = new TableCodec();
  /** By specification; goes with it. */
  readonly #shared = new WeakMap<object, { fields: Template; bytes: Uint8Array }>();

  encode(message: AssignmentsMessage): Uint8Array {
    const { changes } = message;
    const parts: EncodedPart[] = [AssignmentsMessage.encode({ ...message, changes: [] })];
    for (const change of changes) parts.push({ tag: CHANGES_TAG, bytes: this.#change(change) });
    return joinParts(parts);
  }

  #change(change: AssignmentChange): Uint8Array {
    const table = change.assignment?.network_table;
    if (table !== undefined) {
      const assignment = joinParts([{ tag: TABLE_TAG, bytes: this.#tables.encode(table) }]);
      const { action } = change;
      return joinParts([AssignmentChange.encode({ action }), { tag: ASSIGNMENT_TAG, bytes: assignment }]);
    }
    const task = change.assignment?.task;
    const shared = task === undefined ? undefined : this.#sharedOf(task);
    if (task === undefined || shared === undefined) return AssignmentChange.encode(change);
    const own = Task.encode(withoutTemplate(task));
    const assignment = joinParts([{ tag: TASK_TAG, bytes: joinParts([own, shared]) }]);
    const { action } = change;
    return joinParts([AssignmentChange.encode({ action }), { tag: ASSIGNMENT_TAG, bytes: assignment }]);
  }

  #sharedOf(task: Task): Uint8Array | undefined {
    if (task.spec === null) return undefined;
    const known = this.#shared.get(task.spec);
    if (known !== undefined && TEMPLATE_FIELDS.every((name) => known.fields[name] === task[name])) return known.bytes;
    const fields = templateOf(task);
    const bytes = Task.encode(fields);
    this.#shared.set(task.spec, { fields, bytes });
    return bytes;
  }
}
