import { readFileSync } from 'node:fs';
import { constants } from 'node:os';
import { conflict, invalidArgument } from '../../base/index.ts';

/** A process that cannot be mistaken for a later one with the same number. */
export interface ProcessIdentity {
  pid: number;
  /** Start time in clock ticks since boot (field 22 of /proc/<pid>/stat). */
  startTicks: number;
}

/** State letter and start time of a process, or undefined when it does not exist. */
function stat(pid: number): { state: string; startTicks: number } | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
    // The command in parentheses may hold spaces and parentheses itself.
    const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
    return { state: fields[0] ?? 'X', startTicks: Number(fields[19]) };
  } catch {
    return undefined;
  }
}

/** The identity of a live process; undefined when it ended. A zombie has ended. */
export function identify(pid: number): ProcessIdentity | undefined {
  const found = stat(pid);
  if (found === undefined || found.state === 'Z' || found.state === 'X') return undefined;
  return { pid, startTicks: found.startTicks };
}

export function isAlive(identity: ProcessIdentity | undefined): boolean {
  if (identity === undefined) return false;
  return identify(identity.pid)?.startTicks === identity.startTicks;
}

/** @throws ShoalError Conflict when the process of a container has ended, recorded or not */
export function requireAlive({ id, pid }: { id: string; pid: number }): void {
  if (identify(pid) === undefined) throw conflict(`container ${id} is not running`);
}

/** Sends a signal to exactly this process; false when it has ended. */
export function signalProcess(identity: ProcessIdentity | undefined, signal: number): boolean {
  if (identity === undefined || !isAlive(identity)) return false;
  try {
    process.kill(identity.pid, signal);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return false;
    throw error;
  }
}

const SIGRTMIN = 34;
const SIGRTMAX = 64;

/** A signal's number from `SIGTERM`, `term`, `15`, `RTMIN+3`. @throws ShoalError InvalidArgument. */
export function signalNumber(text: string): number {
  const upper = text.toUpperCase();
  if (/^\d+$/.test(upper)) {
    const number = Number(upper);
    if (number >= 1 && number <= SIGRTMAX) return number;
  }
  const name = upper.startsWith('SIG') ? upper : `SIG${upper}`;
  const known = (constants.signals as Readonly<Record<string, number>>)[name];
  if (known !== undefined) return known;
  const realTime = /^SIGRT(MIN|MAX)(?:([+-])(\d+))?$/.exec(name);
  if (realTime !== null) {
    const offset = Number(realTime[3] ?? 0) * (realTime[2] === '-' ? -1 : 1);
    const number = (realTime[1] === 'MIN' ? SIGRTMIN : SIGRTMAX) + offset;
    if (number >= SIGRTMIN && number <= SIGRTMAX) return number;
  }
  throw invalidArgument(`invalid signal: ${text}`);
}

/** How ready the kernel is to kill this process when memory is short, -1000 to 1000. */
export function ownScoreAdjustment(): number {
  return Number(readFileSync('/proc/self/oom_score_adj', 'utf8'));
}
