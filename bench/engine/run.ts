import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { systemClock, unreachable } from '../../base/index.ts';
import { findDockerd, Lab, leftovers, makeMountPoints, removeMountPoints } from '../../lab/index.ts';
import { startDocker } from '../docker-side.ts';
import type { Side } from '../hosts.ts';
import { writeImage } from '../image.ts';
import { median, placeImage } from '../measure.ts';
import { storePart } from '../results.ts';
import { startShoal } from '../shoal-side.ts';
import { engineHost, memoryOf, removeAll, type EngineHost } from './host.ts';
import { burst, chatty, crowd, runOnce, writeSpeed } from './parts.ts';
import { printPart, type Ends, type Result } from './print.ts';

const CLIENTS = 8;
const BURST = 100;
const BURST_PAUSE_MS = 3_000;
const CROWD = 100;
const CHATTY = 50;
const CHATTY_SECONDS = 20;
/** After its start a daemon is looked at when this time has passed, ms. */
const SETTLE_MS = 10_000;

export const PARTS = ['run', 'burst', 'memory', 'many', 'logs', 'chatty'] as const;
export type EnginePart = (typeof PARTS)[number];

export interface EngineBenchOptions {
  parts: readonly EnginePart[];
  runs: number;
  /** Containers of the part `many`. */
  many: number;
  /** Measure Shoal only, even where dockerd is installed. */
  shoalOnly: boolean;
  signal: AbortSignal;
}

/** Measures one host's engine beside Docker's in the same run, in turns; prints and stores the figures. */
export async function engineBench(options: EngineBenchOptions): Promise<void> {
  const scratch = mkdtempSync(join(tmpdir(), 'shoal-bench-'));
  const dockerd = options.shoalOnly ? undefined : findDockerd();
  const labs = ['shoal', 'docker'].map((name) => new Lab(`bench-engine-${name}-${process.pid}`));
  const made = dockerd === undefined ? [] : makeMountPoints();
  try {
    const archive = join(scratch, 'image.tar');
    await writeImage(archive);
    const [own, peer] = labs as [Lab, Lab];
    const started = await startShoal(own, 1, 0, false);
    await systemClock.sleep(SETTLE_MS);
    const idle = memoryOf({ side: started }).daemons;
    const shoal = await ready(started, archive);
    const docker =
      dockerd === undefined ? undefined : await ready(await startDocker(peer, dockerd, 1, 0, false), archive);
    if (docker === undefined) {
      console.log('Docker is not measured: dockerd is not installed (Debian: docker.io), or --shoal-only was given.');
    }
    for (const part of options.parts) {
      options.signal.throwIfAborted();
      const [loadBefore = 0] = loadavg();
      const result = await measure(part, { shoal, docker, idle }, options);
      storePart('engine', part, { loadBefore, docker: docker?.side.version ?? null, ...result });
      printPart(result);
    }
  } finally {
    for (const lab of labs) if (existsSync(lab.names.stateFile)) await lab.down();
    removeMountPoints(made);
    rmSync(scratch, { recursive: true, force: true });
    const left = labs.flatMap((lab) => leftovers(lab.names));
    if (left.length > 0) console.error(`left behind: ${left.join(', ')}`);
  }
}

async function ready(side: Side, archive: string): Promise<EngineHost> {
  const host = engineHost(side, await placeImage(side, archive));
  // The first container reads programs from the disk.
  for (let i = 0; i < 3; i++) await runOnce(host);
  await removeAll(host);
  return host;
}

interface Sides {
  shoal: EngineHost;
  docker: EngineHost | undefined;
  /** Shoal's daemon before anything was measured, kB. */
  idle: number;
}

/** Each run measures both sides, one right after the other. */
async function inTurns(sides: Sides, runs: number, work: (host: EngineHost) => Promise<number>): Promise<Ends> {
  const shoal: number[] = [];
  const docker: number[] = [];
  for (let run = 0; run < runs; run++) {
    shoal.push(await work(sides.shoal));
    if (sides.docker !== undefined) docker.push(await work(sides.docker));
  }
  const ends = { shoal, shoalMedian: median(shoal) };
  return docker.length === 0 ? ends : { ...ends, docker, dockerMedian: median(docker) };
}

async function measure(part: EnginePart, sides: Sides, options: EngineBenchOptions): Promise<Result> {
  const { runs } = options;
  const few = Math.max(1, Math.min(runs, 5));
  switch (part) {
    case 'run':
      return { part, clientMs: await inTurns(sides, runs, runOnce) };
    case 'burst': {
      const rates = async (host: EngineHost): Promise<number> => {
        // The kernel still takes down what the other side removed.
        await systemClock.sleep(BURST_PAUSE_MS);
        return (await burst(host, BURST, CLIENTS)).perSecond;
      };
      return { part, containers: BURST, clients: CLIENTS, perSecond: await inTurns(sides, few, rates) };
    }
    case 'memory': {
      const shoal = await crowd(sides.shoal, CROWD, CLIENTS);
      const docker = sides.docker === undefined ? {} : { docker: await crowd(sides.docker, CROWD, CLIENTS) };
      return { part, idleKb: sides.idle, shoal, ...docker };
    }
    case 'many':
      return { part, shoal: await crowd(sides.shoal, options.many, CLIENTS) };
    case 'logs': {
      const log = await inTurns(sides, few, (host) => writeSpeed(host, 'log'));
      return { part, log, file: await inTurns(sides, few, (host) => writeSpeed(host, 'file')) };
    }
    case 'chatty':
      return { part, containers: CHATTY, turnsMs: await chatty(sides.shoal, CHATTY, CHATTY_SECONDS) };
    default:
      return unreachable(part);
  }
}
