import {
  AssignmentChange_AssignmentAction as Action,
  AssignmentsMessage_Type as MessageKind,
  type AssignmentsMessage,
  type Config,
  type NetworkTable,
  type Secret,
  type Task,
} from '../proto/index.ts';

/** Ids this agent holds, by kind, and the reference of the message that brought it there. */
export interface HeldAssignments {
  /** `results_in` of the last message; undefined before the first of a stream. */
  reference: string | undefined;
  tasks: ReadonlySet<string>;
  tables: ReadonlySet<string>;
  secrets: ReadonlySet<string>;
  configs: ReadonlySet<string>;
}

/** What one message changes. Apply in the order of the members. */
export interface AssignmentDiff {
  reference: string;
  /** The message says everything: what it does not name is gone. */
  complete: boolean;
  tables: NetworkTable[];
  secrets: Secret[];
  configs: Config[];
  tasks: Task[];
  removedTasks: string[];
  removedSecrets: string[];
  removedConfigs: string[];
  removedTables: string[];
}

const missing = (held: ReadonlySet<string>, listed: ReadonlySet<string>): string[] =>
  [...held].filter((id) => !listed.has(id));

/**
 * The changes that a message asks for, or `gap` when a message before it was lost: then only a new session helps
 * (swarmkit.md §1.9).
 */
export function diffAssignments(held: HeldAssignments, message: AssignmentsMessage): AssignmentDiff | 'gap' {
  const complete = message.type === MessageKind.COMPLETE;
  if (!complete && (held.reference === undefined || message.applies_to !== held.reference)) return 'gap';
  const tables = new Map<string, NetworkTable>();
  const secrets = new Map<string, Secret>();
  const configs = new Map<string, Config>();
  const tasks = new Map<string, Task>();
  const removed = { tasks: [] as string[], tables: [] as string[], secrets: [] as string[], configs: [] as string[] };
  for (const { assignment, action } of message.changes) {
    if (assignment === null) continue;
    const update = action === Action.UPDATE;
    const { task, secret, config, network_table: table } = assignment;
    if (task !== undefined) note(update, task.id, task, tasks, removed.tasks);
    else if (secret !== undefined) note(update, secret.id, secret, secrets, removed.secrets);
    else if (config !== undefined) note(update, config.id, config, configs, removed.configs);
    else if (table !== undefined) note(update, table.network_id, table, tables, removed.tables);
  }
  const lost = (kind: 'tasks' | 'tables' | 'secrets' | 'configs', listed: ReadonlyMap<string, unknown>): string[] =>
    complete ? missing(held[kind], new Set(listed.keys())) : removed[kind];
  return {
    reference: message.results_in,
    complete,
    tables: [...tables.values()],
    secrets: [...secrets.values()],
    configs: [...configs.values()],
    tasks: [...tasks.values()],
    removedTasks: lost('tasks', tasks),
    removedSecrets: lost('secrets', secrets),
    removedConfigs: lost('configs', configs),
    removedTables: lost('tables', tables),
  };
}

/** The last word on an id within one message counts. */
function note<T>(update: boolean, id: string, item: T, updates: Map<string, T>, removals: string[]): void {
  if (update) {
    updates.set(id, item);
    const at = removals.indexOf(id);
    if (at !== -1) removals.splice(at, 1);
  } else {
    updates.delete(id);
    removals.push(id);
  }
}
