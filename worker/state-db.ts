import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { Level } from 'level';
import type { Logger } from '../base/index.ts';
import { NetworkTable, Task, TaskStatus, type MessageType } from '../proto/index.ts';

/** What survives a restart of the daemon: tasks, their statuses and network tables. Never a secret or a config. */
export interface StoredState {
  tasks: Map<string, Task>;
  statuses: Map<string, TaskStatus>;
  tables: Map<string, NetworkTable>;
}

/** Changes written as one batch; `undefined` removes. */
export interface StateChanges {
  tasks?: ReadonlyMap<string, Task | undefined>;
  statuses?: ReadonlyMap<string, TaskStatus | undefined>;
  tables?: ReadonlyMap<string, NetworkTable | undefined>;
}

/** The agent's memory between two runs of the daemon. */
export interface StateRecord {
  load(): Promise<StoredState>;
  write(changes: StateChanges): Promise<void>;
  close(): Promise<void>;
}

type Operation = { type: 'put'; key: string; value: Uint8Array } | { type: 'del'; key: string };

/** Records of one kind are keyed `<prefix>/<id>`. */
const PREFIX = { tasks: 'task', statuses: 'status', tables: 'table' } as const;

/**
 * The agent's memory on disk. Batches are atomic but not synced: after a crash of the host the containers are gone as
 * well, and the manager tells the rest anew.
 */
export class StateDb implements StateRecord {
  readonly #db: Level<string, Uint8Array>;
  readonly #log: Logger;

  /** @param directory made when missing; readable by root only, for it may hold registry credentials of specs. */
  constructor(directory: string, log: Logger) {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    this.#db = new Level<string, Uint8Array>(join(directory, 'tasks.db'), { valueEncoding: 'view' });
    this.#log = log;
  }

  /** Opens the database. Records that cannot be read are dropped with a log line: the manager has them. */
  async load(): Promise<StoredState> {
    await this.#db.open();
    const state: StoredState = { tasks: new Map(), statuses: new Map(), tables: new Map() };
    for await (const [key, value] of this.#db.iterator()) {
      const slash = key.indexOf('/');
      const id = key.slice(slash + 1);
      switch (key.slice(0, slash)) {
        case PREFIX.tasks:
          this.#decode(Task, key, value, (task) => state.tasks.set(id, task));
          break;
        case PREFIX.statuses:
          this.#decode(TaskStatus, key, value, (status) => state.statuses.set(id, status));
          break;
        case PREFIX.tables:
          this.#decode(NetworkTable, key, value, (table) => state.tables.set(id, table));
          break;
        default:
          this.#log.warn('unknown record in the state of the agent', { key });
      }
    }
    return state;
  }

  async write(changes: StateChanges): Promise<void> {
    const operations: Operation[] = [];
    add(operations, PREFIX.tasks, Task, changes.tasks);
    add(operations, PREFIX.statuses, TaskStatus, changes.statuses);
    add(operations, PREFIX.tables, NetworkTable, changes.tables);
    if (operations.length > 0) await this.#db.batch(operations);
  }

  async close(): Promise<void> {
    await this.#db.close();
  }

  #decode<T>(type: MessageType<T>, key: string, value: Uint8Array, keep: (decoded: T) => unknown): void {
    try {
      keep(type.decode(value));
    } catch (error) {
      this.#log.warn('a record in the state of the agent cannot be read; it is left out', { key, error });
    }
  }
}

function add<T>(
  operations: Operation[],
  prefix: string,
  type: MessageType<T>,
  changes: ReadonlyMap<string, T | undefined> | undefined,
): void {
  for (const [id, value] of changes ?? []) {
    const key = `${prefix}/${id}`;
    operations.push(
      value === undefined ? { type: 'del', key } : { type: 'put', key, value: type.encode(value as never) },
    );
  }
}
