/** Builds `dist/`: one bundle per program, so that the client starts fast and threads stay small. */
import { existsSync, mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build, type BuildOptions } from 'esbuild';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const dist = join(root, 'dist');
// Built beside and swapped in, so that programs started meanwhile find the old or the new, never half of one.
const fresh = join(root, `dist.${process.pid}`);
mkdirSync(fresh, { recursive: true });
process.once('exit', () => rmSync(fresh, { recursive: true, force: true }));
const common: BuildOptions = {
  absWorkingDir: root,
  outdir: fresh,
  outExtension: { '.js': '.mjs' },
  bundle: true,
  // The text of a program stays in memory: 12 MB less of a daemon's 90. Names stay, so that stacks can be read.
  minifyWhitespace: true,
  minifySyntax: true,
  lineLimit: 120,
  platform: 'node',
  format: 'esm',
  target: 'node20',
  sourcemap: 'linked',
  // Native add-ons cannot be bundled; they are loaded from node_modules. So is what few daemons ever need.
  external: ['koffi', 'level', 'classic-level', 'ws', 'yaml'],
  logLevel: 'warning',
};
// The client in parts: a command loads what it needs, and how much that is decides how fast it starts.
const client = { cli: 'cli/main.ts' };
await build({ ...common, entryPoints: client, splitting: true, chunkNames: 'cli/[name]-[hash]' });
await build({
  ...common,
  entryPoints: {
    daemon: 'daemon/main.ts',
    lab: 'lab/main.ts',
    'file-helper': 'engine/files/helper.ts',
    'dns-thread': 'overlay-net/dns/thread.ts',
  },
  // Bundled CommonJS packages ask for `require`.
  banner: {
    js: "import { createRequire as __createRequire } from 'node:module'; const require = __createRequire(import.meta.url);",
  },
});
writeFileSync(join(fresh, 'package.json'), '{"type":"module"}\n');
const old = join(root, `dist.old.${process.pid}`);
if (existsSync(dist)) renameSync(dist, old);
renameSync(fresh, dist);
rmSync(old, { recursive: true, force: true });
