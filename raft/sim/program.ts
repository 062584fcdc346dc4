import { join } from 'node:path';
import { storePath, usesStore } from './machine.ts';
import { bundle, type SeedProgram } from './pool.ts';
import type { SeedRequest } from './worker.ts';

/** What the program is built from. */
export const SOURCES = ['base', 'proto', 'raft', 'manager', 'identity', 'scheduler', 'package.json', 'tsconfig.json'];

/**
 * Builds worker.ts of a copy of the sources, and the managers' store if they have it.
 * @param root holds raft/, base/, proto/. @param modules its node_modules.
 */
export async function buildProgram(root: string, modules: string): Promise<SeedProgram<SeedRequest>> {
  const store = storePath(root);
  const entryPoints = { worker: 'raft/sim/worker.ts', ...(store === undefined ? {} : { store }) };
  const { directory, remove } = await bundle(root, modules, entryPoints);
  const machine = store === undefined ? undefined : join(directory, 'store.mjs');
  return {
    path: join(directory, 'worker.mjs'),
    request: (seed, durationMs) =>
      machine !== undefined && usesStore(seed) ? { seed, durationMs, machine } : { seed, durationMs },
    remove,
  };
}
