import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { httpJson, must, ShoalError, systemClock } from '../base/index.ts';
import { Lab, leftovers } from '../lab/index.ts';
import type { Side } from './hosts.ts';
import { writeImage } from './image.ts';
import { median, placeImage } from './measure.ts';
import { machineFacts } from './machine.ts';
import { startShoal } from './shoal-side.ts';
import { resultsFile, storeResult } from './results.ts';

const MANAGERS = 1;
const WORKERS = 3;
const REPLICAS = 6;
const POLL_MS = 20;
const TIMEOUT_MS = 60_000;
/** A cut that must change nothing, ms, and how long its effects are looked for, ms. */
const BLIP_MS = 3_000;
const BLIP_WATCH_MS = 5_000;
/** Cuts that lose the worker, one after the other, ms: pauses between an agent's tries have grown in the longer ones. */
const CUTS_MS = [8_000, 25_000];
const COMMAND = ['/bin/sh', '-c', 'trap "exit 0" TERM; sleep 1000000 & wait'];

export interface FailoverOptions {
  runs: number;
  signal: AbortSignal;
}

/** One worker cut off, replaced, and back again. */
interface LossRun {
  cutSeconds: number;
  tasksLost: number;
  /** From the cut until as many replicas as wanted run on the other hosts. */
  replacedSeconds: number;
  /** From the end of the cut until no container of the lost tasks is left. */
  stoppedSeconds: number;
}

interface ApiTask {
  ID: string;
  NodeID?: string;
  DesiredState: string;
  Status: { State: string; ContainerStatus?: { PID: number } };
}

class Scene {
  readonly #side: Side;
  readonly #host: string;
  readonly #service: string;
  readonly #signal: AbortSignal;

  private constructor(side: Side, service: string, signal: AbortSignal) {
    this.#side = side;
    this.#host = must(side.hosts[0], 'first host').docker_host;
    this.#service = service;
    this.#signal = signal;
  }

  static async begin(side: Side, image: string, signal: AbortSignal): Promise<Scene> {
    const host = must(side.hosts[0], 'first host').docker_host;
    const body = {
      Name: 'bench',
      TaskTemplate: {
        ContainerSpec: { Image: image, Command: COMMAND },
        Placement: { Constraints: ['node.role==worker'] },
      },
      Mode: { Replicated: { Replicas: REPLICAS } },
      UpdateConfig: { Parallelism: 0 },
    };
    const { ID } = await httpJson<{ ID: string }>({ host, method: 'POST', path: '/services/create', body });
    const scene = new Scene(side, ID, signal);
    await scene.#until('all replicas run', async () => (await scene.#running()).length === REPLICAS);
    return scene;
  }

  async #until(what: string, probe: () => Promise<boolean> | boolean): Promise<number> {
    const began = systemClock.monotonic();
    while (!(await probe())) {
      if (systemClock.monotonic() - began > TIMEOUT_MS) throw new ShoalError('DeadlineExceeded', `${what}: not so`);
      await systemClock.sleep(POLL_MS, this.#signal);
    }
    return (systemClock.monotonic() - began) / 1000;
  }

