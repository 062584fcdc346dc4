import { readdirSync, readFileSync } from 'node:fs';

/** A conmon process: whose monitor it says it is. */
export interface ConmonProcess {
  pid: number;
  containerId: string;
  /** Its bundle directory. */
  bundle: string;
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

/** All monitors of containers on this host, also those of other daemons (conmon(8): -c id, -b bundle). */
export function conmonProcesses(): ConmonProcess[] {
  const found: ConmonProcess[] = [];
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    const words = commandLine(Number(name));
    if (!/(^|\/)conmon$/.test(words[0] ?? '')) continue;
    found.push({ pid: Number(name), containerId: after(words, '-c'), bundle: after(words, '-b') });
  }
  return found;
}
