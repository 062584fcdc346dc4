import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import { systemClock } from '../base/index.ts';

/** Mount points of every cgroup hierarchy (v1 controllers and the unified one) that can be written. */
export function cgroupRoots(): string[] {
  const roots: string[] = [];
  for (const line of readFileSync('/proc/self/mountinfo', 'utf8').split('\n')) {
    const match = /^\d+ \d+ \S+ (\S+) (\S+) (\S+) .*- cgroup2? /.exec(line);
    if (match?.[1] === '/' && match[2] !== undefined && match[3]?.startsWith('rw') === true) roots.push(match[2]);
  }
  return roots;
}

/** The hierarchy that tells a lab's processes: every container has a cgroup in it. */
export function trackingRoot(): string {
  const roots = cgroupRoots();
  return (
    roots.find((root) => root.endsWith('/pids')) ??
    roots.find((root) => root.endsWith('/unified')) ??
    roots[0] ??
    '/sys/fs/cgroup'
  );
}

/** Makes a cgroup in the tracking hierarchy; returns the file that takes process ids. */
export function makeCgroup(path: string): string {
  const dir = join(trackingRoot(), path);
  mkdirSync(dir, { recursive: true });
  return join(dir, 'cgroup.procs');
}

function directories(dir: string): string[] {
  return readdirSync(dir, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map((entry) => join(dir, entry.name));
}

/** Processes in a cgroup and all below it. */
export function processesIn(path: string): number[] {
  const visit = (dir: string): number[] => {
    try {
      const own = readFileSync(join(dir, 'cgroup.procs'), 'utf8').split('\n').filter(Boolean).map(Number);
      return [...own, ...directories(dir).flatMap(visit)];
    } catch {
      // The cgroup has just gone.
      return [];
    }
  };
  return cgroupRoots().flatMap((root) => (existsSync(join(root, path)) ? visit(join(root, path)) : []));
}

/** Rounds of killing before giving up; each waits 50 ms. */
const KILL_ROUNDS = 100;

/** Kills everything in a cgroup by SIGKILL and waits until it is gone. */
export async function killCgroup(path: string): Promise<void> {
  for (let round = 0; round < KILL_ROUNDS; round++) {
    const pids = new Set(processesIn(path));
    if (pids.size === 0) return;
    for (const pid of pids) {
      try {
        process.kill(pid, 'SIGKILL');
      } catch {
        // It ended by itself.
      }
    }
    await systemClock.sleep(50);
  }
  throw new Error(`processes in cgroup ${path} do not end`);
}

/** Removes a cgroup and all below it from every hierarchy. */
export function removeCgroup(path: string): void {
  const visit = (dir: string): void => {
    for (const child of directories(dir)) visit(child);
    try {
      rmdirSync(dir);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
  };
  for (const root of cgroupRoots()) if (existsSync(join(root, path))) visit(join(root, path));
}

/** Removes a cgroup from every hierarchy where nothing is left in it. */
export function removeCgroupIfEmpty(path: string): void {
  for (const root of cgroupRoots()) {
    const dir = join(root, path);
    if (existsSync(dir) && directories(dir).length === 0) rmdirSync(dir);
  }
}
