import { lookup as systemLookup, type LookupAddress } from 'node:dns';
import type { LookupFunction } from 'node:net';
import type { Clock } from '../../../base/index.ts';

/**
 * A name that does not resolve within this time is taken for one that does not, ms. The system's resolver asks again only
 * after 5 s (resolv.conf(5)), so that an answer comes early or late, and nothing comes in between.
 */
export const LOOKUP_TIMEOUT_MS = 1000;
/** How long nobody is asked again about a name for which no resolver answered, ms. */
export const SILENCE_REMEMBERED_MS = 10_000;
const NAMES_MAX = 256;

type Resolve = (hostname: string, done: (error: NodeJS.ErrnoException | null, found: LookupAddress[]) => void) => void;

interface Name {
  /** The question under way; it may outlast many who gave up waiting for it. */
  pending: Promise<LookupAddress[]> | undefined;
  error: Error | undefined;
  /** On the monotonic clock. */
  failsUntilMs: number;
}

/**
 * Names of registries. Each question to the system holds a thread of Node's pool for as long as the resolver is silent
 * (10 s and more without a working one), and files are read by the same few threads: so one question per name at a time,
 * and after silence none for a while.
 */
export class RegistryNames {
  readonly #clock: Clock;
  readonly #resolve: Resolve;
  readonly #names = new Map<string, Name>();

  constructor(clock: Clock, resolve: Resolve = (hostname, done) => systemLookup(hostname, { all: true }, done)) {
    this.#clock = clock;
    this.#resolve = resolve;
  }

  /** Takes the place of `dns.lookup` for sockets. */
  readonly lookup: LookupFunction = (hostname, options, callback) => {
    const family = options.family === 'IPv4' ? 4 : options.family === 'IPv6' ? 6 : (options.family ?? 0);
    this.addresses(hostname).then(
      (all) => {
        const found = family === 0 ? all : all.filter((address) => address.family === family);
        const [first] = found;
        if (first === undefined) callback(failure('ENOTFOUND', `no address of ${hostname}`), '');
        else if (options.all === true) callback(null, found);
        else callback(null, first.address, first.family);
      },
      (error: unknown) => callback(error as NodeJS.ErrnoException, ''),
    );
  };

  /** All addresses of a name. Rejects with the resolver's error, or ELOOKUPTIMEOUT. */
  async addresses(hostname: string): Promise<LookupAddress[]> {
    const name = this.#names.get(hostname) ?? { pending: undefined, error: undefined, failsUntilMs: 0 };
    if (name.error !== undefined && this.#clock.monotonic() < name.failsUntilMs) throw name.error;
    this.#names.set(hostname, name);
    const oldest = this.#names.keys().next().value;
    if (this.#names.size > NAMES_MAX && oldest !== undefined) this.#names.delete(oldest);
    name.pending ??= this.#ask(hostname, name);
    return await this.#inTime(name, name.pending);
  }

  #ask(hostname: string, name: Name): Promise<LookupAddress[]> {
    const asked = new Promise<LookupAddress[]>((resolve, reject) => {
      this.#resolve(hostname, (error, found) => (error === null ? resolve(found) : reject(error)));
    });
    asked.then(
      () => {
        name.pending = undefined;
        name.error = undefined;
      },
      (error: unknown) => {
        name.pending = undefined;
        // "No such name" is an answer, and a quick one.
        if ((error as NodeJS.ErrnoException).code !== 'ENOTFOUND') this.#silent(name, error as Error);
      },
    );
    return asked;
  }

  #silent(name: Name, error: Error): void {
    name.error = error;
    name.failsUntilMs = this.#clock.monotonic() + SILENCE_REMEMBERED_MS;
  }

  #inTime(name: Name, asked: Promise<LookupAddress[]>): Promise<LookupAddress[]> {
    return new Promise((resolve, reject) => {
      const timer = this.#clock.after(LOOKUP_TIMEOUT_MS, () => {
        const error = failure('ELOOKUPTIMEOUT', 'lookup timed out');
        this.#silent(name, error);
        reject(error);
      });
      asked.finally(() => timer.cancel()).then(resolve, reject);
    });
  }
}

function failure(code: string, message: string): NodeJS.ErrnoException {
  return Object.assign(new Error(message), { code });
}
