import { spawn } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, openSync, readdirSync, readFileSync, rmdirSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { errorMessage, httpJson, ShoalError, systemClock } from '../base/index.ts';
import { makeCgroup } from './cgroups.ts';
import type { Lab } from './lab.ts';

/** dockerd starts a containerd first; one that has not answered after this time has failed, ms. */
const START_TIMEOUT_MS = 60_000;
const POLL_MS = 100;
/** What dockerd and containerd keep outside their roots; each host gets a tmpfs of its own there. */
const PRIVATE_DIRECTORIES = ['/run/docker', '/run/containerd', '/etc/docker'];

/** Whether Docker's own engine is installed: the path of its program. */
export function findDockerd(): string | undefined {
  return `${process.env['PATH'] ?? ''}:/usr/local/sbin:/usr/sbin:/sbin`
    .split(delimiter)
    .map((directory) => join(directory, 'dockerd'))
    .find((path) => existsSync(path));
}

/** Makes the places for the private mounts; returns those that were not there before. */
export function makeMountPoints(): string[] {
  const missing = PRIVATE_DIRECTORIES.filter((path) => !existsSync(path));
  for (const path of missing) mkdirSync(path, { recursive: true });
  return missing;
}

/** Removes the directories that the private mounts needed, where they are empty (they were made for them). */
export function removeMountPoints(made: readonly string[]): void {
  for (const path of made) {
    if (existsSync(path) && readdirSync(path).length === 0) rmdirSync(path);
  }
}

function logFile(lab: Lab, host: string): string {
  return join(lab.names.hostRunDir(host), 'daemon.log');
}

/**
 * Starts a dockerd with a containerd of its own on a host that was made without a daemon: the same namespaces, bridge and
 * cgroups as Shoal's. The places of `makeMountPoints` must be there. Does not wait.
 * @param flags more flags of dockerd
 */
export function launchDockerd(lab: Lab, dockerd: string, host: string, flags: readonly string[] = []): void {
  const { names } = lab;
  const runDir = names.hostRunDir(host);
  const mounts = PRIVATE_DIRECTORIES.map((path) => `mount -t tmpfs tmpfs ${path}`).join(' && ');
  const daemon = [
    ...[dockerd, '--data-root', join(names.hostDataDir(host), 'docker'), '--exec-root', join(runDir, 'exec')],
    ...['--pidfile', join(runDir, 'daemon.pid'), '-H', names.dockerHost(host), '--storage-driver', 'overlay2'],
    ...['--cgroup-parent', `/${names.hostCgroup(host)}/containers`, ...flags],
  ];
  const enter = ['--target', String(lab.holder(host)), '--net', '--mount', '--uts', '--'];
  const inside = ['sh', '-c', `${mounts} && exec "$@"`, 'sh', ...daemon];
  const log = openSync(logFile(lab, host), 'a', 0o600);
  const procs = makeCgroup(names.hostCgroup(host));
  const child = spawn('sh', ['-c', 'echo $$ >"$0" && exec nsenter "$@"', procs, ...enter, ...inside], {
    ...{ detached: true, stdio: ['ignore', log, log], cwd: '/' },
  });
  child.unref();
  closeSync(log);
}

/** Waits until the dockerd of a host answers. @throws ShoalError Internal with the end of its log */
export async function dockerdAnswers(lab: Lab, host: string): Promise<void> {
  const began = systemClock.monotonic();
  for (;;) {
    try {
      await httpJson({ host: lab.names.dockerHost(host), method: 'GET', path: '/info', timeoutMs: 5_000 });
      return;
    } catch (error) {
      if (systemClock.monotonic() - began > START_TIMEOUT_MS) {
        const log = readFileSync(logFile(lab, host), 'utf8').split('\n').slice(-10).join('\n');
        throw new ShoalError('Internal', `dockerd of ${host} does not answer: ${errorMessage(error)}\n${log}`);
      }
      await systemClock.sleep(POLL_MS);
    }
  }
}
