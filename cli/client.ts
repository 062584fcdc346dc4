import type { IncomingMessage } from 'node:http';
import type { Duplex, Readable } from 'node:stream';
import { answerError, httpCall, isShoalError, readText, type ErrorCode, type HttpAnswer } from '../base/index.ts';

/** Newest and oldest API version that this client speaks. */
export const API_VERSION = '1.50';

/** Parameters of a query; undefined ones are left out, false ones too. */
export type Query = Readonly<
  Record<string, string | number | boolean | undefined | Readonly<Record<string, readonly string[]>>>
>;

/** The daemon refused a request. `message` is what the user sees. */
export class DaemonError extends Error {
  readonly code: ErrorCode;
  /** The daemon's own words. */
  readonly reason: string;

  constructor(code: ErrorCode, reason: string) {
    super(`Error response from daemon: ${reason}`);
    this.code = code;
    this.reason = reason;
  }
}

/** Whether the daemon answered that the thing does not exist. */
export function isNotFound(error: unknown): boolean {
  return error instanceof DaemonError && error.code === 'NotFound';
}

/** Whether an API version is older than another. */
export function olderVersion(left: string, right: string): boolean {
  const [a = 0, b = 0] = left.split('.').map(Number);
  const [c = 0, d = 0] = right.split('.').map(Number);
  return a < c || (a === c && b < d);
}

function queryText(query: Query): string {
  const words: string[] = [];
  for (const [name, value] of Object.entries(query)) {
    if (value === undefined || value === false) continue;
    const text = typeof value === 'object' ? filterText(value) : value === true ? '1' : String(value);
    if (text !== undefined) words.push(`${name}=${encodeURIComponent(text)}`);
  }
  return words.length === 0 ? '' : `?${words.join('&')}`;
}

/** Filters in the API's form; undefined when there are none. */
function filterText(filters: Readonly<Record<string, readonly string[]>>): string | undefined {
  const entries = Object.entries(filters);
  if (entries.length === 0) return undefined;
  return JSON.stringify(
    Object.fromEntries(
      entries.map(([name, values]) => [name, Object.fromEntries(values.map((value) => [value, true]))]),
    ),
  );
}

export interface Call {
  method: string;
  path: string;
  query?: Query;
  body?: Readable | Uint8Array | object;
  headers?: Readonly<Record<string, string>>;
  signal?: AbortSignal;
}

/** The Docker HTTP API at one address. */
export class Client {
  readonly host: string;
  #version: Promise<string> | undefined;

  constructor(host: string) {
    this.host = host;
  }

  /** API version that both sides speak; asked once. */
  version(): Promise<string> {
    this.#version ??= this.#negotiate();
    return this.#version;
  }

  async #negotiate(): Promise<string> {
    const answer = await this.#send({ method: 'HEAD', path: '/_ping' });
    answer.body.resume();
    const offered = answer.headers['api-version'];
    if (typeof offered !== 'string' || offered === '') return '1.24';
    return olderVersion(offered, API_VERSION) ? offered : API_VERSION;
  }

  async #send(call: Call): Promise<HttpAnswer> {
    try {
      return await httpCall({
        host: this.host,
        method: call.method,
        path: call.path,
        headers: { 'User-Agent': 'Shoal-Client (linux)', ...call.headers },
        ...(call.body === undefined ? {} : { body: call.body }),
        ...(call.signal === undefined ? {} : { signal: call.signal }),
      });
    } catch (error) {
      if (isShoalError(error, 'Unavailable')) throw new Error(connectionText(this.host, error), { cause: error });
      throw error;
    }
  }

  /** Sends a request and gives the answer once its headers are here. @throws DaemonError for a status of 400 or more */
  async open(call: Call): Promise<HttpAnswer> {
    const version = await this.version();
    const answer = await this.#send({ ...call, path: withQuery(`/v${version}${call.path}`, call.query ?? {}) });
    if (answer.status < 400) return answer;
    const refused = await answerError(answer);
    throw new DaemonError(answer.status === 404 ? 'NotFound' : refused.code, refused.message);
  }

  /** A connection that belongs to a stream from now on: attach and exec. @throws DaemonError when it is refused */
  async hijack(call: Pick<Call, 'path' | 'query' | 'body'>): Promise<Duplex> {
    const [{ hijack }, version] = await Promise.all([import('./hijack.ts'), this.version()]);
    const path = withQuery(`/v${version}${call.path}`, call.query ?? {});
    const answer = await hijack(this.host, path, call.body);
    if ('socket' in answer) return answer.socket;
    const refused = await answerError({ ...answer, body: answer.body });
    if (answer.status < 400) throw new Error(`unable to upgrade to tcp, received ${answer.status}`);
    throw new DaemonError(answer.status === 404 ? 'NotFound' : refused.code, refused.message);
  }

  /** The whole body as text. */
  async text(call: Call): Promise<string> {
    return readText((await this.open(call)).body);
  }

  /** The body as JSON; undefined when it is empty. */
  async json<T>(call: Call): Promise<T> {
    const text = await this.text(call);
    return (text === '' ? undefined : JSON.parse(text)) as T;
  }

  get<T>(path: string, query: Query = {}): Promise<T> {
    return this.json<T>({ method: 'GET', path, query });
  }

  post<T>(
    path: string,
    body: object | undefined,
    query: Query = {},
    headers: Readonly<Record<string, string>> = {},
  ): Promise<T> {
    return this.json<T>({ method: 'POST', path, query, headers, ...(body === undefined ? {} : { body }) });
  }

  delete<T>(path: string, query: Query = {}): Promise<T> {
    return this.json<T>({ method: 'DELETE', path, query });
  }

  /** A body that goes on: logs, events, progress. */
  async stream(call: Call): Promise<IncomingMessage> {
    return (await this.open(call)).body;
  }
}

function connectionText(host: string, error: Error): string {
  const cause = error.cause as NodeJS.ErrnoException | undefined;
  if (cause?.code === 'ENOENT' || cause?.code === 'ECONNREFUSED') {
    return `Cannot connect to the Docker daemon at ${host}. Is the docker daemon running?`;
  }
  if (cause?.code === 'EACCES') {
    return `permission denied while trying to connect to the Docker daemon socket at ${host}`;
  }
  return `error during connect: ${error.message}`;
}

/** A name as one segment of a path. */
export const segment = (name: string): string => encodeURIComponent(name);

/** An image name in a path, whose slashes and colons stay. */
export const imageSegment = (name: string): string =>
  name
    .split('/')
    .map((part) => encodeURIComponent(part).replaceAll('%3A', ':').replaceAll('%40', '@'))
    .join('/');

function withQuery(path: string, query: Query): string {
  const text = queryText(query);
  return path.includes('?') ? path + text.replace('?', '&') : path + text;
}
