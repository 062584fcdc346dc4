import {
  backoffDelayMs,
  errorMessage,
  isShoalError,
  unavailable,
  type Clock,
  type Logger,
  type Random,
} from '../base/index.ts';
import {
  fetchLock,
  renewalDelayMs,
  renewCertificate,
  type IdentityStore,
  type NodeIdentity,
} from '../identity/index.ts';
import { NO_DATA_KEYS } from '../manager/index.ts';
import type { KnownManager } from './swarm-files.ts';

const BACKOFF = { baseMs: 500, capMs: 60_000 };
/** Refusals in a row after which the managers' word that this node is unknown is believed. */
const EXPELLED_AFTER = 3;
/** Longest single wait, ms: timers of Node hold 31 bits of milliseconds. */
const WAIT_MAX_MS = 2 ** 30;

export interface CertificateRenewalOptions {
  identities: IdentityStore;
  clock: Clock;
  random: Random;
  log: Logger;
  /** The certificate in use. */
  identity: () => NodeIdentity;
  managers: () => readonly KnownManager[];
  /** A new certificate is stored; `remoteAddr` is the manager that gave it. */
  onRenewed: (renewed: NodeIdentity, remoteAddr: string, signal: AbortSignal) => void;
  /** The managers no longer know this node. */
  onExpelled: () => void;
}

/** Renews a node's certificate between 50 and 80 % of its life, and at once when it is asked to. */
export class CertificateRenewal {
  readonly #options: CertificateRenewalOptions;
  #due = false;
  #wake: (() => void) | undefined;

  constructor(options: CertificateRenewalOptions) {
    this.#options = options;
  }

  /** The role or the state of the certificate asks for a new one now. */
  ask(): void {
    this.#due = true;
    this.#wake?.();
  }

  async run(signal: AbortSignal): Promise<void> {
    const { clock, random, log, identity, onExpelled } = this.#options;
    let failures = 0;
    let refusals = 0;
    while (!signal.aborted) {
      if (!this.#due) await this.#untilDue(renewalDelayMs(identity(), clock.now(), random), signal);
      if (signal.aborted) return;
      this.#due = false;
      try {
        await this.#renew(signal);
        failures = 0;
        refusals = 0;
      } catch (error) {
        if (signal.aborted) return;
        log.warn('the certificate could not be renewed; trying again', { error: errorMessage(error) });
        refusals = isShoalError(error, 'PermissionDenied', 'NotFound') ? refusals + 1 : 0;
        if (refusals >= EXPELLED_AFTER) {
          onExpelled();
          return;
        }
        this.#due = true;
        await clock.sleep(backoffDelayMs(failures++, BACKOFF, random), signal).catch(() => undefined);
      }
    }
  }

  async #untilDue(delayMs: number, signal: AbortSignal): Promise<void> {
    const wait = new AbortController();
    this.#wake = () => wait.abort(new Error('renew now'));
    const both = AbortSignal.any([signal, wait.signal]);
    try {
      for (let left = delayMs; left > 0 && !both.aborted; left -= WAIT_MAX_MS) {
        await this.#options.clock.sleep(Math.min(left, WAIT_MAX_MS), both);
      }
    } catch {
      // Woken early: the caller looks why.
    } finally {
      this.#wake = undefined;
    }
  }

  async #renew(signal: AbortSignal): Promise<void> {
    const { clock, random, log, identities, identity, managers, onRenewed } = this.#options;
    const known = managers();
    const remoteAddr = known[random.int(Math.max(1, known.length))]?.addr;
    if (remoteAddr === undefined) throw unavailable('no manager is known');
    const request = { identity: identity(), remoteAddr, clock, random, log, signal };
    const renewed = await renewCertificate(request);
    const { lock } = identities;
    // Only managers are locked: a promoted one must not lie in clear, a demoted one has nobody who would unlock it.
    const free = { lock: { ...lock, secret: null }, headers: NO_DATA_KEYS };
    if (renewed.role === 'worker') identities.save(renewed, free);
    else if (request.identity.role === 'manager') identities.save(renewed);
    else identities.save(renewed, { lock: await fetchLock({ ...request, identity: renewed }) });
    log.info('certificate renewed', { role: renewed.role, expires: new Date(renewed.expiryMs).toISOString() });
    onRenewed(renewed, remoteAddr, signal);
  }
}
