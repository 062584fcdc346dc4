import { errorMessage, systemClock } from '../../base/index.ts';

const POLL_MS = 50;

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
    if (systemClock.monotonic() - began > timeoutMs) throw new Error(`${what}: not within ${timeoutMs} ms${last}`);
    await systemClock.sleep(POLL_MS);
  }
}

/** How long `action` takes, seconds. */
export async function seconds(action: () => Promise<unknown>): Promise<number> {
  const began = systemClock.monotonic();
  await action();
  return (systemClock.monotonic() - began) / 1000;
}
