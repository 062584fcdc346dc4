import { createSecureContext } from 'node:tls';
import protobuf from 'protobufjs';
import { durationToMs } from '../../proto/index.ts';
import {
  AgentReport,
  AssignmentsRequest,
  DispatcherService,
  ListenSubscriptionsRequest,
  LogBrokerService,
  ReportAck,
  SessionMessage,
  SessionRequest,
  TaskState,
  timestampFromMs,
  type Partially,
} from '../../proto/index.ts';
import { AgentConnection, type Call } from './connection.ts';
import type { HostReport } from './protocol.ts';

/** Version of the agents' protocol that is spoken: Shoal's own, with network tables. */
const SHOAL_VERSION = 1;
/** A heartbeat that takes longer counts as slow, ms. */
const SLOW_MS = 1000;
const CPUS = 64;
const MEMORY_BYTES = 512 * 2 ** 30;

export interface AgentIdentity {
  nodeId: string;
  cert: string;
  key: string;
  rootCa: string;
}

const ignore: Call = { message: () => undefined, ended: () => undefined };

/** What one agent knows of a task: the state it has reached, and whether that is acknowledged. */
interface Held {
  state: TaskState;
}

/**
 * One simulated node: everything of the agents' protocol (session, heartbeats, assignments, log subscriptions, reports,
 * of which one is under way at a time and carries the newest state of each task), with containers that start after a
 * set time and never end.
 */
export class SimulatedAgent {
  readonly #identity: AgentIdentity;
  readonly #number: number;
  readonly #startMs: number;
  readonly #totals: HostReport;
  readonly #tasks = new Map<string, Held>();
  #pending = new Map<string, TaskState>();
  #reporting = false;
  #connection: AgentConnection | undefined;
  #sessionId = '';
  #beat: NodeJS.Timeout | undefined;
  /** Writes to the stream of reports. */
  #send: ((message: Uint8Array) => void) | undefined;
  #sent = 0;
  /** Number of the heartbeat that is under way, 0 for none; and when it was sent. */
  #beatNumber = 0;
  #beatAtMs = 0;
  /** What is reported and not acknowledged. */
  #reported: { number: number; batch: Map<string, TaskState> } | undefined;
  #stopped = false;

  constructor(identity: AgentIdentity, number: number, startMs: number, totals: HostReport) {
    this.#identity = identity;
    this.#number = number;
    this.#startMs = startMs;
    this.#totals = totals;
  }

