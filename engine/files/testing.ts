import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { build } from 'esbuild';

const directory = join(import.meta.dirname, `../../dist.files-test-${process.pid}`);

/** Takes the built helper away: for `afterAll`, as a test process does not end by itself. */
export function removeHelper(): void {
  rmSync(directory, { recursive: true, force: true });
}

/**
 * Builds the file helper for the tests of this process; gives its path. It lies below the folder with node_modules: the
 * helper loads the add-on for system calls from there.
 */
export async function buildHelper(): Promise<string> {
  const outfile = join(directory, 'file-helper.mjs');
  await build({
    entryPoints: [join(import.meta.dirname, 'helper.ts')],
    outfile,
    bundle: true,
    platform: 'node',
    format: 'esm',
    external: ['koffi'],
    logLevel: 'error',
  });
  return outfile;
}
