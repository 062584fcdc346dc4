import { setImmediate as yieldLoop } from 'node:timers/promises';

/** Members of large tables that are worked on before the loop gets a turn (1 to 3 ms). */
export const MEMBERS_PER_TURN = 250;

/** Runs steps to their end; the loop turns between them. */
export async function paced<T>(steps: Generator<undefined, T>): Promise<T> {
  for (;;) {
    const step = steps.next();
    if (step.done === true) return step.value;
    await yieldLoop();
  }
}

/** Runs steps to their end at once. */
export function atOnce<T>(steps: Generator<undefined, T>): T {
  for (;;) {
    const step = steps.next();
    if (step.done === true) return step.value;
  }
}
