import { errorMessage, systemClock } from '../../base/index.ts';

/** Time between two looks, ms: at first, and after many seconds. A look is often a client's process, which costs as much CPU. */
const POLL_MS = 50;
const MAX_POLL_MS = 250;
/** By what part of the time that has passed the looks become rarer. */
const SLOWER_BY = 1 / 50;

/**
 * Polls until `probe` returns neither undefined nor false, and returns that value.
 * @throws Error naming `what` after `timeoutMs`, with the last fault that `probe` threw
 */
export async function until<T>(
  what: string,
  timeoutMs: number,
  probe: () => Promise<T | undefined | false> | T | undefined | false,
): Promise<T> {
  const began = systemClock.monotonic();
  let last = '';
  for (;;) {
    try {
      const value = await probe();
      if (value !== undefined && value !== false) return value;
    } catch (error) {
      last = `: ${errorMessage(error)}`;
    }
    const passed = systemClock.monotonic() - began;
    if (passed > timeoutMs) throw new Error(`${what}: not within ${timeoutMs} ms${last}`);
    await systemClock.sleep(Math.min(MAX_POLL_MS, POLL_MS + passed * SLOWER_BY));
  }
}

/** How long `action` takes, seconds. */
export async function seconds(action: () => Promise<unknown>): Promise<number> {
  const began = systemClock.monotonic();
  await action();
  return (systemClock.monotonic() - began) / 1000;
}
