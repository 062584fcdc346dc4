import type { Control } from './control/index.ts';

/** Methods of the Control service that change nothing. */
export const isRead = (method: string): boolean => /^(Get|List|Explain|Plan)/.test(method);

/**
 * The same service, but each reading first waits for `barrier`: a leader that was stopped, or cut off, does not know yet
 * that another leads and has taken changes, and would answer with what was there before them (thesis §6.4).
 */
export function confirmReads(control: Control, barrier: () => Promise<void>): Control {
  const entries = Object.entries(control).map(([name, method]) => {
    if (!isRead(name)) return [name, method];
    const confirmed = async (request: never): Promise<unknown> => {
      await barrier();
      return await (method as (request: never) => Promise<unknown>)(request);
    };
    return [name, confirmed];
  });
  return Object.fromEntries(entries) as Control;
}
