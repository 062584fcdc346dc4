import { unavailable, type Clock } from '../base/index.ts';

const POLL_MS = 50;

/** Waits until a network stands on this host. @throws ShoalError Unavailable after `timeoutMs`; what `standing` throws */
export async function waitUntilReady(
  networkId: string,
  standing: () => boolean,
  timeoutMs: number,
  clock: Clock,
  signal: AbortSignal | undefined,
): Promise<void> {
  const end = clock.monotonic() + timeoutMs;
  while (!standing()) {
    if (clock.monotonic() >= end) {
      throw unavailable(`network ${networkId} did not become ready on this host within ${timeoutMs} ms`);
    }
    await clock.sleep(POLL_MS, signal);
  }
}
