import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { returnFreeMemory, type Clock, type Timer } from '../base/index.ts';

/** When the start has been over for this time, ms. */
const AFTER_START_MS = 4_000;
/** A larger heap is not collected at once: that would hold the loop, some 2 ms for each MB. */
const HEAP_MAX_BYTES = 48 * 1024 * 1024;

/**
 * Collects what the start left behind and gives free pages back to the system, once: V8 and malloc alone keep them for as
 * long as little happens, which on an idle host is for ever.
 */
export function giveBackStartMemory(heapMaxBytes = HEAP_MAX_BYTES): void {
  if (process.memoryUsage().heapUsed > heapMaxBytes) return;
  // The only way to a collection without a flag at the process's start.
  setFlagsFromString('--expose-gc');
  (runInNewContext('gc') as () => void)();
  setFlagsFromString('--no-expose-gc');
  returnFreeMemory();
}

/** As `giveBackStartMemory`, when the start is over. */
export function giveBackLater(clock: Clock): Timer {
  return clock.after(AFTER_START_MS, () => giveBackStartMemory());
}
