import { join } from 'node:path';
import { bundle, type SeedProgram } from '../../raft/sim/pool.ts';
import type { SeedRequest } from './worker.ts';

/** What the program is built from. */
export const SOURCES = [
  ...['base', 'proto', 'raft', 'manager', 'identity', 'scheduler', 'worker', 'daemon'],
  ...['package.json', 'tsconfig.json'],
];

/** Builds worker.ts of a copy of the sources. @param modules its node_modules. */
export async function buildProgram(root: string, modules: string): Promise<SeedProgram<SeedRequest>> {
  const { directory, remove } = await bundle(root, modules, { worker: 'daemon/sim/worker.ts' });
  return { path: join(directory, 'worker.mjs'), request: (seed, durationMs) => ({ seed, durationMs }), remove };
}
