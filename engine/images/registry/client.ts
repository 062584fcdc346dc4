import type { Readable } from 'node:stream';
import { ShoalError, type Clock } from '../../../base/index.ts';
import type { RegistryAuth } from '../../types.ts';
import { sha256 } from '../content.ts';
import { MEDIA } from '../manifest.ts';
import { isDigest } from '../reference.ts';
import { Authenticator, parseChallenges } from './auth.ts';
import { header, readBody, type HttpRequest, type HttpResponse, type Transport } from './transport.ts';
import { refusal, RegistryRefusal } from './words.ts';

const MANIFEST_TYPES = [MEDIA.ociIndex, MEDIA.dockerIndex, MEDIA.ociManifest, MEDIA.dockerManifest].join(', ');

export interface FetchedManifest {
  mediaType: string;
  digest: string;
  bytes: Buffer;
}

/** Where a registry is spoken to. */
export interface Endpoint {
  /** Host with port, or a base URL whose scheme is fixed (mirrors). */
  address: string;
  auth: RegistryAuth | undefined;
}

/** Remembers which scheme works with a host. */
export type KnownBases = Map<string, { base: URL; unverified: boolean }>;

export interface RepositoryOptions {
  transport: Transport;
  clock: Clock;
  endpoint: Endpoint;
  path: string;
  bases: KnownBases;
  signal: AbortSignal;
  /** Shares the tokens of another client of the same user. */
  authenticator?: Authenticator;
}

/** One repository of one registry, for one user (OCI distribution specification 1.1; Docker registry HTTP API V2). */
export class RepositoryClient {
  readonly #transport: Transport;
  readonly #auth: Authenticator;
  readonly #address: string;
  readonly #path: string;
  readonly #bases: KnownBases;
  readonly #signal: AbortSignal;
  readonly #options: RepositoryOptions;

  constructor(options: RepositoryOptions) {
    this.#options = options;
    this.#transport = options.transport;
    this.#auth = options.authenticator ?? new Authenticator(options.transport, options.clock, options.endpoint.auth);
    this.#address = options.endpoint.address;
    this.#path = options.path;
    this.#bases = options.bases;
    this.#signal = options.signal;
  }

  /** The same client, whose requests end with another signal. */
  withSignal(signal: AbortSignal): RepositoryClient {
    return new RepositoryClient({ ...this.#options, signal, authenticator: this.#auth });
  }

  get #scope(): { pull: string; push: string } {
    return { pull: `repository:${this.#path}:pull`, push: `repository:${this.#path}:pull,push` };
  }

  async #candidates(): Promise<{ base: URL; unverified: boolean }[]> {
    const known = this.#bases.get(this.#address);
    if (known !== undefined) return [known];
    if (/^https?:\/\//.test(this.#address)) {
      const base = new URL(this.#address);
      const insecure = await this.#transport.isInsecure(base.host);
      return [{ base, unverified: insecure }];
    }
    const secure = new URL(`https://${this.#address}`);
    if (!(await this.#transport.isInsecure(this.#address))) return [{ base: secure, unverified: false }];
    return [
      { base: secure, unverified: true },
      { base: new URL(`http://${this.#address}`), unverified: true },
    ];
  }

  /** Sends to the base that works; an insecure registry is tried with HTTPS first, then with HTTP, as Docker does. */
  async #send(path: string, scope: string, request: Omit<HttpRequest, 'signal'>): Promise<HttpResponse> {
    const candidates = await this.#candidates();
    for (const [i, candidate] of candidates.entries()) {
      try {
        const prefix = candidate.base.pathname.replace(/\/$/, '');
        const response = await this.#authorised(new URL(prefix + path, candidate.base), candidate, scope, request);
        this.#bases.set(this.#address, candidate);
        return response;
      } catch (error) {
        this.#bases.delete(this.#address);
        const answered =
          error instanceof RegistryRefusal || (error instanceof ShoalError && error.code !== 'Unavailable');
        if (answered || this.#signal.aborted || i === candidates.length - 1) throw error;
      }
    }
    throw new ShoalError('Internal', `no way to reach ${this.#address}`);
  }

  async #authorised(
    url: URL,
    { base, unverified }: { base: URL; unverified: boolean },
    scope: string,
    request: Omit<HttpRequest, 'signal'>,
  ): Promise<HttpResponse> {
    const send = (authorization: string | undefined): Promise<HttpResponse> => {
      const own = url.host === base.host && authorization !== undefined ? { Authorization: authorization } : {};
      return this.#transport.request(url, {
        ...request,
        headers: { ...request.headers, ...own },
        signal: this.#signal,
        unverified,
      });
    };
    const first = await send(this.#auth.known(scope));
    // A body that was streamed cannot be sent twice; uploads begin with a request that settles the authorization.
    if (first.status !== 401 || typeof request.body === 'function') return first;
    const challenges = parseChallenges(header(first.headers, 'www-authenticate'));
    const body = request.method === 'HEAD' ? Buffer.alloc(0) : await readBody(first);
    if (request.method === 'HEAD') first.body.resume();
    const answer = await this.#auth.answer(challenges, scope, { plainAllowed: unverified, signal: this.#signal });
    if (answer === undefined) throw refusal(first.url, first.status, body.toString('utf8'));
    return await send(answer);
  }

  async #expect(response: HttpResponse, ...statuses: number[]): Promise<HttpResponse> {
    if (statuses.includes(response.status)) return response;
    throw refusal(response.url, response.status, (await readBody(response)).toString('utf8'));
  }

