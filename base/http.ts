import { request, type IncomingHttpHeaders, type IncomingMessage } from 'node:http';
import { connect, type Socket } from 'node:net';
import type { Readable } from 'node:stream';
import { ERROR_CATALOGUE, invalidArgument, ShoalError, type ErrorCode } from './errors.ts';

/** One request to an HTTP server named as `unix:///path` or `tcp://address:port`. */
export interface HttpCall {
  host: string;
  method: string;
  /** Path with query. */
  path: string;
  headers?: Readonly<Record<string, string>>;
  /** An object is sent as JSON. */
  body?: Readable | Uint8Array | object;
  signal?: AbortSignal;
  /** Whole time until the headers of the answer, ms; default none. */
  timeoutMs?: number;
}

export interface HttpAnswer {
  status: number;
  headers: IncomingHttpHeaders;
  body: IncomingMessage;
}

/** Options of node:http for a host. A connection of its own spares an agent, which takes a new process 10 ms to make. */
interface HttpTarget {
  createConnection: () => Socket;
  /** For the Host header. */
  host: string;
  port?: number;
}

/** Where a host is, as node:http's options say it. @throws ShoalError for another form of address */
export function httpTarget(host: string): HttpTarget {
  const unix = /^unix:\/\/(.+)$/.exec(host);
  const path = unix?.[1];
  if (path !== undefined) return { createConnection: () => connect(path), host: 'localhost' };
  const tcp = /^(?:tcp|http):\/\/(\[[^\]]+\]|[^:/]+):(\d+)\/?$/.exec(host);
  if (tcp?.[1] !== undefined) {
    const address = { host: tcp[1].replace(/^\[|\]$/g, ''), port: Number(tcp[2]) };
    return { ...address, createConnection: () => connect(address) };
  }
  throw invalidArgument(`unable to parse docker host ${host}: unix:///path or tcp://address:port is expected`);
}

function isStream(body: object): body is Readable {
  return typeof (body as Partial<Readable>).pipe === 'function';
}

/** Sends a request; resolves when the headers have come. @throws ShoalError Unavailable when nobody answers. */
export function httpCall(call: HttpCall): Promise<HttpAnswer> {
  const { body } = call;
  const json = body !== undefined && !(body instanceof Uint8Array) && !isStream(body);
  const payload = json ? Buffer.from(JSON.stringify(body)) : body instanceof Uint8Array ? body : undefined;
  return new Promise((resolve, reject) => {
    const outgoing = request({
      ...httpTarget(call.host),
      method: call.method,
      path: call.path,
      headers: {
        ...(json ? { 'Content-Type': 'application/json' } : {}),
        ...(payload === undefined ? {} : { 'Content-Length': payload.length }),
        ...call.headers,
      },
      ...(call.signal === undefined ? {} : { signal: call.signal }),
    });
    if (call.timeoutMs !== undefined) {
      outgoing.setTimeout(call.timeoutMs, () => outgoing.destroy(new Error(`no answer within ${call.timeoutMs} ms`)));
    }
    outgoing.on('response', (incoming) => {
      outgoing.setTimeout(0);
      resolve({ status: incoming.statusCode ?? 0, headers: incoming.headers, body: incoming });
    });
    outgoing.on('error', (error: NodeJS.ErrnoException) => {
      if (error.name === 'AbortError') reject(error);
      else reject(new ShoalError('Unavailable', connectionText(call.host, error), { cause: error }));
    });
    if (body !== undefined && !json && payload === undefined) (body as Readable).pipe(outgoing);
    else outgoing.end(payload);
  });
}

function connectionText(host: string, error: NodeJS.ErrnoException): string {
  if (error.code === 'ENOENT' || error.code === 'ECONNREFUSED') {
    return `Cannot connect to the Docker daemon at ${host}. Is the shoal daemon running?`;
  }
  return `${host}: ${error.message}`;
}

/** Reads a whole body as text. */
export async function readText(body: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of body as AsyncIterable<Buffer>) chunks.push(chunk);
  return Buffer.concat(chunks).toString('utf8');
}

function codeOfStatus(status: number): ErrorCode {
  const preferred: Record<number, ErrorCode> = { 400: 'InvalidArgument', 409: 'Conflict', 500: 'Unknown' };
  const found = Object.entries(ERROR_CATALOGUE).find(([, entry]) => entry.http === status);
  return preferred[status] ?? ((found?.[0] ?? 'Unknown') as ErrorCode);
}

/** The error of an answer with a status of 400 or more, with the server's own message. */
export async function answerError(answer: HttpAnswer): Promise<ShoalError> {
  const text = await readText(answer.body);
  let message = text.trim();
  try {
    const given = (JSON.parse(text) as { message?: unknown }).message;
    if (typeof given === 'string') message = given;
  } catch {
    // Not JSON: the text itself is the message.
  }
  return new ShoalError(codeOfStatus(answer.status), message || `HTTP status ${answer.status}`);
}

/** Sends a request and reads a JSON answer (undefined when the body is empty). @throws ShoalError for status ≥ 400 */
export async function httpJson<T = unknown>(call: HttpCall): Promise<T> {
  const answer = await httpCall(call);
  if (answer.status >= 400) throw await answerError(answer);
  const text = await readText(answer.body);
  return (text === '' ? undefined : JSON.parse(text)) as T;
}
