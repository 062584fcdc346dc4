import type { SeededRandom } from '../../base/index.ts';
import {
  AssignmentChange_AssignmentAction,
  AssignmentsMessage_Type,
  type AssignmentsMessage,
} from '../../proto/index.ts';
import type { SimProcess } from '../../raft/sim/index.ts';
import { Agent, type StateChanges, type StateRecord, type StoredState } from '../../worker/index.ts';
import { ContainerHost } from './container.ts';
import { SimExecutor } from './executor.ts';
import { agentConnection, RpcClient } from './rpc.ts';
import type { Stage } from './stage.ts';

/** Mean time that the agent's database takes, ms. */
const RECORD_MS = 0.5;

/** What the agent's disk holds. A crash of the host leaves it as it is: the real one is not synced, but rarely late. */
class DiskRecord {
  readonly state: StoredState = { tasks: new Map(), statuses: new Map(), tables: new Map() };

  /** The record as one run of the agent sees it. */
  of(process: SimProcess): StateRecord {
    return {
      load: async () => {
        await process.sleep(RECORD_MS);
        const { tasks, statuses, tables } = this.state;
        return { tasks: new Map(tasks), statuses: new Map(statuses), tables: new Map(tables) };
      },
      write: async (changes) => {
        await process.sleep(RECORD_MS);
        this.#write(changes);
      },
      close: () => Promise.resolve(),
    };
  }

  #write(changes: StateChanges): void {
    const apply = <T>(map: Map<string, T>, changed: ReadonlyMap<string, T | undefined> | undefined): void => {
      for (const [id, value] of changed ?? []) {
        if (value === undefined) map.delete(id);
        else map.set(id, value);
      }
    };
    apply(this.state.tasks, changes.tasks);
    apply(this.state.statuses, changes.statuses);
    apply(this.state.tables, changes.tables);
  }
}

/** One run of the daemon. */
interface Run {
  process: SimProcess;
  agent: Agent;
}

/** A worker's machine: its containers, and the agent in one run of the daemon after the other. */
export class WorkerHost extends ContainerHost {
  readonly #world: Stage;
  readonly #record = new DiskRecord();
  run: Run | undefined;
  /** It has left the cluster. */
  retired = false;
  /** Since when its agent has had a session without a break; virtual time, ms. */
  connectedSince: number | undefined;
  /** What it was told, by the stream of assignments in force. */
  readonly assigned = { tasks: new Map<string, readonly string[]>(), secrets: new Set<string>() };

  constructor(world: Stage, random: SeededRandom, what: ConstructorParameters<typeof ContainerHost>[3]) {
    super(world.scheduler, random, world.oracle, what);
    this.#world = world;
  }

  start(): void {
    if (this.run !== undefined || this.retired) return;
    const world = this.#world;
    world.wires.power(this.id, true);
    const process = world.newProcess(this.random as SeededRandom, this.id, (error) => world.fail(error));
    const agent = new Agent({
      nodeId: this.nodeId,
      executor: new SimExecutor(this, process),
      // Every fourth agent makes calls, as where managers know no stream of reports.
      connect: (address) => agentConnection(this.#connect(process, address), this.id % 4 !== 0),
      managers: world.managers.map((manager) => manager.addr),
      stateDir: this.name,
      record: this.#record.of(process),
      clock: process,
      random: this.random,
      log: world.logOf(this.name),
    });
    this.run = { process, agent };
    this.connectedSince = undefined;
    process.run(() => {
      agent.start().catch((error: unknown) => {
        if (process.alive) world.fail(error);
      });
    });
  }

  #connect(process: SimProcess, address: string): RpcClient {
    const world = this.#world;
    const server = world.managerAt(address)?.server() ?? world.nobody(address);
    const as = { nodeId: this.nodeId, address: `10.1.0.${this.id % 250}:4789`, forwarded: false };
    const client = new RpcClient(world.wires, { hostId: this.id, process }, server, as);
    client.onMessage = (method, message) => {
      if (method !== 'assignments') return;
      this.#noteAssignments(message as AssignmentsMessage);
      world.oracle.assigned(this);
    };
    return client;
  }

  #noteAssignments(message: AssignmentsMessage): void {
    const { tasks, secrets } = this.assigned;
    if (message.type === AssignmentsMessage_Type.COMPLETE) {
      tasks.clear();
      secrets.clear();
    }
    for (const { assignment, action } of message.changes) {
      const { task, secret } = assignment ?? {};
      const update = action === AssignmentChange_AssignmentAction.UPDATE;
      const needs = (task?.spec?.container?.secrets ?? []).map((one) => one.secret_id);
      if (task !== undefined && update) tasks.set(task.id, needs);
      else if (task !== undefined) tasks.delete(task.id);
      if (secret !== undefined && update) secrets.add(secret.id);
      else if (secret !== undefined) secrets.delete(secret.id);
    }
  }

  /** Whether the agent has a session, as it sees it. */
  get connected(): boolean {
    return this.run?.agent.status().connected === true;
  }

  /** The daemon is killed; containers go on. */
  killDaemon(): void {
    const run = this.run;
    if (run === undefined) return;
    this.run = undefined;
    this.connectedSince = undefined;
    run.process.kill();
    this.#world.wires.ended(run.process);
  }

  /** The power fails: the daemon and every container end. */
  powerOff(): void {
    this.#world.wires.power(this.id, false);
    this.killDaemon();
    this.crash();
  }
}
