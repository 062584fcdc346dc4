import { Agent as HttpAgent, request as httpRequest, type IncomingHttpHeaders, type IncomingMessage } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import { BlockList, isIP } from 'node:net';
import type { Readable } from 'node:stream';
import { abortReason, type Clock, invalidArgument, ShoalError, unavailable } from '../../../base/index.ts';
import { RegistryNames } from './names.ts';
import { connectionError } from './words.ts';

/** Time for one try to connect, ms. Several short ones get through where one long one hangs on a lost packet. */
const CONNECT_TIMEOUT_MS = 2000;
const CONNECT_ATTEMPTS_MAX = 3;
/** A connection on which nothing moves for this time is broken, ms. */
export const IDLE_TIMEOUT_MS = 30_000;
const REDIRECTS_MAX = 5;
const SOCKETS_PER_HOST_MAX = 16;
/** Bodies read as a whole (manifests, tokens, errors), bytes. */
export const BODY_MAX_BYTES = 8 * 1024 * 1024;

export interface HttpRequest {
  method: 'GET' | 'HEAD' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  headers?: Readonly<Record<string, string>>;
  /** Bytes, or a source that is sent with the length given in the headers. */
  body?: Uint8Array | (() => Readable);
  signal: AbortSignal;
  /** Accept any certificate. */
  unverified?: boolean;
}

export interface HttpResponse {
  status: number;
  headers: IncomingHttpHeaders;
  body: IncomingMessage;
  /** After redirects. */
  url: URL;
}

/** A header's first value. */
export function header(headers: IncomingHttpHeaders, name: string): string {
  const value = headers[name];
  return (Array.isArray(value) ? value[0] : value) ?? '';
}

