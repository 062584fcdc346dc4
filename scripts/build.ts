/** Builds `dist/`: one bundle per program, so that the client starts fast and the helper process stays small. */
import { rmSync, mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const dist = join(root, 'dist');
rmSync(dist, { recursive: true, force: true });
mkdirSync(dist, { recursive: true });
await build({
  absWorkingDir: root,
  entryPoints: {
    cli: 'cli/main.ts',
    daemon: 'daemon/main.ts',
    lab: 'lab/main.ts',
    'spawn-helper': 'base/spawn-helper.ts',
  },
  outdir: 'dist',
  outExtension: { '.js': '.mjs' },
  bundle: true,
  platform: 'node',
  format: 'esm',
  target: 'node20',
  sourcemap: 'linked',
  // Native add-ons cannot be bundled; they are loaded from node_modules.
  external: ['koffi', 'level', 'classic-level'],
  // Bundled CommonJS packages ask for `require`.
  banner: {
    js: "import { createRequire as __createRequire } from 'node:module'; const require = __createRequire(import.meta.url);",
  },
  logLevel: 'warning',
});
writeFileSync(join(dist, 'package.json'), '{"type":"module"}\n');
