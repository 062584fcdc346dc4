import type { ChildProcess } from 'node:child_process';

/** Ends programs that were started in groups of their own (`detached`), with all that they started. */
export function endGroups(children: readonly ChildProcess[]): void {
  for (const { pid } of children) {
    if (pid === undefined) continue;
    try {
      process.kill(-pid, 'SIGKILL');
    } catch (error) {
      // It has ended by itself.
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
    }
  }
}
