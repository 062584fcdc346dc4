import { errorMessage, isShoalError, ShoalError, type Clock, type Logger } from '../base/index.ts';
import type { Image, Images, RegistryAuth } from '../engine/index.ts';

/** How long the outcome of a pull stands for the tasks that follow, ms. */
const PULL_FRESH_MS = 30_000;
/** The same for a failure that left a task without an image: shorter than any restart delay in use, ms. */
const FAILURE_FRESH_MS = 2_000;
/** Outcomes remembered at the most. */
const PULLS_REMEMBERED = 256;

/** Credentials from a task's pull options: base64url JSON of the client's header. */
export function decodeAuth(header: string): RegistryAuth | undefined {
  if (header === '') return undefined;
  try {
    const json = JSON.parse(Buffer.from(header, 'base64url').toString('utf8')) as Record<string, string>;
    const auth: RegistryAuth = {};
    if (json['username']) auth.username = json['username'];
    if (json['password']) auth.password = json['password'];
    if (json['identitytoken']) auth.identityToken = json['identitytoken'];
    if (json['registrytoken']) auth.registryToken = json['registrytoken'];
    return Object.keys(auth).length === 0 ? undefined : auth;
  } catch {
    throw new ShoalError('InvalidArgument', 'the registry credentials of the service cannot be read: create it again');
  }
}

/** A pull under way or done; `freshUntilMs` on the monotonic clock. */
interface Pull {
  outcome: Promise<void>;
  freshUntilMs: number;
}

/**
 * Images for tasks. As in Swarm a pull is tried for every task unless the reference names a digest that is here, and a
 * failed pull is fatal only when there is no local copy; but tasks that start together share one try.
 */
export class TaskImages {
  readonly #images: Images;
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #pulls = new Map<string, Pull>();

  constructor(options: { images: Images; clock: Clock; log: Logger }) {
    this.#images = options.images;
    this.#clock = options.clock;
    this.#log = options.log;
  }

  /** @throws ShoalError when the image is neither here nor to be had. */
  async ensure(reference: string, auth: string, signal: AbortSignal): Promise<void> {
    const local = this.#local(reference);
    if (local !== undefined && (reference.includes('@sha256:') || reference.startsWith('sha256:'))) return;
    try {
      await this.#pull(reference, auth, signal);
    } catch (error) {
      if (this.#local(reference) === undefined) {
        throw new ShoalError('NotFound', `No such image: ${reference} (${errorMessage(error)})`, { cause: error });
      }
      this.#log.debug('pull failed, the local copy is used', { image: reference, error });
    }
  }

  #local(reference: string): Image | undefined {
    try {
      return this.#images.get(reference);
    } catch (error) {
      if (isShoalError(error, 'NotFound')) return undefined;
      throw error;
    }
  }

  #pull(reference: string, auth: string, signal: AbortSignal): Promise<void> {
    const key = `${auth} ${reference}`;
    const known = this.#pulls.get(key);
    if (known !== undefined && this.#clock.monotonic() < known.freshUntilMs) return known.outcome;
    const credentials = decodeAuth(auth);
    const options = { ...(credentials === undefined ? {} : { auth: credentials }), signal };
    const outcome = this.#images.pull(reference, options).then(() => undefined);
    const pull: Pull = { outcome, freshUntilMs: Number.POSITIVE_INFINITY };
    this.#pulls.delete(key);
    this.#pulls.set(key, pull);
    const standsFor = (ms: number): void => {
      pull.freshUntilMs = this.#clock.monotonic() + ms;
    };
    outcome.then(
      () => standsFor(PULL_FRESH_MS),
      () => {
        // A try that one task gave up must not count for the others.
        if (signal.aborted) standsFor(0);
        else standsFor(this.#local(reference) === undefined ? FAILURE_FRESH_MS : PULL_FRESH_MS);
      },
    );
    const oldest = this.#pulls.keys().next().value;
    if (this.#pulls.size > PULLS_REMEMBERED && oldest !== undefined) this.#pulls.delete(oldest);
    return outcome;
  }
}
