import { abortReason, ShoalError, unavailable, type SeededRandom } from '../../base/index.ts';
import { NO_LEADER_MESSAGE, SimManager } from '../../manager/sim/index.ts';
import { RaftMember } from '../../proto/index.ts';
import { DiskHandle, SimulatedCrash, type SimDisk, type SimProcess } from '../../raft/sim/index.ts';
import { RpcClient, type RpcServer, type ServedCall, type ServedReports } from './rpc.ts';
import type { ManagerAddress, Stage } from './stage.ts';

/** Small segments and frequent snapshots, so that a short run sees many. */
const SEGMENT_BYTES = 1024 * 1024;
/** Time for a forwarded call, ms. */
const FORWARD_TIMEOUT_MS = 30_000;

/** One run of a manager's program. */
interface Run {
  process: SimProcess;
  manager: SimManager;
  started: boolean;
}

function isCrash(error: unknown): boolean {
  for (let at: unknown = error, depth = 0; at instanceof Error && depth < 4; at = at.cause, depth++) {
    if (at instanceof SimulatedCrash) return true;
  }
  return false;
}

/** A manager's machine: a disk, and runs of its program, one after the other. */
export class ManagerHost implements ManagerAddress {
  readonly id: number;
  readonly nodeId: string;
  readonly addr: string;
  readonly disk: SimDisk;
  readonly #world: Stage;
  readonly #random: SeededRandom;
  #fresh = true;
  run: Run | undefined;

  constructor(world: Stage, id: number, disk: SimDisk, random: SeededRandom) {
    this.#world = world;
    this.id = id;
    this.nodeId = `manager-${id}`;
    this.addr = `10.2.0.${id}:2377`;
    this.disk = disk;
    this.#random = random;
  }

  get up(): boolean {
    return this.run?.started === true;
  }

  get leading(): boolean {
    return this.run?.manager.leading === true;
  }

  get member() {
    return { raftId: this.id, nodeId: this.nodeId, addr: this.addr };
  }

  start(): void {
    if (this.run !== undefined) return;
    const world = this.#world;
    world.wires.power(this.id, true);
    const process = world.newProcess(this.#random, this.id, (error) => this.#failed(error));
    process.run(() => {
      const manager = this.#assemble(process);
      const run: Run = { process, manager, started: false };
      this.run = run;
      const first = {
        kind: 'bootstrap' as const,
        member: RaftMember.create({ raft_id: this.id, node_id: this.nodeId, addr: this.addr }),
      };
      const how = !this.#fresh ? { kind: 'restart' as const } : this.id === 1 ? first : { kind: 'join' as const };
      this.#fresh = false;
      manager.start(how).then(
        () => {
          run.started = true;
          world.journal.note(`${this.nodeId} runs (${how.kind})`);
        },
        (error: unknown) => {
          if (process.alive) world.fail(error);
        },
      );
    });
  }

  #assemble(process: SimProcess): SimManager {
    const world = this.#world;
    return new SimManager({
      self: this.member,
      members: world.managers.map((one) => one.member).filter(({ raftId }) => raftId === 1 || !this.#fresh),
      clock: process,
      random: this.#random,
      log: world.logOf(this.nodeId),
      transport: world.network.transport(process),
      ground: {
        disk: new DiskHandle(this.disk, process),
        schedule: (work) => process.defer(work),
        segmentBytes: SEGMENT_BYTES,
      },
      raft: { snapshotEntries: world.profile.snapshotEntries, keepEntries: world.profile.keepEntries },
      onApplied: (index, commits) => {
        const store = this.run?.manager.store;
        // What the log tells at start is old.
        if (store !== undefined) world.oracle.applied(this.nodeId, store, index, commits);
      },
      onRestored: () => undefined,
      onFatal: (error) => this.#failed(error),
    });
  }

  #failed(error: unknown): void {
    if (isCrash(error)) this.crash();
    else this.#world.fail(error);
  }

  /** The power fails: what was not synced is lost. */
  crash(): void {
    this.#world.wires.power(this.id, false);
    this.#end();
    this.disk.powerCut(false);
  }

  /** The program is killed; its host answers for it. */
  kill(): void {
    this.#end();
    this.disk.kill();
  }

