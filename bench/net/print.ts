import { median } from '../measure.ts';
import type { DnsResult, DnsRun } from './dns.ts';
import type { ManyServicesResult, Step } from './many-services.ts';
import type { OneHostResult } from './one-host.ts';
import type { PushResult } from './push.ts';
import type { ThroughputFigures } from './throughput-part.ts';

export const ATTACH_TARGET_MS = 15;
export const MEMORY_TARGET_BYTES = 50 * 2 ** 20;

export const ANSWERS_TARGET = 30_000;
export const ANSWER_P99_TARGET_MS = 5;
export const TURN_TARGET_MS = 20;
export const PUSH_TARGET_SECONDS = 1;

export const verdict = (met: boolean): string => (met ? 'met' : 'MISSED');

const mib = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(1)} MiB`;

export function printThroughput(result: ThroughputFigures): void {
  console.log(
    `\nOne TCP stream for ${result.seconds} s, medians of ${result.runs['hand']?.length ?? 0} runs in turns:`,
  );
  for (const [name, mbps] of Object.entries(result.mediansMbps)) {
    console.log(`  ${(result.what[name] ?? name).padEnd(58)} ${mbps.toFixed(0).padStart(7)} Mbit/s`);
  }
  for (const { name, value, target, met } of result.ratios) {
    const asked = target === undefined ? '' : ` (target: at least ${target * 100} %, ${verdict(met === true)})`;
    console.log(`  ${name}: ${(value * 100).toFixed(1)} %${asked}`);
  }
  const { version, notMeasured } = result.docker;
  if (version !== undefined) console.log(`  Docker is ${version}.`);
  if (notMeasured !== undefined) console.log(`  ${notMeasured}`);
}

export function printHost(result: OneHostResult): void {
  const { attachMs, attachFullMs, endpoints, setTableMs, changeTableMs, changeWholeMs, rssBytes, heapBytes } = result;
  const full = median(attachFullMs);
  console.log(`\nOne host, ${endpoints} endpoints in one network:`);
  console.log(
    `  attach of a container: ${median(attachMs).toFixed(1)} ms, with all endpoints ${full.toFixed(1)} ms ` +
      `(target: ${ATTACH_TARGET_MS} ms, ${verdict(full < ATTACH_TARGET_MS)})`,
  );
  console.log(
    `  first table ${setTableMs.toFixed(0)} ms, one task more ${changeTableMs.toFixed(1)} ms, as a whole table ${changeWholeMs.toFixed(0)} ms`,
  );
  const met = verdict(rssBytes < MEMORY_TARGET_BYTES);
  console.log(`  memory added: ${mib(rssBytes)} resident, ${mib(heapBytes)} of objects (target: 50 MiB, ${met})`);
}

export function printDns({ settings, ...result }: DnsResult): void {
  console.log(`\nNames, ${settings['rate']} questions per second for ${settings['seconds']} s:`);
  const line = (what: string, { perSecond, answered, sent, wrong, p99Ms, eventLoop }: DnsRun): void => {
    // All but what the last moment cuts off.
    const keptUp = verdict(perSecond >= ANSWERS_TARGET * 0.999 && wrong === 0);
    const late = verdict(p99Ms < ANSWER_P99_TARGET_MS);
    const turn = verdict(eventLoop.maxMs < TURN_TARGET_MS);
    console.log(
      `  ${what}: ${perSecond.toFixed(0)} answers/s (${answered} of ${sent}, ${wrong} wrong; ${keptUp}), ` +
        `p99 ${p99Ms.toFixed(1)} ms (target: ${ANSWER_P99_TARGET_MS} ms, ${late}), ` +
        `longest turn of the event loop ${eventLoop.maxMs.toFixed(1)} ms (target: ${TURN_TARGET_MS} ms, ${turn})`,
    );
  };
  line('alone', result.alone);
  line('with other work', result.withOtherWork);
}

export function printServices(result: ManyServicesResult): void {
  const { services, endpoints, containers, first, change, changeWhole, attach, balancedMs, rssBytes, heapBytes } =
    result;
  console.log(`\nOne host with ${containers} containers, ${services} services, ${endpoints} endpoints in one network:`);
  const line = (what: string, { ms, longestTurnMs }: Step): void =>
    console.log(
      `  ${what}: ${ms.toFixed(0)} ms, longest turn of the event loop ${longestTurnMs.toFixed(0)} ms ` +
        `(target: ${TURN_TARGET_MS} ms, ${verdict(longestTurnMs < TURN_TARGET_MS)})`,
    );
  line('first table', first);
  console.log(`  balancing of all containers set: ${balancedMs.toFixed(0)} ms`);
  line('one task more', change);
  line('one task more, as a whole table', changeWhole);
  line('attach of a container', attach);
  console.log(`  memory added: ${mib(rssBytes)} resident, ${mib(heapBytes)} of objects`);
}

export function printPush({ agents, endpoints, runs, medianSeconds }: PushResult): void {
  console.log(`\n${endpoints} endpoints of one network change at once, ${agents} agents with tasks on it:`);
  for (const { seconds, committedSeconds, tables, tablesMost, deltas, bytes } of runs) {
    console.log(
      `  last agent has all after ${seconds.toFixed(2)} s (committed ${committedSeconds.toFixed(2)} s); ` +
        `${tables} tables, ${tablesMost} to one agent at most, ${deltas} of changes only, ${mib(bytes)}`,
    );
  }
  const met = verdict(medianSeconds < PUSH_TARGET_SECONDS);
  console.log(`  median ${medianSeconds.toFixed(2)} s (target: ${PUSH_TARGET_SECONDS} s, ${met})`);
}
