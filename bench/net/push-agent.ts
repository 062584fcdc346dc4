import { createSecureContext } from 'node:tls';
import {
  AgentReport,
  AssignmentChange_AssignmentAction as Action,
  AssignmentsMessage,
  AssignmentsRequest,
  DispatcherService,
  durationToMs,
  NodeDescription,
  ReportAck,
  SessionMessage,
  SessionRequest,
  TaskState,
  timestampFromMs,
  type NetworkTable,
  type Partially,
} from '../../proto/index.ts';
import { SHOAL_VERSION } from '../../worker/session.ts';
import type { AgentIdentity } from '../cluster/agent.ts';
import { AgentConnection } from '../cluster/connection.ts';
import { NETWORK_NAME } from './push-protocol.ts';

/** Tables of later versions of the protocol may say what is new since another one. */
type MaybeDelta = NetworkTable & { base_version?: number; removed_task_ids?: string[] };

/** What one agent knows of the network. */
class KnownTable {
  #id = '';
  #version = 0;
  readonly #serving = new Set<string>();

  get servingCount(): number {
    return this.#serving.size;
  }

  /** @returns whether the table is of the network and says only what changed. @throws Error for a gap in versions */
  take(table: MaybeDelta, action: Action): 'delta' | 'whole' | undefined {
    if (table.network?.spec?.annotations?.name === NETWORK_NAME) this.#id = table.network_id;
    if (table.network_id !== this.#id) return undefined;
    const isDelta = (table.base_version ?? 0) !== 0;
    if (isDelta && table.base_version !== this.#version) throw new Error('a table says what changed since another one');
    if (!isDelta || action === Action.REMOVE) this.#serving.clear();
    for (const id of table.removed_task_ids ?? []) this.#serving.delete(id);
    for (const { task_id, serving } of table.endpoints) {
      if (serving) this.#serving.add(task_id);
      else this.#serving.delete(task_id);
    }
    this.#version = table.version;
    return isDelta ? 'delta' : 'whole';
  }
}

/** What one agent got during a burst. */
export interface AgentRun {
  /** When its table first had all endpoints serving, as `performance.now()`; undefined: not yet. */
  completeAtMs: number | undefined;
  tables: number;
  deltas: number;
  bytes: number;
}

/**
 * A node that holds tasks on a network in STARTING until it is told to let them run. During a burst it only keeps what it
 * receives, with the time: in life agents have machines of their own for reading it.
 */
export class PushAgent {
  readonly #identity: AgentIdentity;
  readonly #number: number;
  readonly #tasks = new Map<string, TaskState>();
  readonly #table = new KnownTable();
  readonly #pending = new Map<string, TaskState>();
  #connection: AgentConnection | undefined;
  #send: ((message: Uint8Array) => void) | undefined;
  #sessionId = '';
  #sent = 0;
  /** Number of the report that is under way; 0: none. */
  #underWay = 0;
  #recorded: { atMs: number; bytes: Buffer }[] | undefined;
  lastMessageMs = 0;
  lastCommitMs = 0;
  onLost: (error: Error) => void = () => undefined;

  constructor(identity: AgentIdentity, number: number) {
    this.#identity = identity;
    this.#number = number;
  }

  get held(): number {
    return this.#tasks.size;
  }

  /** The managers know the states of all tasks here. */
  get settled(): boolean {
    return this.#pending.size === 0 && this.#underWay === 0;
  }

  /** Opens the session; resolves when assignments are followed. */
  async connect(addr: string): Promise<void> {
    const { cert, key, rootCa } = this.#identity;
    const connection = await AgentConnection.connect(addr, createSecureContext({ cert, key, ca: rootCa }));
    this.#connection = connection;
    connection.onLost = (error) => this.onLost(error);
    const n = this.#number;
    const description = NodeDescription.create({
      ...{ hostname: `push-${n}`, data_path_addr: `10.201.${n >> 8}.${n & 255}` },
      platform: { architecture: 'x86_64', os: 'linux' },
      resources: { nano_cpus: 64e9, memory_bytes: 2 ** 38, generic: [] },
      engine: { engine_version: '0.1.0', labels: {}, plugins: [] },
    });
    await new Promise<void>((resolve, reject) => {
      const request = SessionRequest.encode({ shoal_version: SHOAL_VERSION, description });
      connection.call(DispatcherService.Session.path, request, false, {
        message: (bytes) => {
          if (this.#sessionId !== '') return;
          this.#sessionId = SessionMessage.decode(bytes).session_id;
          this.#follow(connection, resolve);
        },
        ended: (error) => reject(error ?? new Error('the session has ended')),
      });
    });
    this.#say({ heartbeat: true });
  }

  stop(): void {
    this.#connection?.close();
  }

  #follow(connection: AgentConnection, ready: () => void): void {
    const ended = (error: Error | undefined): void => this.onLost(error ?? new Error('a stream has ended'));
    this.#send = connection.stream(DispatcherService.Reports.path, {
      message: (bytes) => this.#answered(ReportAck.decode(bytes)),
      ended,
    });
    const request = AssignmentsRequest.encode({ session_id: this.#sessionId });
    connection.call(DispatcherService.Assignments.path, request, false, {
      message: (bytes) => {
        this.lastMessageMs = performance.now();
        ready();
        if (this.#recorded === undefined) this.#take(bytes);
        else this.#recorded.push({ atMs: this.lastMessageMs, bytes: Buffer.from(bytes) });
      },
      ended,
    });
  }

  #take(bytes: Buffer): { tables: number; deltas: number } {
    const got = { tables: 0, deltas: 0 };
    for (const { assignment, action } of AssignmentsMessage.decode(bytes).changes) {
      if (assignment?.network_table) {
        const kind = this.#table.take(assignment.network_table, action);
        if (kind !== undefined) got.tables++;
        if (kind === 'delta') got.deltas++;
      }
      if (assignment?.task) this.#assign(assignment.task.id, assignment.task.desired_state, action);
    }
    return got;
  }

  #assign(id: string, desired: TaskState, action: Action): void {
    if (action === Action.REMOVE) {
      this.#tasks.delete(id);
      return;
    }
    const state = desired > TaskState.RUNNING ? TaskState.SHUTDOWN : TaskState.STARTING;
    if (state === TaskState.STARTING && this.#tasks.has(id)) return;
    this.#become(id, state);
  }

  #become(id: string, state: TaskState): void {
    this.#tasks.set(id, state);
    this.#pending.set(id, state);
    if (this.#underWay === 0) queueMicrotask(() => this.#report());
  }

  /** All tasks run, in one report; from now on what comes is kept, not read. */
  run(): void {
    this.#recorded = [];
    for (const id of this.#tasks.keys()) this.#become(id, TaskState.RUNNING);
  }

  /** Reads what was kept since the last call. @param run what is known of the burst; is changed */
  readKept(run: AgentRun, endpoints: number): void {
    const kept = this.#recorded ?? [];
    this.#recorded = [];
    for (const { atMs, bytes } of kept) {
      const { tables, deltas } = this.#take(bytes);
      run.tables += tables;
      run.deltas += deltas;
      run.bytes += bytes.length;
      if (this.#table.servingCount >= endpoints) run.completeAtMs ??= atMs;
    }
  }

  endRun(): void {
    this.#recorded = undefined;
  }

  /** One message of the stream of reports; the first one names the session. */
  #say(fields: Partially<AgentReport>): number {
    const number = ++this.#sent;
    this.#send?.(AgentReport.encode({ session_id: number === 1 ? this.#sessionId : '', number, ...fields }));
    return number;
  }

  #report(): void {
    if (this.#underWay !== 0 || this.#pending.size === 0) return;
    const timestamp = timestampFromMs(Date.now());
    const updates = [...this.#pending].map(([task_id, state]) => {
      const container = { container_id: task_id.padEnd(64, '0'), pid: 4711, exit_code: 0 };
      return { task_id, status: { timestamp, state, message: 'simulated', err: '', container } };
    });
    this.#pending.clear();
    this.#underWay = this.#say({ updates });
  }

  #answered(ack: ReportAck): void {
    if (ack.period !== null) setTimeout(() => this.#say({ heartbeat: true }), durationToMs(ack.period, 1000)).unref();
    if (this.#underWay === 0 || ack.committed < this.#underWay) return;
    this.#underWay = 0;
    this.lastCommitMs = performance.now();
    this.#report();
  }
}
