import { SeededRandom, silentLogger, type Logger } from '../../base/index.ts';
import { allTurns, Journal, Scheduler, SimDisk, SimNetwork, SimProcess } from '../../raft/sim/index.ts';
import { Wires } from './links.ts';
import { ManagerHost } from './manager-host.ts';
import { Oracle } from './oracle.ts';
import { profileOf, type Profile } from './profile.ts';
import type { RpcServer } from './rpc.ts';
import type { Stage } from './stage.ts';
import { WorkerHost } from './worker-host.ts';

export interface WorldOptions {
  seed: number;
  /** Changes the profile that the seed gives. */
  profile?: Partial<Profile>;
  log?: Logger;
}

/** The wall clock at the beginning, ms since the epoch: a Sunday evening in summer, UTC. */
const EPOCH_MS = Date.UTC(2026, 6, 5, 18, 0, 0);
/** Hosts of workers are numbered from here on; those of managers are their raft ids. */
const FIRST_WORKER_ID = 101;
const CPUS = 1e9;
const GIB = 2 ** 30;

/** The whole control plane on virtual time: managers, workers, and the network between them. */
export class World implements Stage {
  readonly scheduler = new Scheduler(allTurns);
  readonly random: SeededRandom;
  readonly profile: Profile;
  readonly journal: Journal;
  readonly oracle: Oracle;
  readonly network: SimNetwork;
  readonly wires: Wires;
  readonly managers: ManagerHost[] = [];
  readonly workers: WorkerHost[] = [];
  readonly #log: Logger;
  #failure: unknown;
  #nextWorker = FIRST_WORKER_ID;

  constructor(options: WorldOptions) {
    const root = new SeededRandom(options.seed);
    this.profile = { ...profileOf(new SeededRandom(root.uint32())), ...options.profile };
    this.random = new SeededRandom(root.uint32());
    this.#log = options.log ?? silentLogger;
    this.journal = new Journal(this.scheduler);
    this.oracle = new Oracle(this);
    this.network = new SimNetwork(this.scheduler, new SeededRandom(root.uint32()), (message) => {
      const run = this.managers[message.to - 1]?.run;
      run?.process.run(() => run.manager.consensus.receiver()?.step(message), message.from);
    });
    this.network.temper = this.profile.links;
    this.network.encodes = this.profile.encodes;
    this.wires = new Wires(this.scheduler, this.network, new SeededRandom(root.uint32()));
    this.wires.temper = this.profile.wire;
    for (let id = 1; id <= this.profile.managers; id++) {
      const disk = new SimDisk(this.scheduler, new SeededRandom(this.random.uint32()));
      disk.temper = this.profile.disk;
      this.managers.push(new ManagerHost(this, id, disk, new SeededRandom(this.random.uint32())));
    }
  }

  get now(): number {
    return this.scheduler.now;
  }

  /** Wall-clock time without any skew, ms since the epoch. */
  get wallMs(): number {
    return EPOCH_MS + this.now;
  }

  /** Keeps the first failure; the run ends with it. */
  fail(error: unknown): void {
    this.#failure ??= error;
  }

  logOf(name: string): Logger {
    return this.#log.with({ host: name });
  }

  /** One run of a program on a host. */
  newProcess(random: SeededRandom, hostId: number, fail: (error: unknown) => void): SimProcess {
    const { skewMs } = this.profile;
    // The same for all runs on a host.
    const skew = (new SeededRandom(hostId).float() * 2 - 1) * skewMs;
    const options = { scheduler: this.scheduler, random, turnMs: 0, wallMs: EPOCH_MS + skew };
    return new SimProcess({ ...options, after: () => undefined, fail }, 1);
  }

  runs(nodeId: string, taskId: string): boolean {
    const worker = this.workers.find((one) => one.nodeId === nodeId);
    return worker?.containers.get(taskId)?.state === 'running';
  }

  managerAt(addr: string): ManagerHost | undefined {
    return this.managers.find((manager) => manager.addr === addr);
  }

  /** Where nothing listens: whoever connects there learns so, or hears nothing. */
  nobody(addr: string): RpcServer {
    const manager = this.managerAt(addr);
    const process = this.newProcess(new SeededRandom(0), manager?.id ?? 0, () => undefined);
    process.kill();
    const refuse = (): Promise<never> => Promise.reject(new Error('nothing listens'));
    return { hostId: manager?.id ?? 0, process, serve: refuse, serveReports: refuse };
  }

  /** A new machine; it is to join. */
  addWorker(): WorkerHost {
    const { random } = this;
    const id = this.#nextWorker++;
    const generic = random.int(3) === 0 ? [{ discrete_resource_spec: { kind: 'gpu', value: 2 } }] : [];
    const resources = { nano_cpus: (2 + random.int(3)) * CPUS, memory_bytes: (2 + random.int(3)) * GIB, generic };
    const engineLabels = { zone: `zone-${random.int(3)}` };
    const nodeId = `node${id}${random.uint32().toString(36)}`;
    const worker = new WorkerHost(this, new SeededRandom(random.uint32()), { id, nodeId, resources, engineLabels });
    this.workers.push(worker);
    return worker;
  }

  /** Workers that belong to the cluster. */
  get members(): WorkerHost[] {
    return this.workers.filter((worker) => !worker.retired);
  }

  /** Who leads with an up-to-date store. */
  leader(): ManagerHost | undefined {
    let best: ManagerHost | undefined;
    let bestTerm = 0;
    for (const manager of this.managers) {
      const status = manager.run?.manager.consensus.status();
      if (!manager.leading || status === undefined || status.term <= bestTerm) continue;
      best = manager;
      bestTerm = status.term;
    }
    return best;
  }

  /** Runs until `endMs` of virtual time, or until `done`. @throws the first failure. */
  async run(endMs: number, done: () => boolean = () => false): Promise<void> {
    await this.scheduler.run(endMs, () => this.#failure !== undefined || done());
    if (this.#failure !== undefined) throw this.#failure;
  }
}
