import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { build } from 'esbuild';

/**
 * Builds the file helper for the tests of this process; gives its path. It lies below the folder with node_modules: the
 * helper loads the add-on for system calls from there.
 */
export async function buildHelper(): Promise<string> {
  const directory = join(import.meta.dirname, `../../dist.files-test-${process.pid}`);
  const outfile = join(directory, 'file-helper.mjs');
  process.once('exit', () => rmSync(directory, { recursive: true, force: true }));
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
