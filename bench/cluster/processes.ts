import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { setPriority } from 'node:os';

/** Clock ticks per second in /proc/PID/stat (USER_HZ, fixed on Linux). */
const TICKS_PER_SECOND = 100;

/** What a process has used until now. */
export interface ProcessUse {
  cpuSeconds: number;
  /** Resident memory now, and its peak, bytes. */
  rssBytes: number;
  peakRssBytes: number;
}

/** Reads the use of a process; zeros when it is gone. */
export function processUse(pid: number): ProcessUse {
  try {
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
      .replace(/^.*\) /, '')
      .split(' ');
    const status = readFileSync(`/proc/${pid}/status`, 'utf8');
    const kb = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(status)?.[1] ?? 0);
    return {
      // utime and stime are fields 14 and 15, the state (now first) is field 3.
      cpuSeconds: (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND,
      rssBytes: kb('VmRSS') * 1024,
      peakRssBytes: kb('VmHWM') * 1024,
    };
  } catch {
    return { cpuSeconds: 0, rssBytes: 0, peakRssBytes: 0 };
  }
}

/**
 * Priority of a whole session of processes, -20 (first) to 19. Linux shares processors out between sessions before it
 * looks at the niceness inside of them (sched(7), autogroups), so that niceness alone does nothing between daemons.
 */
export function setSessionPriority(pid: number, nice: number): void {
  setPriority(pid, nice);
  const file = `/proc/${pid}/autogroup`;
  if (existsSync(file)) writeFileSync(file, String(nice));
}
