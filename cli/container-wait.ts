import { readText } from '../base/index.ts';
import { segment, type Client } from './client.ts';

interface WaitAnswer {
  StatusCode: number;
  Error?: { Message: string } | null;
}

/** When a wait ends: when the container stops (or does not run), stops the next time, or is gone. */
export type WaitCondition = 'not-running' | 'next-exit' | 'removed';

/** A wait that has begun. */
export interface Wait {
  /** The exit code to come. @throws Error with the daemon's words when it could not wait to the end */
  readonly code: Promise<number>;
  /** Ends the wait, whose code then never comes. */
  stop(): void;
}

/**
 * Begins to wait for a container; what is given comes once the daemon has heard it, so that no end is missed.
 */
export async function beginWait(client: Client, container: string, condition?: WaitCondition): Promise<Wait> {
  const path = `/containers/${segment(container)}/wait`;
  const { body } = await client.open({ method: 'POST', path, query: { condition } });
  const code = readText(body).then((text) => {
    const answer = JSON.parse(text) as WaitAnswer;
    if (answer.Error !== undefined && answer.Error !== null) throw new Error(answer.Error.Message);
    return answer.StatusCode;
  });
  // Heard by whoever waits; until then an error is none.
  code.catch(() => undefined);
  return { code, stop: () => void body.destroy() };
}