  /** Opens the session; resolves when assignments are followed. */
  async connect(addr: string): Promise<void> {
    const { cert, key, rootCa } = this.#identity;
    const connection = await AgentConnection.connect(addr, createSecureContext({ cert, key, ca: rootCa }));
    this.#connection = connection;
    connection.onLost = (error) => this.#lost(error);
    await new Promise<void>((resolve, reject) => {
      const request = SessionRequest.encode({ shoal_version: SHOAL_VERSION, description: this.#description() });
      connection.call(DispatcherService.Session.path, request, false, {
        message: (bytes) => {
          if (this.#sessionId !== '') return;
          this.#sessionId = SessionMessage.decode(bytes).session_id;
          this.#follow(connection, resolve);
        },
        ended: (error) => {
          reject(error ?? new Error('the session has ended'));
          this.#lost(error);
        },
      });
    });
    this.#totals.connected++;
    this.#schedule(1000 * Math.random());
  }

  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#beat);
    this.#connection?.close();
  }

  #description(): SessionRequest['description'] {
    const n = this.#number;
    return {
      hostname: `sim-${n}`,
      data_path_addr: `10.${200 + (n >> 16)}.${(n >> 8) & 255}.${n & 255}`,
      platform: { architecture: 'x86_64', os: 'linux' },
      resources: { nano_cpus: CPUS * 1e9, memory_bytes: MEMORY_BYTES, generic: [] },
      engine: { engine_version: '0.1.0', labels: {}, plugins: [] },
      tls_info: null,
      fips: false,
      csi_info: [],
      host_subnets: [],
      port_clashes: [],
      wireguard_key: new Uint8Array(),
    };
  }

  #follow(connection: AgentConnection, ready: () => void): void {
    this.#send = connection.stream(DispatcherService.Reports.path, {
      message: (bytes) => this.#answered(ReportAck.decode(bytes)),
      ended: (error) => this.#lost(error),
    });
    const request = AssignmentsRequest.encode({ session_id: this.#sessionId });
    connection.call(DispatcherService.Assignments.path, request, false, {
      message: (bytes) => {
        this.#totals.messages++;
        ready();
        for (const { id, desired } of assignedTasks(bytes)) this.#assign(id, desired);
      },
      ended: (error) => this.#lost(error),
    });
    connection.call(LogBrokerService.ListenSubscriptions.path, ListenSubscriptionsRequest.encode({}), false, ignore);
  }

  #lost(error: Error | undefined): void {
    if (this.#stopped || this.#sessionId === '') return;
    this.#stopped = true;
    clearTimeout(this.#beat);
    this.#totals.sessionsLost++;
    this.#totals.connected--;
    if (this.#totals.errors.length < 20) this.#totals.errors.push(error?.message ?? 'a stream ended');
    this.#connection?.close();
  }

  #schedule(ms: number): void {
    this.#beat = setTimeout(() => this.#heartbeat(), ms);
  }

  /** One message of the stream of reports; the first one names the session. */
  #say(fields: Partially<AgentReport>): number {
    const number = ++this.#sent;
    const session_id = number === 1 ? this.#sessionId : '';
    this.#send?.(AgentReport.encode({ session_id, number, ...fields }));
    return number;
  }

  #heartbeat(): void {
    this.#beatAtMs = performance.now();
    this.#beatNumber = this.#say({ heartbeat: true });
  }

  #answered(ack: ReportAck): void {
    if (this.#beatNumber !== 0 && ack.heartbeat >= this.#beatNumber) {
      this.#beatNumber = 0;
      const tookMs = performance.now() - this.#beatAtMs;
      this.#totals.heartbeats++;
      this.#totals.heartbeatMaxMs = Math.max(this.#totals.heartbeatMaxMs, tookMs);
      if (tookMs > SLOW_MS) this.#totals.heartbeatsSlow++;
      if (!this.#stopped) this.#schedule(durationToMs(ack.period, 1000));
    }
    const reported = this.#reported;
    if (reported === undefined || ack.committed < reported.number) return;
    this.#reported = undefined;
    for (const state of reported.batch.values()) if (state === TaskState.RUNNING) this.#totals.running++;
    this.#report();
  }

  #assign(id: string, desired: number): void {
    if (this.#tasks.has(id) || desired > TaskState.RUNNING) return;
    const held: Held = { state: TaskState.ASSIGNED };
    this.#tasks.set(id, held);
    this.#totals.assigned++;
    if (this.#startMs === 0) return this.#become(id, held, TaskState.RUNNING);
    this.#become(id, held, TaskState.STARTING);
    setTimeout(() => this.#become(id, held, TaskState.RUNNING), this.#startMs);
  }

  #become(id: string, held: Held, state: TaskState): void {
    held.state = state;
    this.#pending.set(id, state);
    if (this.#reporting) return;
    this.#reporting = true;
    queueMicrotask(() => this.#report());
  }

  #report(): void {
    const batch = this.#pending;
    this.#pending = new Map();
    if (batch.size === 0 || this.#send === undefined) {
      this.#reporting = false;
      return;
    }
    const timestamp = timestampFromMs(Date.now());
    const updates = [...batch].map(([task_id, state]) => {
      const container = { container_id: task_id.padEnd(64, '0'), pid: 4711, exit_code: 0 };
      const message = state === TaskState.RUNNING ? 'started' : 'starting';
      return { task_id, status: { timestamp, state, message, err: '', container } };
    });
    this.#totals.reports++;
    this.#reported = { number: this.#say({ updates }), batch };
  }
}

/** Reads `AssignmentsMessage` no further than is needed: ids and desired states of its tasks. */
function assignedTasks(bytes: Buffer): { id: string; desired: number }[] {
  const found: { id: string; desired: number }[] = [];
  const reader = protobuf.Reader.create(bytes);
  while (reader.pos < reader.len) {
    const tag = reader.uint32();
    if (tag >>> 3 !== 4) {
      reader.skipType(tag & 7);
      continue;
    }
    const task = within(reader, (change) => within(change, readTask));
    if (task !== undefined) found.push(task);
  }
  return found;
}

/** Reads field 1 of an embedded message. */
function within<T>(reader: protobuf.Reader, read: (reader: protobuf.Reader) => T | undefined): T | undefined {
  const end = reader.uint32() + reader.pos;
  let found: T | undefined;
  while (reader.pos < end) {
    const tag = reader.uint32();
    if (tag >>> 3 === 1 && (tag & 7) === 2) found = read(reader);
    else reader.skipType(tag & 7);
  }
  return found;
}

function readTask(reader: protobuf.Reader): { id: string; desired: number } {
  const end = reader.uint32() + reader.pos;
  const task = { id: '', desired: 0 };
  while (reader.pos < end) {
    const tag = reader.uint32();
    const field = tag >>> 3;
    if (field === 1) task.id = reader.string();
    else if (field === 10) task.desired = reader.uint32();
    else reader.skipType(tag & 7);
  }
  return task;
}