  /** Asks whether this user may speak to the registry at all. @throws RegistryRefusal, ShoalError Unauthenticated */
  async ping(): Promise<void> {
    const response = await this.#expect(await this.#send('/v2/', '', { method: 'GET' }), 200);
    response.body.resume();
  }

  /**
   * Fetches and checks a manifest by tag or digest.
   * @throws RegistryRefusal; ShoalError DataLoss when it does not match its digest.
   */
  async manifest(reference: string): Promise<FetchedManifest> {
    const path = `/v2/${this.#path}/manifests/${reference}`;
    const request = { method: 'GET' as const, headers: { Accept: MANIFEST_TYPES } };
    const response = await this.#expect(await this.#send(path, this.#scope.pull, request), 200);
    const bytes = await readBody(response);
    const digest = sha256(bytes);
    const announced = header(response.headers, 'docker-content-digest');
    const wanted = isDigest(reference) ? reference : isDigest(announced) ? announced : digest;
    if (wanted !== digest) {
      throw new ShoalError(
        'DataLoss',
        `manifest verification failed for digest ${wanted}: the registry sent ${digest}`,
      );
    }
    const mediaType = header(response.headers, 'content-type').split(';')[0]?.trim() ?? '';
    return { mediaType, digest, bytes };
  }

  /** Asks the old API of indexes for images with a word. Any status is an answer. */
  async search(term: string, limit: number): Promise<HttpResponse> {
    const query = new URLSearchParams({ q: term, n: String(limit) });
    return await this.#send(`/v1/search?${query.toString()}`, '', { method: 'GET', headers: {} });
  }

  /** Opens a blob from an offset. The status is 200 (from the start) or 206 (from the offset). */
  async blob(digest: string, offset: number): Promise<HttpResponse> {
    const headers = offset > 0 ? { Range: `bytes=${offset}-` } : {};
    const path = `/v2/${this.#path}/blobs/${digest}`;
    return await this.#expect(await this.#send(path, this.#scope.pull, { method: 'GET', headers }), 200, 206);
  }

  async hasBlob(digest: string): Promise<boolean> {
    const response = await this.#send(`/v2/${this.#path}/blobs/${digest}`, this.#scope.push, { method: 'HEAD' });
    response.body.resume();
    if (response.status === 401 || response.status === 403) throw refusal(response.url, response.status, denied());
    return response.status === 200;
  }

  /**
   * Uploads a blob in one piece, or has it mounted from another repository of the registry.
   * @returns the repository it was mounted from, or undefined after an upload.
   */
  async uploadBlob(
    digest: string,
    sizeBytes: number,
    open: () => Readable,
    mountFrom?: string,
  ): Promise<string | undefined> {
    const query =
      mountFrom === undefined ? '' : `?${new URLSearchParams({ mount: digest, from: mountFrom }).toString()}`;
    const begin = await this.#send(`/v2/${this.#path}/blobs/uploads/${query}`, this.#scope.push, {
      method: 'POST',
      headers: { 'Content-Length': '0' },
    });
    await this.#expect(begin, 201, 202);
    begin.body.resume();
    if (begin.status === 201) return mountFrom;
    const location = new URL(header(begin.headers, 'location'), begin.url);
    location.searchParams.set('digest', digest);
    const known = this.#bases.get(this.#address);
    const base = known ?? { base: begin.url, unverified: false };
    const response = await this.#authorised(location, base, this.#scope.push, {
      method: 'PUT',
      headers: { 'Content-Length': String(sizeBytes), 'Content-Type': 'application/octet-stream' },
      body: open,
    });
    await this.#expect(response, 201, 204);
    response.body.resume();
    return undefined;
  }

  /** Stores a manifest under a tag; returns its digest. */
  async putManifest(tag: string, mediaType: string, bytes: Uint8Array): Promise<string> {
    const path = `/v2/${this.#path}/manifests/${tag}`;
    const request = { method: 'PUT' as const, headers: { 'Content-Type': mediaType }, body: bytes };
    const response = await this.#expect(await this.#send(path, this.#scope.push, request), 201, 200, 202);
    response.body.resume();
    return sha256(bytes);
  }
}

function denied(): string {
  return JSON.stringify({ errors: [{ code: 'DENIED', message: 'requested access to the resource is denied' }] });
}
