import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { machineFacts } from './machine.ts';

/** Where a benchmark's figures are kept. */
export function resultsFile(benchmark: string): string {
  return join(dirname(fileURLToPath(import.meta.url)), 'results', `${benchmark}.json`);
}

/** What was stored last, or undefined. */
export function storedResult(benchmark: string): unknown {
  try {
    return JSON.parse(readFileSync(resultsFile(benchmark), 'utf8'));
  } catch {
    return undefined;
  }
}

export function storeResult(benchmark: string, result: object): void {
  mkdirSync(dirname(resultsFile(benchmark)), { recursive: true });
  writeFileSync(resultsFile(benchmark), `${JSON.stringify(result, undefined, 2)}\n`);
}

/** Stores one part of a benchmark's figures with its date; the others stay as they were measured before. */
export function storePart(benchmark: string, part: string, figures: object): void {
  const before = storedResult(benchmark) as { parts?: object } | undefined;
  const parts = { ...before?.parts, [part]: { date: new Date().toISOString(), ...figures } };
  storeResult(benchmark, { benchmark, machine: machineFacts(), parts });
}
