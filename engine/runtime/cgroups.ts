import { readdirSync, readFileSync } from 'node:fs';
import { readFile, rmdir, readdir } from 'node:fs/promises';
import { basename, join } from 'node:path';
import type { Clock } from '../../base/index.ts';
import { isScope, systemdFacts } from './cgroup-driver.ts';
import type { CgroupLayout } from './cgroup-layout.ts';
import { thawForKill } from './freezer.ts';
import { SystemdUnits } from './systemd-units.ts';

export type { CgroupLayout };

const RMDIR_ATTEMPTS_MAX = 50;
const RMDIR_RETRY_MS = 10;

/** Reads the layout out of a /proc/self/mountinfo text (proc(5)). */
export function parseCgroupLayout(mountinfo: string): CgroupLayout {
  const controllers = new Map<string, string>();
  let unified: string | undefined;
  for (const line of mountinfo.split('\n')) {
    const [front = '', back = ''] = line.split(' - ');
    const mountPoint = front.split(' ')[4];
    const [type, , superOptions = ''] = back.split(' ');
    if (mountPoint === undefined) continue;
    if (type === 'cgroup2') unified ??= mountPoint;
    if (type !== 'cgroup') continue;
    for (const option of superOptions.split(',')) {
      if (option !== 'rw' && option !== 'ro' && !controllers.has(option)) controllers.set(option, mountPoint);
    }
  }
  if (controllers.size === 0) return { version: 'v2', controllers, unified };
  return { version: unified === undefined ? 'v1' : 'hybrid', controllers, unified };
}

export function readCgroupLayout(): CgroupLayout {
  return parseCgroupLayout(readFileSync('/proc/self/mountinfo', 'utf8'));
}

const gone = (error: unknown): boolean => (error as NodeJS.ErrnoException).code === 'ENOENT';

/** The control groups of containers, at the same path below every mounted tree. */
export class Cgroups {
  readonly layout: CgroupLayout;
  readonly #clock: Clock;
  /** Asked only of groups that are units of systemd. */
  readonly units: Pick<SystemdUnits, 'forget' | 'limitTasks'>;

  constructor(layout: CgroupLayout, clock: Clock, units: Cgroups['units'] = new SystemdUnits(clock)) {
    this.layout = layout;
    this.#clock = clock;
    this.units = units;
  }

  #trees(): string[] {
    const trees = new Set(this.layout.controllers.values());
    if (this.layout.unified !== undefined) trees.add(this.layout.unified);
    return [...trees];
  }

  /** How often the kernel killed a process of this group for lack of memory; undefined when the group is gone. */
  oomKills(path: string): number | undefined {
    const memory = this.layout.controllers.get('memory');
    const file =
      memory === undefined
        ? join(this.layout.unified ?? '/sys/fs/cgroup', path, 'memory.events')
        : join(memory, path, 'memory.oom_control');
    try {
      return Number(/^oom_kill (\d+)$/m.exec(readFileSync(file, 'latin1'))?.[1] ?? 0);
    } catch {
      return undefined;
    }
  }

  /** Processes in the group and in groups below it. */
  async processes(path: string): Promise<number[]> {
    const tree = this.layout.controllers.get('pids') ?? this.layout.unified ?? this.#trees()[0];
    return tree === undefined ? [] : collectProcesses(join(tree, path));
  }

  /** Names of the groups directly below a path, in any tree. */
  children(path: string): string[] {
    const names = new Set<string>();
    for (const tree of this.#trees()) for (const name of directoriesIn(join(tree, path))) names.add(name);
    return [...names];
  }

  /** Kills every process of the group, then removes the group from all trees, and from systemd. Idempotent. */
  async destroy(path: string): Promise<void> {
    await this.#remove(path);
    // It knows of an end by itself only when it sees the group empty before it is gone.
    if (isScope(path) && systemdFacts().running) await this.units.forget(basename(path));
  }

  async #remove(path: string): Promise<void> {
    for (let attempt = 0; attempt < RMDIR_ATTEMPTS_MAX; attempt++) {
      const results = await Promise.all(this.#trees().map((tree) => removeTree(join(tree, path))));
      if (results.every(Boolean)) return;
      await thawForKill(this.layout, path);
      for (const pid of await this.processes(path)) killQuietly(pid);
      await this.#clock.sleep(RMDIR_RETRY_MS);
    }
    throw new Error(`control group ${path} cannot be removed: processes in it do not end`);
  }
}

function directoriesIn(path: string): string[] {
  try {
    const entries = readdirSync(path, { withFileTypes: true });
    return entries.filter((entry) => entry.isDirectory()).map((entry) => entry.name);
  } catch (error) {
    if (gone(error)) return [];
    throw error;
  }
}

async function collectProcesses(directory: string): Promise<number[]> {
  try {
    const own = (await readFile(join(directory, 'cgroup.procs'), 'utf8')).split('\n').filter(Boolean).map(Number);
    const entries = await readdir(directory, { withFileTypes: true });
    const below = await Promise.all(
      entries.filter((entry) => entry.isDirectory()).map((entry) => collectProcesses(join(directory, entry.name))),
    );
    return [...own, ...below.flat()];
  } catch (error) {
    if (gone(error) || (error as NodeJS.ErrnoException).code === 'ENODEV') return [];
    throw error;
  }
}

/** Removes a group and those below it; false while something in it is busy. */
async function removeTree(directory: string): Promise<boolean> {
  try {
    await rmdir(directory);
    return true;
  } catch (error) {
    if (gone(error)) return true;
  }
  // A container may have made groups of its own below.
  let entries;
  try {
    entries = await readdir(directory, { withFileTypes: true });
  } catch (error) {
    return gone(error);
  }
  for (const entry of entries) if (entry.isDirectory()) await removeTree(join(directory, entry.name));
  return rmdir(directory).then(
    () => true,
    (error: unknown) => gone(error),
  );
}

function killQuietly(pid: number): void {
  // 0 stands for a process of another pid namespace: kill(0) would hit this daemon's own group.
  if (pid <= 1) return;
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It ended by itself meanwhile.
  }
}
