import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { MachineFactory } from './model.ts';

/**
 * The production state machine, from the root of the sources: the store of the managers. This room may not import it; it
 * is loaded by its path where it is there.
 */
const STORE_PATH = 'manager/store/sim-machine.ts';
/** One seed in so many runs the store. */
const STORE_EVERY = 4;

/** Path of the store's module, if there is one below `root`. */
export function storePath(root: string): string | undefined {
  return existsSync(join(root, STORE_PATH)) ? STORE_PATH : undefined;
}

/** Whether a seed runs the managers' store instead of the simulation's own registers. */
export function usesStore(seed: number): boolean {
  return seed % STORE_EVERY === 0;
}

export async function loadMachine(path: string): Promise<MachineFactory> {
  const module = (await import(pathToFileURL(path).href)) as { machine: MachineFactory };
  return module.machine;
}
