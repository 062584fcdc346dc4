import { errorMessage, isShoalError, type Logger } from '../base/index.ts';
import { NetworkCheckReport, type NetworkCheckOrder } from '../proto/index.ts';
import type { AgentConnection } from './connection.ts';

/** Orders that are carried out at once; more are refused. */
export const CHECKS_MAX = 4;
/** Longest wait for the manager to take a report, ms. */
const REPORT_TIMEOUT_MS = 5000;

export interface NetworkChecksOptions {
  connection: AgentConnection;
  log: Logger;
  /** Does what was ordered; undefined on hosts without networks of their own. */
  check: ((order: NetworkCheckOrder) => Promise<NetworkCheckReport>) | undefined;
}

/**
 * Takes orders to check networks for as long as the session lasts. Resolves only when `signal` aborts, also where the
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
    if (connection.listenChecks !== undefined) {
      for await (const order of connection.listenChecks(signal)) void answer(order);
      return;
    }
  } catch (error) {
    if (!isShoalError(error, 'Unimplemented')) throw error;
  }
  await untilAborted(signal);
}

function untilAborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}
