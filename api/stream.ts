import type { ServerResponse } from 'node:http';
import { once } from 'node:events';
import { errorMessage } from '../base/index.ts';
import { olderThan } from './versions.ts';
import type { RequestContext } from './router.ts';

/** Sends a whole JSON answer. */
export function sendJson(response: ServerResponse, value: unknown, status = 200): void {
  response.writeHead(status, { 'Content-Type': 'application/json' });
  response.end(`${JSON.stringify(value)}\n`);
}

/** Sends a status without a body. */
export function sendEmpty(response: ServerResponse, status = 200): void {
  response.writeHead(status).end();
}

/** Writes and waits while the client reads slower than we write. */
export async function write(response: ServerResponse, data: Uint8Array | string, signal: AbortSignal): Promise<void> {
  if (response.write(data)) return;
  await once(response, 'drain', { signal });
}

/** Type byte of a frame: docs of the attach call, "Stream format". */
const STREAM_TYPE = { stdout: 1, stderr: 2, systemerr: 3 } as const;

/** One frame of the multiplexed stream: type, three zero bytes, big-endian length, payload. */
export function frame(stream: keyof typeof STREAM_TYPE, payload: Uint8Array): Buffer {
  const out = Buffer.allocUnsafe(8 + payload.length);
  out.writeUInt32BE(STREAM_TYPE[stream] << 24, 0);
  out.writeUInt32BE(payload.length, 4);
  out.set(payload, 8);
  return out;
}

/** Begins a stream of output: framed, or raw for terminals. */
export function beginOutput({ response, version }: RequestContext, raw: boolean): void {
  const framed = !raw && !olderThan(version, '1.42');
  const type = framed ? 'application/vnd.docker.multiplexed-stream' : 'application/vnd.docker.raw-stream';
  response.writeHead(200, { 'Content-Type': type });
  response.flushHeaders();
}

/**
 * Runs work that reports progress as a JSON stream. Until the first report an error is a plain error answer; after it,
 * it is reported in the stream.
 */
export async function progressStream(
  { response }: RequestContext,
  run: (report: (line: object) => void) => Promise<void>,
): Promise<void> {
  const report = (line: object): void => {
    if (!response.headersSent) response.writeHead(200, { 'Content-Type': 'application/json' });
    response.write(`${JSON.stringify(line)}\r\n`);
  };
  try {
    await run(report);
  } catch (error) {
    if (!response.headersSent) throw error;
    const message = errorMessage(error);
    report({ errorDetail: { message }, error: message });
  }
  if (!response.headersSent) response.writeHead(200, { 'Content-Type': 'application/json' });
  response.end();
}
