import type { ServerResponse } from 'node:http';
import { errorMessage, isShoalError, type Logger } from '../base/index.ts';

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
  response.end(`${JSON.stringify({ message: errorMessage(error) })}\n`);
}
