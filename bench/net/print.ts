import { median } from '../measure.ts';
import type { OneHostResult } from './one-host.ts';
import type { ThroughputFigures } from './throughput-part.ts';

export const ATTACH_TARGET_MS = 15;
export const MEMORY_TARGET_BYTES = 50 * 2 ** 20;

export const verdict = (met: boolean): string => (met ? 'met' : 'MISSED');

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
