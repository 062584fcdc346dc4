import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { Level } from 'level';
import type { Logger } from '../base/index.ts';
import { applyTableDelta, NetworkTable, Task, TaskStatus, type MessageType } from '../proto/index.ts';

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
  /** What leads to some of `tables` from the one that was written before: it may be written instead. */
  deltas?: ReadonlyMap<string, NetworkTable>;
}

/** The agent's memory between two runs of the daemon. */
export interface StateRecord {
  load(): Promise<StoredState>;
  write(changes: StateChanges): Promise<void>;
  close(): Promise<void>;
}

type Operation = { type: 'put'; key: string; value: Uint8Array } | { type: 'del'; key: string };

/** Records of one kind are keyed `<prefix>/<id>`. */
const PREFIX = { tasks: 'task', statuses: 'status', tables: 'table', deltas: 'table-delta' } as const;
/** Deltas that a table is followed by before it is written whole again. */
const DELTAS_MAX = 256;

/**
 * The agent's memory on disk. Batches are atomic but not synced: after a crash of the host the containers are gone as
 * well, and the manager tells the rest anew.
 */
export class StateDb implements StateRecord {
  readonly #db: Level<string, Uint8Array>;
  readonly #log: Logger;
  /** Deltas behind each table that is written, by network. */
  readonly #deltas = new Map<string, number>();

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
    const deltas: NetworkTable[] = [];
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
        case PREFIX.deltas:
          this.#decode(NetworkTable, key, value, (delta) => deltas.push(delta));
          break;
        default:
          this.#log.warn('unknown record in the state of the agent', { key });
      }
    }
    // Keys are in order, and so are the deltas of each network.
    for (const id of state.tables.keys()) this.#deltas.set(id, 0);
    for (const delta of deltas) {
      const { network_id: id } = delta;
      this.#deltas.set(id, (this.#deltas.get(id) ?? 0) + 1);
      const table = applyTableDelta(state.tables.get(id), delta);
      if (table !== undefined) state.tables.set(id, table);
    }
    return state;
  }

  async write(changes: StateChanges): Promise<void> {
    const operations: Operation[] = [];
    add(operations, PREFIX.tasks, Task, changes.tasks);
    add(operations, PREFIX.statuses, TaskStatus, changes.statuses);
    for (const [id, table] of changes.tables ?? []) this.#addTable(operations, id, table, changes.deltas?.get(id));
    if (operations.length > 0) await this.#db.batch(operations);
  }

  /** A change of a large table is a short record behind it. */
  #addTable(
    operations: Operation[],
    id: string,
    table: NetworkTable | undefined,
    delta: NetworkTable | undefined,
  ): void {
    const behind = this.#deltas.get(id);
    if (table !== undefined && delta !== undefined && behind !== undefined && behind < DELTAS_MAX) {
      this.#deltas.set(id, behind + 1);
      operations.push({ type: 'put', key: deltaKey(id, behind), value: NetworkTable.encode(delta) });
      return;
    }
    for (let number = 0; number < (behind ?? 0); number++) operations.push({ type: 'del', key: deltaKey(id, number) });
    add(operations, PREFIX.tables, NetworkTable, new Map([[id, table]]));
    if (table === undefined) this.#deltas.delete(id);
    else this.#deltas.set(id, 0);
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

function deltaKey(networkId: string, number: number): string {
  return `${PREFIX.deltas}/${networkId}/${String(number).padStart(4, '0')}`;
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
