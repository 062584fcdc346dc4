import { mkdtempSync, rmSync } from 'node:fs';
import { loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { findDockerd, Lab, leftovers, makeMountPoints, removeMountPoints } from '../lab/index.ts';
import { startDocker } from './docker-side.ts';
import { writeImage } from './image.ts';
import type { HostMemory, Side } from './hosts.ts';
import { measureStart, median, placeImage, type StartRun } from './measure.ts';
import { machineFacts } from './machine.ts';
import { startShoal } from './shoal-side.ts';
import { resultsFile, storeResult } from './results.ts';

const MANAGERS = 1;
const WORKERS = 3;

export interface StartRateOptions {
  replicas: number;
  runs: number;
  /** Measure Shoal only, even where dockerd is installed. */
  shoalOnly: boolean;
  signal: AbortSignal;
}

/** What is stored of one side. */
export interface SideResult {
  version: string;
  configuration: readonly string[];
  /** Time from the request to the task Running of a service with one replica, s. */
  oneReplicaSeconds: { runs: number[]; median: number };
  runs: StartRun[];
  /** Load average of the last minute before the first run: what else ran on the machine. */
  loadBefore: number;
  medianSeconds: number;
  medianContainersPerSecond: number;
  medianRemoveSeconds: number;
  /** At the end of the last start. */
  memory: HostMemory[];
}

/** Measures both sides one after the other, prints a table and stores the figures. */
export async function startRate(options: StartRateOptions): Promise<void> {
  const scratch = mkdtempSync(join(tmpdir(), 'shoal-bench-'));
  const archive = join(scratch, 'image.tar');
  try {
    await writeImage(archive);
    const shoal = await onHosts('bench-shoal', options, archive, (lab) => startShoal(lab, MANAGERS, WORKERS));
    const dockerd = options.shoalOnly ? undefined : findDockerd();
    const docker = dockerd === undefined ? undefined : await dockerSide(dockerd, options, archive);
    if (docker === undefined) {
      console.log('Docker was not measured: dockerd is not installed (Debian: docker.io), or --shoal-only was given.');
    }
    store(options, shoal, docker);
    print(options, shoal, docker);
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

async function dockerSide(dockerd: string, options: StartRateOptions, archive: string): Promise<SideResult> {
  const made = makeMountPoints();
  try {
    return await onHosts('bench-docker', options, archive, (lab) => startDocker(lab, dockerd, MANAGERS, WORKERS));
  } finally {
    removeMountPoints(made);
  }
}

/** Measures on hosts that exist for this alone; they are gone afterwards, whatever happened. */
async function onHosts(
  name: string,
  options: StartRateOptions,
  archive: string,
  start: (lab: Lab) => Promise<Side>,
): Promise<SideResult> {
  const lab = new Lab(`${name}-${process.pid}`);
  try {
    return await measure(await start(lab), options, archive);
  } finally {
    await lab.down();
    const left = leftovers(lab.names);
    if (left.length > 0) console.error(`left behind by ${lab.names.name}: ${left.join(', ')}`);
  }
}

async function measure(side: Side, options: StartRateOptions, archive: string): Promise<SideResult> {
  const { signal, replicas, runs: count } = options;
  const [loadBefore = 0] = loadavg();
  const image = await placeImage(side, archive);
  const one: number[] = [];
  for (let run = 0; run < count; run++) one.push((await measureStart(side, image, 1, signal)).run.seconds);
  const runs: StartRun[] = [];
  let memory: HostMemory[] = [];
  for (let run = 1; run <= count; run++) {
    const measured = await measureStart(side, image, replicas, signal);
    runs.push(measured.run);
    memory = measured.memory;
    const { seconds, removeSeconds } = measured.run;
    console.log(
      `${side.name} run ${run}: ${replicas} Running after ${seconds.toFixed(2)} s, removed in ${removeSeconds.toFixed(2)} s`,
    );
  }
  return {
    version: side.version,
    configuration: side.configuration,
    oneReplicaSeconds: { runs: one, median: median(one) },
    runs,
    loadBefore,
    medianSeconds: median(runs.map((run) => run.seconds)),
    medianContainersPerSecond: median(runs.map((run) => run.containersPerSecond)),
    medianRemoveSeconds: median(runs.map((run) => run.removeSeconds)),
    memory,
  };
}

function store(options: StartRateOptions, shoal: SideResult, docker: SideResult | undefined): void {
  const result = {
    benchmark: 'start-rate',
    date: new Date().toISOString(),
    machine: machineFacts(),
    what:
      `time from POST /services/create (${options.replicas} replicas of busybox, image by its id and present on every ` +
      `host, no networks or ports) until GET /tasks, asked every 50 ms, shows all Running; ${MANAGERS + WORKERS} hosts ` +
      `(${MANAGERS} manager, ${WORKERS} workers) in namespaces of this machine; one side after the other`,
    ratio: docker === undefined ? null : docker.medianSeconds / shoal.medianSeconds,
    shoal,
    docker: docker ?? null,
  };
  storeResult('start-rate', result);
}

function print(options: StartRateOptions, shoal: SideResult, docker: SideResult | undefined): void {
  const mb = (kb: number): string => `${(kb / 1024).toFixed(0)} MB`;
  const most = (side: SideResult, of: (memory: HostMemory) => number): string => mb(Math.max(...side.memory.map(of)));
  const sides = docker === undefined ? [shoal] : [shoal, docker];
  const rows: string[][] = [
    ['', `Shoal ${shoal.version}`, ...(docker === undefined ? [] : [`Docker ${docker.version}`])],
    [`${options.replicas} replicas Running, median`, ...sides.map((side) => `${side.medianSeconds.toFixed(2)} s`)],
    ['containers per second', ...sides.map((side) => side.medianContainersPerSecond.toFixed(1))],
    ['1 replica Running, median', ...sides.map((side) => `${side.oneReplicaSeconds.median.toFixed(2)} s`)],
    ['removed, median', ...sides.map((side) => `${side.medianRemoveSeconds.toFixed(2)} s`)],
    ['daemons, peak memory, largest host', ...sides.map((side) => most(side, (memory) => memory.daemonsPeakRssKb))],
    ['monitors or shims, the same', ...sides.map((side) => most(side, (memory) => memory.monitorsPeakRssKb))],
  ];
  const widths = [0, 1, 2].map((column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  console.log('');
  for (const row of rows)
    console.log(
      row
        .map((cell, i) => cell.padEnd((widths[i] ?? 0) + 3))
        .join('')
        .trimEnd(),
    );
  if (docker !== undefined) {
    console.log(`\nShoal is ${(docker.medianSeconds / shoal.medianSeconds).toFixed(1)} times as fast as Docker.`);
  }
  console.log(`Stored in ${resultsFile('start-rate')}`);
}
