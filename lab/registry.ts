import { spawn } from 'node:child_process';
import { closeSync, mkdirSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { httpCall, ShoalError, systemClock } from '../base/index.ts';
import { makeCgroup } from './cgroups.ts';
import { livePid } from './host.ts';
import type { LabNames } from './names.ts';

const PORT = 5000;
const START_TIMEOUT_MS = 15_000;

/** Starts Debian's docker-registry on the lab's switch; returns `address:port`. Idempotent. */
export async function startRegistry(names: LabNames, address: string): Promise<string> {
  const at = `${address}:${PORT}`;
  const pidFile = join(names.runDir, 'registry.pid');
  if (livePid(pidFile) !== 0) return at;
  const data = join(names.dataDir, 'registry');
  mkdirSync(data, { recursive: true });
  const config = join(names.runDir, 'registry.json');
  // YAML is a superset of JSON.
  const settings = {
    version: 0.1,
    log: { level: 'warn' },
    storage: { filesystem: { rootdirectory: data }, delete: { enabled: true } },
    http: { addr: at },
  };
  writeFileSync(config, JSON.stringify(settings));
  rmSync(pidFile, { force: true });
  const log = openSync(join(names.runDir, 'registry.log'), 'a');
  const script = 'echo $$ >"$0" && echo $$ >"$1" && exec docker-registry serve "$2"';
  const procs = makeCgroup(`${names.cgroup}/registry`);
  spawn('sh', ['-c', script, procs, pidFile, config], {
    detached: true,
    stdio: ['ignore', log, log],
    cwd: '/',
  }).unref();
  closeSync(log);
  const began = systemClock.monotonic();
  while (!(await answers(at))) {
    if (systemClock.monotonic() - began > START_TIMEOUT_MS) {
      throw new ShoalError('Internal', 'docker-registry did not start; is the package docker-registry installed?');
    }
    await systemClock.sleep(50);
  }
  return at;
}

async function answers(at: string): Promise<boolean> {
  try {
    const answer = await httpCall({ host: `tcp://${at}`, method: 'GET', path: '/v2/', timeoutMs: 1_000 });
    answer.body.resume();
    return answer.status === 200;
  } catch {
    return false;
  }
}
