import { loadavg } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { directSpawner, runChecked, unreachable } from '../../base/index.ts';
import { median } from '../measure.ts';
import { resultsFile, storePart } from '../results.ts';
import { dnsPart } from './dns.ts';
import type { ManyServicesResult } from './many-services.ts';
import type { OneHostResult } from './one-host.ts';
import {
  ANSWER_P99_TARGET_MS,
  ANSWERS_TARGET,
  ATTACH_TARGET_MS,
  MEMORY_TARGET_BYTES,
  printDns,
  printHost,
  printPush,
  printServices,
  printThroughput,
  PUSH_TARGET_SECONDS,
  TURN_TARGET_MS,
} from './print.ts';
import { pushPart } from './push.ts';
import { throughputPart } from './throughput-part.ts';

const HERE = dirname(fileURLToPath(import.meta.url));
const ENDPOINTS = 5000;
const SERVICES = 10_000;
const TASKS_EACH = 10;
const ATTACHES = 20;
const ONE_HOST_TIMEOUT_MS = 180_000;
/** As of the daemon's own start (bin/shoal), and a collection when it is asked for. */
const NODE_FLAGS = ['--expose-gc', '--import', 'tsx'];

export const PARTS = ['host', 'services', 'dns', 'push', 'throughput'] as const;
export type NetPart = (typeof PARTS)[number];

export interface NetBenchOptions {
  parts: readonly NetPart[];
  runs: number;
  /** Measure Shoal only, even where dockerd is installed. */
  shoalOnly: boolean;
  signal: AbortSignal;
}

/** Measures networks on this machine; prints and stores the figures. */
export async function netBench(options: NetBenchOptions): Promise<void> {
  for (const part of options.parts) {
    const [loadBefore = 0] = loadavg();
    storePart('net', part, { loadBefore, ...(await measurePart(part, options)) });
    options.signal.throwIfAborted();
  }
  console.log(`Stored in ${resultsFile('net')}`);
}

/** Measures and prints one part. @returns what is stored of it */
async function measurePart(part: NetPart, options: NetBenchOptions): Promise<object> {
  switch (part) {
    case 'host': {
      const result = await inNamespace<OneHostResult>('one-host.ts', ENDPOINTS, ATTACHES);
      printHost(result);
      return { ...hostSummary(result), raw: result };
    }
    case 'services': {
      const result = await inNamespace<ManyServicesResult>('many-services.ts', SERVICES, TASKS_EACH);
      printServices(result);
      return { what: 'one host takes the table of a network with very many services', ...result };
    }
    case 'dns': {
      const result = await dnsPart(options.signal);
      printDns(result);
      const targets = { perSecond: ANSWERS_TARGET, p99Ms: ANSWER_P99_TARGET_MS, longestTurnMs: TURN_TARGET_MS };
      return { ...result, targets };
    }
    case 'push': {
      const result = await pushPart(options);
      printPush(result);
      return { ...result, targetSeconds: PUSH_TARGET_SECONDS };
    }
    case 'throughput': {
      const result = await throughputPart(options);
      printThroughput(result);
      return result;
    }
    default:
      return unreachable(part);
  }
}

/** Runs a program that measures one host's networks in a process and a network namespace of its own. */
async function inNamespace<Result>(program: string, ...settings: number[]): Promise<Result> {
  const command = [process.execPath, ...NODE_FLAGS, join(HERE, program), ...settings.map(String)];
  const script = 'ip link set lo up && ip addr add 192.0.2.1/32 dev lo && exec "$@"';
  const args = ['--net', 'sh', '-c', script, 'sh', ...command];
  const text = await runChecked(directSpawner, { file: 'unshare', args, timeoutMs: ONE_HOST_TIMEOUT_MS });
  return JSON.parse(text.trim().split('\n').at(-1) ?? '') as Result;
}

function hostSummary(result: OneHostResult): object {
  const { attachMs, attachFullMs, endpoints, setTableMs, changeTableMs, changeWholeMs, rssBytes, heapBytes } = result;
  return {
    what:
      'createSandbox on an overlay, its own time (runs that each remove the container again), and what a table of ' +
      `${endpoints} endpoints costs one host with 10 containers on it`,
    attach: { medianMs: median(attachMs), medianFullMs: median(attachFullMs), targetMs: ATTACH_TARGET_MS },
    table: {
      endpoints,
      setTableMs,
      changeTableMs,
      changeWholeMs,
      rssBytes,
      heapBytes,
      targetBytes: MEMORY_TARGET_BYTES,
    },
  };
}