  #end(): void {
    const run = this.run;
    if (run === undefined) return;
    this.run = undefined;
    run.process.kill();
    this.#world.wires.ended(run.process);
  }

  /** Where agents and other managers call, while the program runs. */
  server(): RpcServer | undefined {
    const run = this.run;
    if (run === undefined) return undefined;
    return {
      hostId: this.id,
      process: run.process,
      serve: (call) => this.#serve(run, call),
      serveReports: (call) => this.#serveReports(run, call),
    };
  }

  /** The same for a stream of reports. */
  async #serveReports(run: Run, call: ServedReports): Promise<void> {
    const leader = run.manager.leadership.signal;
    if (leader === undefined) return this.#forwardReports(run, call);
    const receive: ServedReports['receive'] = (message, done) => {
      call.receive((report) => {
        this.#world.oracle.heard(call.nodeId);
        message(report);
      }, done);
    };
    await this.#whileLeading(leader, call.signal, (signal) =>
      run.manager.dispatcher.handlers.reports({ ...call, receive, signal }),
    );
  }

  async #forwardReports(run: Run, call: ServedReports): Promise<void> {
    const client = this.#leader(run, call);
    try {
      await new Promise<void>((_, reject) => {
        const link = client.reports({ answer: (ack) => void call.send(ack), ended: reject });
        const cancel = (): void => {
          link.close();
          reject(abortReason(call.signal));
        };
        if (call.signal.aborted) return cancel();
        call.signal.addEventListener('abort', cancel, { once: true });
        call.receive(
          (report) => link.send(report),
          () => undefined,
        );
      });
    } finally {
      client.close();
    }
  }

  /** Serves a call of an agent here when this manager leads, else passes it on once, as manager/server does. */
  async #serve(run: Run, call: ServedCall): Promise<unknown> {
    const { manager } = run;
    const leader = manager.leadership.signal;
    if (leader === undefined) return this.#forward(run, call);
    return this.#whileLeading(leader, call.signal, (signal) => this.#handle(manager, { ...call, signal }));
  }

  /** Runs `work` with a signal that aborts when the call is cancelled or this manager ceases to lead. */
  async #whileLeading<T>(
    leader: AbortSignal,
    call: AbortSignal,
    work: (signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    const controller = new AbortController();
    const stop = (): void => controller.abort(call.reason);
    const lost = (): void => controller.abort(new ShoalError('Aborted', 'this manager is no longer the leader'));
    if (leader.aborted) lost();
    if (call.aborted) stop();
    leader.addEventListener('abort', lost, { once: true });
    call.addEventListener('abort', stop, { once: true });
    try {
      return await work(controller.signal);
    } finally {
      leader.removeEventListener('abort', lost);
    }
  }

  async #handle({ dispatcher, broker }: SimManager, call: ServedCall): Promise<unknown> {
    const { handlers } = dispatcher;
    this.#world.oracle.heard(call.nodeId);
    switch (call.method) {
      case 'session':
        return handlers.session(call as never);
      case 'assignments':
        return handlers.assignments(call as never);
      case 'heartbeat':
        return handlers.heartbeat(call as never);
      case 'updateTaskStatus':
        return handlers.updateTaskStatus(call as never);
      case 'listenSubscriptions':
        return broker.handlers.listenSubscriptions(call as never);
    }
  }

  async #forward(run: Run, call: ServedCall): Promise<unknown> {
    const client = this.#leader(run, call);
    try {
      if (call.method === 'heartbeat' || call.method === 'updateTaskStatus') {
        return await client.unary(call.method, call.request, FORWARD_TIMEOUT_MS, call.signal);
      }
      for await (const message of client.stream(call.method, call.request, call.signal)) await call.send(message);
      return undefined;
    } finally {
      client.close();
    }
  }

  /** A connection of its own for each call: what one breaks, the others do not notice. @throws ShoalError */
  #leader(run: Run, call: { nodeId: string; address: string; forwarded: boolean }): RpcClient {
    const world = this.#world;
    const addr = run.manager.leaderAddr();
    const server = addr === undefined || call.forwarded ? undefined : world.managerAt(addr)?.server();
    if (server === undefined) throw unavailable(NO_LEADER_MESSAGE);
    const as = { nodeId: call.nodeId, address: call.address, forwarded: true };
    return new RpcClient(world.wires, { hostId: this.id, process: run.process }, server, as);
  }
}
