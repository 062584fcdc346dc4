import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CONFIG_DIR_VARIABLE, ROOT } from './client.ts';

/** Programs without which no host can be made or no container run. */
const NEEDED = ['runc', 'conmon', 'nft', 'ip', 'unshare', 'nsenter', 'tar', 'docker-registry'];

function onPath(program: string): boolean {
  const dirs = `${process.env.PATH ?? ''}:/usr/local/sbin:/usr/sbin:/sbin`.split(':');
  return dirs.some((dir) => existsSync(join(dir, program)));
}

/**
 * Refuses to begin where the suite cannot run, with the way out; a run without it would fail in a hundred ways. Makes what all clients
 * of the run share.
 */
export default function setup(): () => void {
  if (process.getuid?.() !== 0) {
    throw new Error('the end-to-end suite needs root: it makes namespaces, mounts and cgroups (run it with sudo)');
  }
  for (const bundle of ['daemon.mjs', 'cli.mjs']) {
    if (!existsSync(join(ROOT, 'dist', bundle))) throw new Error(`dist/${bundle} is missing: run \`npm run setup\``);
  }
  const missing = NEEDED.filter((program) => !onPath(program));
  if (!existsSync('/bin/busybox')) missing.push('/bin/busybox (busybox-static)');
  if (missing.length > 0) throw new Error(`the end-to-end suite needs these programs: ${missing.join(', ')}`);
  const configDir = mkdtempSync(join(tmpdir(), 'shoal-e2e-config-'));
  process.env[CONFIG_DIR_VARIABLE] = configDir;
  return () => rmSync(configDir, { recursive: true, force: true });
}
