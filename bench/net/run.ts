import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { loadavg, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { directSpawner, failedPrecondition, invalidArgument, runChecked } from '../../base/index.ts';
import { Lab, leftovers } from '../../lab/index.ts';
import { writeImage } from '../image.ts';
import { machineFacts } from '../machine.ts';
import { median, placeImage } from '../measure.ts';
import { startShoal } from '../shoal-side.ts';
import type { OneHostResult } from './one-host.ts';
import { prepare } from './stage.ts';
import { throughput, type ThroughputResult } from './throughput.ts';

const HERE = dirname(fileURLToPath(import.meta.url));
const RESULTS = join(HERE, '..', 'results', 'net.json');
const ENDPOINTS = 5000;
const ATTACHES = 20;
const SECONDS = 1;
const ATTACH_TARGET_MS = 15;
const MEMORY_TARGET_BYTES = 50 * 2 ** 20;
const ONE_HOST_TIMEOUT_MS = 180_000;
/** As of the daemon's own start (bin/shoal), and a collection when it is asked for. */
const NODE_FLAGS = ['--expose-gc', '--import', 'tsx'];

export const PARTS = ['throughput', 'host'] as const;
export type NetPart = (typeof PARTS)[number];

export interface NetBenchOptions {
  parts: readonly NetPart[];
  runs: number;
  signal: AbortSignal;
}

/** Each part as it was last measured, with how busy the machine was before. */
type Stored = Partial<Record<NetPart, { date: string; loadBefore: number; [more: string]: unknown }>>;

/** @returns the parts of a `--only` list. @throws ShoalError InvalidArgument */
export function netParts(names: readonly string[] | undefined): readonly NetPart[] {
  if (names === undefined) return PARTS;
  const known = PARTS.filter((part) => names.includes(part));
  if (known.length !== new Set(names).size) throw invalidArgument(`--only must be one of ${PARTS.join(', ')}`);
  return known;
}

/** Measures networks on this machine; prints and stores the figures. */
export async function netBench({ parts, runs, signal }: NetBenchOptions): Promise<void> {
  if (parts.includes('host')) {
    const [loadBefore = 0] = loadavg();
    const result = await oneHost();
    store('host', loadBefore, { ...hostSummary(result), raw: result });
    printHost(result);
  }
  if (parts.includes('throughput')) {
    const [loadBefore = 0] = loadavg();
    const result = await throughputPart(runs, signal);
    store('throughput', loadBefore, { ...result });
    printThroughput(result);
  }
  console.log(`Stored in ${RESULTS}`);
}

async function throughputPart(runs: number, signal: AbortSignal): Promise<ThroughputResult> {
  if ((await directSpawner.run({ file: 'sh', args: ['-c', 'command -v iperf3'] })).code !== 0) {
    throw failedPrecondition(
      'iperf3 is missing, and nothing of "throughput" can be measured: install the package iperf3',
    );
  }
  const scratch = mkdtempSync(join(tmpdir(), 'shoal-bench-'));
  const lab = new Lab(`bench-net-${process.pid}`);
  try {
    const archive = join(scratch, 'image.tar');
    await writeImage(archive);
    const side = await startShoal(lab, 1, 2);
    const stage = await prepare(side, await placeImage(side, archive), signal);
    return await throughput(stage, { runs, seconds: SECONDS, signal });
  } finally {
    await lab.down();
    const left = leftovers(lab.names);
    if (left.length > 0) console.error(`left behind by ${lab.names.name}: ${left.join(', ')}`);
    rmSync(scratch, { recursive: true, force: true });
  }
}

/** One host's networks in a process and a network namespace of their own. */
async function oneHost(): Promise<OneHostResult> {
  const program = [process.execPath, ...NODE_FLAGS, join(HERE, 'one-host.ts'), String(ENDPOINTS), String(ATTACHES)];
  const script = 'ip link set lo up && ip addr add 192.0.2.1/32 dev lo && exec "$@"';
  const args = ['--net', 'sh', '-c', script, 'sh', ...program];
  const text = await runChecked(directSpawner, { file: 'unshare', args, timeoutMs: ONE_HOST_TIMEOUT_MS });
  return JSON.parse(text.trim().split('\n').at(-1) ?? '') as OneHostResult;
}

function hostSummary(result: OneHostResult): object {
  const { attachMs, attachFullMs, endpoints, setTableMs, changeTableMs, rssBytes, heapBytes } = result;
  return {
    what:
      'createSandbox on an overlay, its own time (runs that each remove the container again), and what a table of ' +
      `${endpoints} endpoints costs one host with 10 containers on it`,
    attach: { medianMs: median(attachMs), medianFullMs: median(attachFullMs), targetMs: ATTACH_TARGET_MS },
    table: { endpoints, setTableMs, changeTableMs, rssBytes, heapBytes, targetBytes: MEMORY_TARGET_BYTES },
  };
}

function store(part: NetPart, loadBefore: number, figures: object): void {
  const known = existsSync(RESULTS) ? (JSON.parse(readFileSync(RESULTS, 'utf8')) as { parts?: Stored }) : {};
  const parts: Stored = { ...known.parts, [part]: { date: new Date().toISOString(), loadBefore, ...figures } };
  mkdirSync(dirname(RESULTS), { recursive: true });
  const result = { benchmark: 'net', machine: machineFacts(), parts };
  writeFileSync(RESULTS, `${JSON.stringify(result, undefined, 2)}\n`);
}

const verdict = (met: boolean): string => (met ? 'met' : 'MISSED');

function printThroughput(result: ThroughputResult): void {
  console.log(
    `\nOne TCP stream for ${result.seconds} s, medians of ${result.runs['hand']?.length ?? 0} runs in turns:`,
  );
  for (const [name, mbps] of Object.entries(result.mediansMbps)) {
    console.log(`  ${(result.what[name] ?? name).padEnd(58)} ${mbps.toFixed(0).padStart(7)} Mbit/s`);
  }
  for (const { name, value, target, met } of result.ratios) {
    console.log(`  ${name}: ${(value * 100).toFixed(1)} % (target: at least ${target * 100} %, ${verdict(met)})`);
  }
}

function printHost(result: OneHostResult): void {
  const { attachMs, attachFullMs, endpoints, setTableMs, changeTableMs, rssBytes, heapBytes } = result;
  const mib = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(1)} MiB`;
  const full = median(attachFullMs);
  console.log(`\nOne host, ${endpoints} endpoints in one network:`);
  console.log(
    `  attach of a container: ${median(attachMs).toFixed(1)} ms, with all endpoints ${full.toFixed(1)} ms ` +
      `(target: ${ATTACH_TARGET_MS} ms, ${verdict(full < ATTACH_TARGET_MS)})`,
  );
  console.log(`  first table ${setTableMs.toFixed(0)} ms, one task more ${changeTableMs.toFixed(0)} ms`);
  const met = verdict(rssBytes < MEMORY_TARGET_BYTES);
  console.log(`  memory added: ${mib(rssBytes)} resident, ${mib(heapBytes)} of objects (target: 50 MiB, ${met})`);
}