/** Reads a body that must be small. @throws ShoalError InvalidArgument beyond the limit. */
export async function readBody(response: HttpResponse): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of response.body as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > BODY_MAX_BYTES) {
      response.body.destroy();
      throw invalidArgument(`the answer of ${response.url.host} is longer than ${BODY_MAX_BYTES} bytes`);
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

/** HTTP and HTTPS with bounded look-ups and connects, and redirects that do not leak credentials. */
export class Transport {
  readonly #clock: Clock;
  readonly #names: RegistryNames;
  readonly #http: HttpAgent;
  readonly #https: HttpsAgent;
  readonly #unverified: HttpsAgent;
  readonly #exact = new Set<string>();
  #networks = new BlockList();
  #anyNetwork = false;

  constructor(clock: Clock, insecure: readonly string[]) {
    this.#clock = clock;
    this.#names = new RegistryNames(clock);
    const options = { keepAlive: true, maxSockets: SOCKETS_PER_HOST_MAX, autoSelectFamilyAttemptTimeout: 1000 };
    this.#http = new HttpAgent(options);
    this.#https = new HttpsAgent(options);
    this.#unverified = new HttpsAgent({ ...options, rejectUnauthorized: false });
    this.setInsecure(insecure);
  }

  /** Registries that may use unchecked certificates or plain HTTP, in place of those before; loopback always may. */
  setInsecure(insecure: readonly string[]): void {
    this.#exact.clear();
    this.#anyNetwork = false;
    this.#networks = new BlockList();
    this.#networks.addSubnet('127.0.0.0', 8);
    this.#networks.addAddress('::1', 'ipv6');
    for (const entry of insecure) this.#addInsecure(entry);
  }

  #addInsecure(entry: string): void {
    const [address, prefix] = entry.split('/');
    const family = isIP(address ?? '');
    if (prefix === undefined || family === 0) {
      this.#exact.add(entry.replace(/^https?:\/\//, ''));
      return;
    }
    this.#networks.addSubnet(address as string, Number(prefix), family === 6 ? 'ipv6' : 'ipv4');
    this.#anyNetwork = true;
  }

  /** Whether a registry (host with port) may use unchecked certificates or plain HTTP. Loopback always may. */
  async isInsecure(registry: string): Promise<boolean> {
    const { hostname } = new URL(`http://${registry}`);
    const host = hostname.replace(/^\[|\]$/g, '');
    if (host === 'localhost' || this.#exact.has(registry) || this.#exact.has(host)) return true;
    const literal = isIP(host);
    if (literal !== 0) return this.#networks.check(host, literal === 6 ? 'ipv6' : 'ipv4');
    if (!this.#anyNetwork) return false;
    const addresses = await this.#names.addresses(host).catch(() => []);
    return addresses.some(({ address, family }) => this.#networks.check(address, family === 6 ? 'ipv6' : 'ipv4'));
  }

  /** One request, redirects followed for GET and HEAD. @throws ShoalError Unavailable when no answer comes. */
  async request(url: URL, request: HttpRequest): Promise<HttpResponse> {
    let at = url;
    let headers = request.headers ?? {};
    for (let hops = 0; ; hops++) {
      const response = await this.#once(at, { ...request, headers });
      const location = header(response.headers, 'location');
      const redirected = [301, 302, 303, 307, 308].includes(response.status) && location !== '';
      if (!redirected || (request.method !== 'GET' && request.method !== 'HEAD')) return response;
      response.body.resume();
      if (hops >= REDIRECTS_MAX) throw unavailable(`Get "${url.href}": stopped after ${REDIRECTS_MAX} redirects`);
      const next = new URL(location, at);
      if (next.protocol !== 'https:' && (at.protocol === 'https:' || next.protocol !== 'http:')) {
        throw unavailable(`Get "${url.href}": refused a redirect from https to ${next.protocol}//${next.host}`);
      }
      // Storage back ends must not see the registry's credentials (and refuse two kinds at once).
      if (next.host !== at.host) headers = withoutAuthorization(headers);
      at = next;
    }
  }

  #once(url: URL, request: HttpRequest, attempt = 1): Promise<HttpResponse> {
    const { method, signal, body } = request;
    if (signal.aborted) return Promise.reject(abortReason(signal));
    const secure = url.protocol === 'https:';
    const agent = secure ? (request.unverified === true ? this.#unverified : this.#https) : this.#http;
    return new Promise((resolve, reject) => {
      const sent = (secure ? httpsRequest : httpRequest)(url, {
        method,
        agent,
        signal,
        lookup: this.#names.lookup,
        timeout: IDLE_TIMEOUT_MS,
        headers: { 'User-Agent': 'shoal', ...request.headers, ...bodyLength(body) },
      });
      const fail = (error: unknown): void => {
        connecting.cancel();
        const stale = sent.reusedSocket && (error as NodeJS.ErrnoException).code === 'ECONNRESET';
        if (signal.aborted) reject(abortReason(signal));
        // The server may close a kept connection at the moment it is used again.
        else if (stale && typeof body !== 'function') resolve(this.#once(url, request, attempt));
        // Nothing of the request was sent: it may be tried on another connection.
        else if (unconnected && attempt < CONNECT_ATTEMPTS_MAX) resolve(this.#once(url, request, attempt + 1));
        else reject(error instanceof ShoalError ? error : connectionError(method, url, error));
      };
      const timedOut = (): void => {
        sent.destroy(Object.assign(new Error('timeout'), { code: 'ETIMEDOUT' }));
      };
      let unconnected = false;
      const connecting = this.#clock.after(CONNECT_TIMEOUT_MS, () => {
        unconnected = true;
        timedOut();
      });
      sent.on('socket', (socket) => {
        if (!socket.connecting) connecting.cancel();
        else socket.once('connect', () => connecting.cancel());
      });
      sent.on('timeout', () => timedOut());
      sent.on('error', fail);
      sent.on('response', (message) => {
        connecting.cancel();
        message.on('error', () => undefined);
        resolve({ status: message.statusCode ?? 0, headers: message.headers, body: message, url });
      });
      if (typeof body === 'function') {
        const source = body();
        source.on('error', (error) => sent.destroy(error));
        sent.on('close', () => source.destroy());
        source.pipe(sent);
      } else {
        sent.end(body);
      }
    });
  }

  close(): void {
    for (const agent of [this.#http, this.#https, this.#unverified]) agent.destroy();
  }
}

function bodyLength(body: HttpRequest['body']): Record<string, string> {
  return body instanceof Uint8Array ? { 'Content-Length': String(body.length) } : {};
}

function withoutAuthorization(headers: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(headers).filter(([name]) => name.toLowerCase() !== 'authorization'));
}
