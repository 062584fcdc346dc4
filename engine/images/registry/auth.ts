import { ShoalError, type Clock } from '../../../base/index.ts';
import type { RegistryAuth } from '../../types.ts';
import { parseJson, textOf } from '../image-config.ts';
import { readBody, type Transport } from './transport.ts';
import { refusal } from './words.ts';

/** One challenge of a WWW-Authenticate header (RFC 9110, section 11.6.1). */
export interface Challenge {
  scheme: string;
  parameters: Record<string, string>;
}

/** Reads the challenges of a WWW-Authenticate header; quoted strings may hold commas. */
export function parseChallenges(value: string): Challenge[] {
  const challenges: Challenge[] = [];
  const token =
    /\s*,?\s*(?:([A-Za-z0-9_-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,]+))|([A-Za-z][A-Za-z0-9_-]*)(?=\s|$|,))/y;
  for (let match = token.exec(value); match !== null; match = token.exec(value)) {
    const [, key, quoted, plain, scheme] = match;
    if (scheme !== undefined) challenges.push({ scheme: scheme.toLowerCase(), parameters: {} });
    else if (key !== undefined) {
      const last = challenges.at(-1);
      if (last !== undefined) last.parameters[key.toLowerCase()] = quoted?.replace(/\\(.)/g, '$1') ?? plain ?? '';
    }
  }
  return challenges;
}

function basic(auth: RegistryAuth | undefined): string | undefined {
  if (auth?.username === undefined || auth.username === '') return undefined;
  return `Basic ${Buffer.from(`${auth.username}:${auth.password ?? ''}`).toString('base64')}`;
}

/** Seconds a token is good for when its server does not say (distribution specification, token). */
const TOKEN_LIFETIME_S = 60;
/** A token is renewed this long before it ends, ms. */
const TOKEN_MARGIN_MS = 5000;

/** Answers the challenges of one registry for one user and remembers the tokens it got. */
export class Authenticator {
  readonly #transport: Transport;
  readonly #clock: Clock;
  readonly #auth: RegistryAuth | undefined;
  #basic: string | undefined;
  readonly #tokens = new Map<string, { value: string; untilMs: number }>();
  readonly #fetching = new Map<string, Promise<string>>();

  constructor(transport: Transport, clock: Clock, auth: RegistryAuth | undefined) {
    this.#transport = transport;
    this.#clock = clock;
    this.#auth = auth;
  }

  /** What to send with a request for `scope` without having been asked. */
  known(scope: string): string | undefined {
    const registryToken = this.#auth?.registryToken ?? '';
    if (registryToken !== '') return `Bearer ${registryToken}`;
    const token = this.#tokens.get(scope);
    if (token !== undefined && token.untilMs > this.#clock.monotonic()) return `Bearer ${token.value}`;
    return this.#basic;
  }

  /**
   * The Authorization header that answers a 401, or undefined when there is nothing to answer it with.
   * @throws ShoalError Unauthenticated when the token server refuses the user.
   */
  async answer(
    challenges: readonly Challenge[],
    scope: string,
    options: { plainAllowed: boolean; signal: AbortSignal },
  ): Promise<string | undefined> {
    const bearer = challenges.find(({ scheme }) => scheme === 'bearer');
    if (bearer !== undefined && (this.#auth?.registryToken ?? '') === '') {
      const running = this.#fetching.get(scope);
      if (running !== undefined) return `Bearer ${await running}`;
      const fetching = this.#fetchToken(bearer, scope, options).finally(() => this.#fetching.delete(scope));
      this.#fetching.set(scope, fetching);
      return `Bearer ${await fetching}`;
    }
    if (challenges.some(({ scheme }) => scheme === 'basic')) {
      const value = basic(this.#auth);
      if (value === undefined) throw new ShoalError('Unauthenticated', 'no basic auth credentials');
      this.#basic = value;
      return value;
    }
    return undefined;
  }

  async #fetchToken(
    { parameters }: Challenge,
    scope: string,
    options: { plainAllowed: boolean; signal: AbortSignal },
  ): Promise<string> {
    const realm = URL.canParse(parameters['realm'] ?? '') ? new URL(parameters['realm'] as string) : undefined;
    const allowed = realm?.protocol === 'https:' || (realm?.protocol === 'http:' && options.plainAllowed);
    if (realm === undefined || !allowed) {
      throw new ShoalError(
        'Unauthenticated',
        `the registry names an unusable token server: ${parameters['realm'] ?? ''}`,
      );
    }
    const service = parameters['service'] ?? '';
    const scopes = parameters['scope'] ?? scope;
    const identity = this.#auth?.identityToken ?? '';
    const common = { signal: options.signal, unverified: options.plainAllowed };
    const response =
      identity === ''
        ? await this.#transport.request(tokenUrl(realm, service, scopes, this.#auth), {
            ...common,
            method: 'GET',
            headers: headersOf(basic(this.#auth)),
          })
        : await this.#transport.request(realm, {
            ...common,
            method: 'POST',
            headers: { 'Content-Type': 'application/x-www-form-urlencoded' },
            body: Buffer.from(
              new URLSearchParams({
                grant_type: 'refresh_token',
                client_id: 'shoal',
                service,
                scope: scopes,
                refresh_token: identity,
              }).toString(),
            ),
          });
    const body = await readBody(response);
    if (response.status === 401 || response.status === 403) {
      throw new ShoalError('Unauthenticated', 'unauthorized: incorrect username or password');
    }
    if (response.status !== 200) throw refusal(response.url, response.status, body.toString('utf8'));
    const json = parseJson(body, 'the answer of the token server');
    const value = textOf(json['token']) || textOf(json['access_token']);
    if (value === '') throw new ShoalError('Unauthenticated', `the token server ${realm.host} gave no token`);
    const seconds = typeof json['expires_in'] === 'number' ? json['expires_in'] : TOKEN_LIFETIME_S;
    this.#tokens.set(scope, { value, untilMs: this.#clock.monotonic() + seconds * 1000 - TOKEN_MARGIN_MS });
    return value;
  }
}

function headersOf(authorization: string | undefined): Record<string, string> {
  return authorization === undefined ? {} : { Authorization: authorization };
}

function tokenUrl(realm: URL, service: string, scope: string, auth: RegistryAuth | undefined): URL {
  const url = new URL(realm);
  if (service !== '') url.searchParams.set('service', service);
  for (const one of scope.split(' ')) if (one !== '') url.searchParams.append('scope', one);
  if (auth?.username !== undefined && auth.username !== '') url.searchParams.set('account', auth.username);
  return url;
}
