import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { conflict, systemClock } from '../base/index.ts';

/** Pause between two tries, and the longest wait, ms. */
const RETRY_MS = 20;
const WAIT_MAX_MS = 10_000;

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

/** Takes the lock, or tells that another process has it; one left by a dead process is taken away. */
function take(path: string): boolean {
  try {
    writeFileSync(path, String(process.pid), { flag: 'wx' });
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  }
  let holder = '';
  try {
    holder = readFileSync(path, 'utf8');
  } catch {
    // It has just been given back.
  }
  if (holder !== '' && !isAlive(Number(holder))) rmSync(path, { force: true });
  return false;
}

/**
 * Runs `work`, which must not wait for anything, while no other process on this machine does so under the same path.
 * @throws ShoalError Conflict when the lock is not free within 10 s
 */
export async function withLock<T>(path: string, work: () => T): Promise<T> {
  const until = systemClock.monotonic() + WAIT_MAX_MS;
  while (!take(path)) {
    if (systemClock.monotonic() > until)
      throw conflict(`${path} is held by another process: remove it if none is there`);
    await systemClock.sleep(RETRY_MS);
  }
  try {
    return work();
  } finally {
    rmSync(path, { force: true });
  }
}