  async #tasks(): Promise<ApiTask[]> {
    const path = `/tasks?filters=${encodeURIComponent(JSON.stringify({ service: [this.#service] }))}`;
    return await httpJson<ApiTask[]>({ host: this.#host, method: 'GET', path });
  }

  async #running(): Promise<ApiTask[]> {
    return (await this.#tasks()).filter((task) => task.DesiredState === 'running' && task.Status.State === 'running');
  }

  async #nodeId(name: string): Promise<string> {
    const nodes = await httpJson<{ ID: string; Description: { Hostname: string } }[]>({
      ...{ host: this.#host, method: 'GET', path: '/nodes' },
    });
    return must(
      nodes.find((node) => node.Description.Hostname === name),
      `node ${name}`,
    ).ID;
  }

  async #isReady(nodeId: string): Promise<boolean> {
    const path = `/nodes/${nodeId}`;
    return (
      (await httpJson<{ Status: { State: string } }>({ host: this.#host, method: 'GET', path })).Status.State ===
      'ready'
    );
  }

  async loss(worker: string, cutMs: number): Promise<LossRun> {
    const { lab } = this.#side;
    const nodeId = await this.#nodeId(worker);
    const lost = (await this.#running()).filter((task) => task.NodeID === nodeId);
    const pids = lost.map((task) => must(task.Status.ContainerStatus, 'container').PID);
    const began = systemClock.monotonic();
    await lab.partition([worker], false);
    const replacedSeconds = await this.#until('replaced', async () => {
      return (await this.#running()).filter((task) => task.NodeID !== nodeId).length === REPLICAS;
    });
    await systemClock.sleep(Math.max(0, cutMs - (systemClock.monotonic() - began)), this.#signal);
    await lab.heal([worker]);
    const stoppedSeconds = await this.#until('stopped', () => pids.every((pid) => !existsSync(`/proc/${pid}`)));
    await this.#until('ready', () => this.#isReady(nodeId));
    await this.#level();
    return { cutSeconds: cutMs / 1000, tasksLost: lost.length, replacedSeconds, stoppedSeconds };
  }

  /** Each worker has its share again. */
  async #level(): Promise<void> {
    await httpJson({ host: this.#host, method: 'POST', path: `/shoal/services/${this.#service}/rebalance` });
    await this.#until('level', async () => {
      const path = `/services/${this.#service}`;
      const service = await httpJson<{ RebalanceRequested?: string }>({ host: this.#host, method: 'GET', path });
      return service.RebalanceRequested === undefined;
    });
  }

  /** Cuts a worker off for a moment. @returns tasks that this brought */
  async blip(worker: string): Promise<number> {
    const before = new Set((await this.#tasks()).map((task) => task.ID));
    await this.#side.lab.partition([worker], false);
    await systemClock.sleep(BLIP_MS, this.#signal);
    await this.#side.lab.heal([worker]);
    await systemClock.sleep(BLIP_WATCH_MS, this.#signal);
    return (await this.#tasks()).filter((task) => !before.has(task.ID)).length;
  }
}

/** Measures, prints and stores what the silent loss of a worker costs, and that a short cut costs nothing. */
export async function failover(options: FailoverOptions): Promise<void> {
  const scratch = mkdtempSync(join(tmpdir(), 'shoal-bench-'));
  const lab = new Lab(`bench-failover-${process.pid}`);
  try {
    const archive = join(scratch, 'image.tar');
    await writeImage(archive);
    const [loadBefore = 0] = loadavg();
    const side = await startShoal(lab, MANAGERS, WORKERS);
    const scene = await Scene.begin(side, await placeImage(side, archive), options.signal);
    const losses: LossRun[] = [];
    const blips: number[] = [];
    for (let run = 0; run < options.runs; run++) {
      const worker = `w${(run % WORKERS) + 1}`;
      const loss = await scene.loss(worker, must(CUTS_MS[run % CUTS_MS.length], 'cut'));
      losses.push(loss);
      blips.push(await scene.blip(worker));
      console.log(
        `run ${run + 1}: ${loss.tasksLost} tasks of ${worker} replaced after ${loss.replacedSeconds.toFixed(2)} s; ` +
          `${loss.cutSeconds} s later it is back, its old containers gone after ${loss.stoppedSeconds.toFixed(2)} s; ` +
          `a cut of ${BLIP_MS / 1000} s replaced ${blips.at(-1)}`,
      );
    }
    store(side, loadBefore, losses, blips);
  } finally {
    rmSync(scratch, { recursive: true, force: true });
    await lab.down();
    const left = leftovers(lab.names);
    if (left.length > 0) console.error(`left behind by ${lab.names.name}: ${left.join(', ')}`);
  }
}

const summary = (values: readonly number[]) => ({ median: median(values), max: Math.max(...values) });

function store(side: Side, loadBefore: number, losses: readonly LossRun[], blips: readonly number[]): void {
  const result = {
    benchmark: 'failover',
    date: new Date().toISOString(),
    machine: machineFacts(),
    what:
      `${REPLICAS} replicas on ${WORKERS} workers, one manager, default settings; a worker's network is cut: time until all ` +
      `replicas run on the others (GET /tasks every ${POLL_MS} ms); the cut ends: time until its old containers are gone; ` +
      `then a cut of ${BLIP_MS / 1000} s: tasks that it brought`,
    version: side.version,
    configuration: side.configuration,
    loadBefore,
    replacedSeconds: summary(losses.map((loss) => loss.replacedSeconds)),
    stoppedSeconds: summary(losses.map((loss) => loss.stoppedSeconds)),
    replacedByShortCuts: blips.reduce((sum, count) => sum + count, 0),
    losses,
    blips,
  };
  storeResult('failover', result);
  const line = ({ median: middle, max }: { median: number; max: number }): string =>
    `median ${middle.toFixed(2)} s, longest ${max.toFixed(2)} s`;
  console.log(`\nlost worker, replacements Running: ${line(result.replacedSeconds)}`);
  console.log(`worker back, old containers gone:  ${line(result.stoppedSeconds)}`);
  console.log(`tasks replaced by ${blips.length} cuts of ${BLIP_MS / 1000} s: ${result.replacedByShortCuts}`);
  console.log(`Stored in ${resultsFile('failover')}`);
}
