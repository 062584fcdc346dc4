import type { ServerResponse } from 'node:http';
import { errorMessage, isShoalError, type Logger } from '../base/index.ts';

/** node's words of a failed system call: `ENOSPC: no space left on device, mkdir '/path'`. */
const SYSTEM_CALL = /^E[A-Z0-9]+: ([^,]+), (\w+)(?: '([^']*)')?(?: -> '([^']*)')?$/;

/** The words of an error, those of a failed system call in the order that Docker has them: `mkdir /path: no space left…`. */
export function wordsOf(error: unknown): string {
  const message = errorMessage(error);
  const [, why, call, ...paths] = SYSTEM_CALL.exec(message) ?? [];
  if (why === undefined || call === undefined) return message;
  return `${[call, ...paths.filter((path) => path !== undefined)].join(' ')}: ${why}`;
}

/** Writes an error as Docker does; when the answer has already begun, the connection is cut. */
export function sendError(response: ServerResponse, error: unknown, log: Logger): void {
  const status = isShoalError(error) ? error.httpStatus : 500;
  if (status >= 500 && !isShoalError(error)) log.error('request failed', { error });
  if (response.headersSent) {
    response.destroy();
    return;
  }
  if (status === 304) {
    response.writeHead(304).end();
    return;
  }
  response.writeHead(status, { 'Content-Type': 'application/json' });
  response.end(`${JSON.stringify({ message: wordsOf(error) })}\n`);
}
