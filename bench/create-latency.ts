import { mkdtempSync, rmSync } from 'node:fs';
import { loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { httpJson, must, ShoalError, systemClock } from '../base/index.ts';
import { Lab, leftovers } from '../lab/index.ts';
import { quantile } from './cluster/api-probe.ts';
import type { Side } from './hosts.ts';
import { writeImage } from './image.ts';
import { median, placeImage } from './measure.ts';
import { startShoal } from './shoal-side.ts';
import { machineFacts } from './machine.ts';
import { resultsFile, storeResult } from './results.ts';

const MANAGERS = 3;
const WORKERS = 2;
/** Time between two looks at the task, ms: what is measured is late by half of it and one request. */
const POLL_MS = 5;
const TIMEOUT_MS = 30_000;
/** Quiet before each run, ms. */
const QUIET_MS = 1500;
const TARGET_MS = 300;
const COMMAND = ['/bin/sh', '-c', 'trap "exit 0" TERM; sleep 1000000 & wait'];

export interface CreateLatencyOptions {
  runs: number;
  signal: AbortSignal;
}

/** One service: from the request until its task is Running, and when the task says it reached each state, ms. */
interface CreateRun {
  ms: number;
  /** The POST alone. */
  requestMs: number;
  node: string;
}

interface ApiTask {
  NodeID?: string;
  Status: { State: string; Err?: string };
}

/** Measures how long a service of one task takes to run on a quiet cluster; prints and stores the figures. */
export async function createLatency({ runs: count, signal }: CreateLatencyOptions): Promise<void> {
  const scratch = mkdtempSync(join(tmpdir(), 'shoal-bench-'));
  const lab = new Lab(`bench-create-${process.pid}`);
  const [loadBefore = 0] = loadavg();
  try {
    const archive = join(scratch, 'image.tar');
    await writeImage(archive);
    const side = await startShoal(lab, MANAGERS, WORKERS);
    const image = await placeImage(side, archive);
    // The first start of a container on a host reads programs from the disk.
    for (let i = 0; i < MANAGERS + WORKERS; i++) await measureOne(side, image, `warm-${i}`, signal);
    const runs: CreateRun[] = [];
    for (let i = 0; i < count; i++) runs.push(await measureOne(side, image, `run-${i}`, signal));
    store(runs, loadBefore);
    print(runs);
  } finally {
    await lab.down();
    const left = leftovers(lab.names);
    if (left.length > 0) console.error(`left behind by ${lab.names.name}: ${left.join(', ')}`);
    rmSync(scratch, { recursive: true, force: true });
  }
}

async function measureOne(side: Side, image: string, name: string, signal: AbortSignal): Promise<CreateRun> {
  const host = must(side.hosts[0], 'first host').docker_host;
  await systemClock.sleep(QUIET_MS, signal);
  const body = {
    Name: name,
    TaskTemplate: { ContainerSpec: { Image: image, Command: COMMAND, StopGracePeriod: 1_000_000_000 } },
    Mode: { Replicated: { Replicas: 1 } },
  };
  const began = systemClock.monotonic();
  const { ID: id } = await httpJson<{ ID: string }>({ host, method: 'POST', path: '/services/create', body });
  const requestMs = systemClock.monotonic() - began;
  const path = `/tasks?filters=${encodeURIComponent(JSON.stringify({ service: [id] }))}`;
  for (;;) {
    const tasks = await httpJson<ApiTask[]>({ host, method: 'GET', path });
    const running = tasks.find((task) => task.Status.State === 'running');
    const ms = systemClock.monotonic() - began;
    if (running !== undefined) {
      await remove(side, id, signal);
      return { ms, requestMs, node: running.NodeID ?? '' };
    }
    if (ms > TIMEOUT_MS) throw new ShoalError('DeadlineExceeded', `${name} does not run: ${JSON.stringify(tasks)}`);
    await systemClock.sleep(POLL_MS, signal);
  }
}

/** Removes the service and waits until no host has a container of it. */
async function remove(side: Side, id: string, signal: AbortSignal): Promise<void> {
  const host = must(side.hosts[0], 'first host').docker_host;
  await httpJson({ host, method: 'DELETE', path: `/services/${id}` });
  for (const { docker_host: each } of side.hosts) {
    while ((await httpJson<unknown[]>({ host: each, method: 'GET', path: '/containers/json?all=1' })).length > 0) {
      await systemClock.sleep(50, signal);
    }
  }
}

function store(runs: readonly CreateRun[], loadBefore: number): void {
  const all = runs.map((run) => run.ms);
  const result = {
    benchmark: 'create-latency',
    date: new Date().toISOString(),
    machine: machineFacts(),
    what:
      `time from POST /services/create (1 task, image present) until GET /tasks, asked every ${POLL_MS} ms, shows it ` +
      `Running; ${MANAGERS} managers and ${WORKERS} workers in namespaces of this machine, quiet before each run`,
    ...{ loadBefore, targetMs: TARGET_MS, medianMs: median(all), p99Ms: quantile(all, 0.99), runs },
  };
  storeResult('create-latency', result);
}

function print(runs: readonly CreateRun[]): void {
  const all = runs.map((run) => run.ms);
  const request = median(runs.map((run) => run.requestMs));
  console.log(`\n${runs.length} services of one task, from the request to Running (target: ${TARGET_MS} ms):`);
  const [fast, middle, slow] = [Math.min(...all), median(all), quantile(all, 0.99)].map((ms) => ms.toFixed(0));
  console.log(`  fastest ${fast} ms, median ${middle} ms, p99 ${slow} ms; the request alone ${request.toFixed(0)} ms`);
  console.log(`Stored in ${resultsFile('create-latency')}`);
}
