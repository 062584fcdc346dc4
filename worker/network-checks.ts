import { errorMessage, isShoalError, unavailable, type Clock, type Logger } from '../base/index.ts';
import { NetworkCheckReport, type NetworkCheckOrder } from '../proto/index.ts';
import type { AgentConnection } from './connection.ts';

/** Orders that are carried out at once; more are refused. */
export const CHECKS_MAX = 4;
/** Longest wait for the manager to take a report, ms. */
const REPORT_TIMEOUT_MS = 5000;

/** The stream of orders is closed when none has come for so long, ms: a check seldom comes alone. */
export const LISTEN_IDLE_MS = 60_000;

/** Tells that the manager has orders. */
export interface Summons {
  /** Resolves when there are some, at once when there were since the last call. Rejects when `signal` aborts. */
  next(signal: AbortSignal): Promise<void>;
}

export interface NetworkChecksOptions {
  connection: AgentConnection;
  clock: Clock;
  log: Logger;
  summons: Summons;
  /** Does what was ordered; undefined on hosts without networks of their own. */
  check: ((order: NetworkCheckOrder) => Promise<NetworkCheckReport>) | undefined;
}

/**
 * Takes orders to check networks for as long as the session lasts: whenever the manager says that it has some, a stream
 * is opened for them, as one that is always open would cost managers memory for each agent. Resolves only when `signal` aborts, also where the
 * manager gives no such orders.
 * @throws what ended the stream of orders
 */
export async function followNetworkChecks(options: NetworkChecksOptions, signal: AbortSignal): Promise<void> {
  const { connection, log, check } = options;
  let running = 0;
  const carryOut = async (order: NetworkCheckOrder): Promise<NetworkCheckReport> => {
    if (check === undefined || running >= CHECKS_MAX) {
      const error = check === undefined ? 'this host checks no networks' : 'this host does other checks; try again';
      return NetworkCheckReport.create({ id: order.id, error });
    }
    running++;
    try {
      return await check(order);
    } catch (error) {
      return NetworkCheckReport.create({ id: order.id, error: errorMessage(error) });
    } finally {
      running--;
    }
  };
  const answer = async (order: NetworkCheckOrder): Promise<void> => {
    const report = await carryOut(order);
    try {
      await connection.reportCheck?.(report, REPORT_TIMEOUT_MS, signal);
    } catch (error) {
      // Whoever asked may have gone.
      if (!signal.aborted && !isShoalError(error, 'NotFound')) log.warn('a network check was not reported', { error });
    }
  };
  try {
    while (connection.listenChecks !== undefined && !signal.aborted) {
      await options.summons.next(signal);
      await listen(connection, options.clock, signal, (order) => void answer(order));
    }
  } catch (error) {
    if (signal.aborted) return;
    if (!isShoalError(error, 'Unimplemented')) throw error;
  }
  await untilAborted(signal);
}

/** Takes orders until none has come for a while. */
async function listen(
  connection: AgentConnection,
  clock: Clock,
  signal: AbortSignal,
  take: (order: NetworkCheckOrder) => void,
): Promise<void> {
  const idle = new AbortController();
  const isOver = (): void => idle.abort(new Error('no more orders'));
  let timer = clock.after(LISTEN_IDLE_MS, isOver);
  try {
    const either = AbortSignal.any([signal, idle.signal]);
    for await (const order of connection.listenChecks?.(either) ?? []) {
      timer.cancel();
      timer = clock.after(LISTEN_IDLE_MS, isOver);
      take(order);
    }
    // A manager that ends the stream itself ends the session, as with all others.
    if (!either.aborted) throw unavailable('the manager has ended the stream of network checks');
  } finally {
    timer.cancel();
  }
}

/** Numbers of session messages as summons: another number than before, and not 0, is one. */
export class NumberedSummons implements Summons {
  #number = 0;
  #isDue = false;
  #wake: (() => void) | undefined;

  take(number: number): void {
    this.#isDue ||= number !== 0 && number !== this.#number;
    this.#number = number;
    if (this.#isDue) this.#wake?.();
  }

  async next(signal: AbortSignal): Promise<void> {
    while (!this.#isDue) {
      await new Promise<void>((resolve, reject) => {
        const onAbort = (): void => reject(signal.reason as Error);
        if (signal.aborted) return onAbort();
        signal.addEventListener('abort', onAbort, { once: true });
        this.#wake = () => {
          signal.removeEventListener('abort', onAbort);
          resolve();
        };
      });
    }
    this.#isDue = false;
  }
}

function untilAborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}
