import { readdirSync, readFileSync } from 'node:fs';

/** A conmon process: whose monitor it says it is. */
export interface ConmonProcess {
  pid: number;
  containerId: string;
  /** Its bundle directory. */
  bundle: string;
  /** It watches a command that was run in the container, not the container itself. */
  exec: boolean;
}

/** A runtime at work on a container: what it makes must not be judged before it has ended. */
export interface RuntimeProcess {
  pid: number;
  stateRoot: string;
  containerId: string;
}

export interface HostProcesses {
  monitors: ConmonProcess[];
  runtimes: RuntimeProcess[];
}

/** Names in a directory; none when it does not exist. */
export function namesIn(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') return [];
    throw error;
  }
}

/** Words of a process's command line; none when it has ended. */
function commandLine(pid: number): string[] {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
  } catch {
    return [];
  }
}

function after(words: readonly string[], flag: string): string {
  const at = words.indexOf(flag);
  return at === -1 ? '' : (words[at + 1] ?? '');
}

/** All monitors and runtimes at work on this host, also those of other daemons (conmon(8), runc(8)). */
export function hostProcesses(): HostProcesses {
  const found: HostProcesses = { monitors: [], runtimes: [] };
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    const words = commandLine(Number(name));
    const pid = Number(name);
    if (/(^|\/)conmon$/.test(words[0] ?? '')) {
      const exec = words.includes('-e') || words.includes('--exec') || words.includes('--exec-attach');
      found.monitors.push({ pid, containerId: after(words, '-c'), bundle: after(words, '-b'), exec });
    } else if (words.includes('--root')) {
      const containerId = words.findLast((word) => /^[0-9a-f]{64}$/.test(word)) ?? '';
      found.runtimes.push({ pid, stateRoot: after(words, '--root'), containerId });
    }
  }
  return found;
}
