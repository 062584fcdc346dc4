import {
  backoffDelayMs,
  errorMessage,
  TaskGroup,
  type Clock,
  type Logger,
  type Random,
  type Subscription,
} from '../../base/index.ts';
import type { IdentityStore, KeyLock } from '../../identity/index.ts';
import { clusterOf } from '../ca/index.ts';
import type { Commit, Store } from '../store/types.ts';
import type { DataKeys } from './data-keys.ts';
import { lockOf } from './unlock-key.ts';

const RETRY_BACKOFF = { baseMs: 200, capMs: 5_000 };
/** Snapshots taken until no old data key is needed: entries under way may still reach a segment of the old key. */
const FORGET_ATTEMPTS = 5;
/** Pause before each but the first, ms. */
const FORGET_PAUSE_MS = 1_000;

export interface KeyKeeperOptions {
  identities: IdentityStore;
  dataKeys: DataKeys;
  store: Pick<Store, 'view' | 'watch'>;
  /** Takes a snapshot of the raft log, so that what was written with old keys goes. */
  snapshotNow: () => Promise<void>;
  /** The secrets of this node were in clear until now: its TLS key should be replaced. */
  onLocked: () => void;
  clock: Clock;
  random: Random;
  log: Logger;
}

const sameSecret = (left: KeyLock, right: KeyLock): boolean =>
  left.secret === null || right.secret === null
    ? left.secret === right.secret
    : Buffer.compare(left.secret, right.secret) === 0;

/**
 * Keeps this manager's secrets under the lock that the cluster object asks for. A new unlock key comes with a new data key:
 * what is written from then on cannot be read by who copied the old ones.
 */
export class KeyKeeper {
  readonly #options: KeyKeeperOptions;
  readonly #group: TaskGroup;
  /** Ends the forgetting of old keys that an earlier rotation began. */
  #forgetting = new AbortController();

  constructor(options: KeyKeeperOptions) {
    this.#options = options;
    this.#group = new TaskGroup(options.log);
  }

  start(): void {
    this.#group.start('unlock key', (signal) => this.#run(signal));
  }

  async stop(): Promise<void> {
    await this.#group.stop();
  }

  async #run(signal: AbortSignal): Promise<void> {
    // Keys of a rotation that a restart interrupted.
    this.#forgetOld();
    while (!signal.aborted) {
      const commits = this.#options.store.watch();
      const close = (): void => commits.close();
      signal.addEventListener('abort', close, { once: true });
      try {
        await this.#follow(commits, signal);
      } finally {
        signal.removeEventListener('abort', close);
        commits.close();
      }
      // A closed store ends its watches at once; an overflowed one is read anew.
      if (!commits.overflowed) return;
    }
  }

  async #follow(commits: Subscription<Commit>, signal: AbortSignal): Promise<void> {
    await this.#adopt(signal);
    for await (const commit of commits) {
      if (signal.aborted) return;
      if (commit.reset || commit.changes.some((change) => change.kind === 'cluster')) await this.#adopt(signal);
    }
  }

  /** Brings the lock to what the store says, again and again while the disk does not let it. */
  async #adopt(signal: AbortSignal): Promise<void> {
    const { store, clock, random, log } = this.#options;
    for (let attempt = 0; !signal.aborted; attempt++) {
      const cluster = clusterOf(store.view());
      if (cluster === undefined) return;
      try {
        if (this.#apply(lockOf(cluster))) this.#forgetOld();
        return;
      } catch (error) {
        log.error('the lock of this manager could not be changed; trying again', { error: errorMessage(error) });
        await clock.sleep(backoffDelayMs(attempt, RETRY_BACKOFF, random), signal).catch(() => undefined);
      }
    }
  }

  /** @returns whether there is a new data key */
  #apply(wanted: KeyLock): boolean {
    const { identities, dataKeys, log, onLocked } = this.#options;
    const { lock } = identities;
    // A log that is replayed shows the past: only what is newer than the lock in force counts.
    if (wanted.version <= lock.version || sameSecret(lock, wanted)) return false;
    if (wanted.secret === null) {
      identities.update({ lock: wanted });
      log.info('autolock is off: this manager starts without a key from now on');
      return false;
    }
    dataKeys.rotate(wanted);
    log.info('this manager is locked by a new key from its next start on', { version: wanted.version });
    if (lock.secret === null) onLocked();
    return true;
  }

  /** Has the log written anew under the newest key, so that the ring can drop the others. */
  #forgetOld(): void {
    const { dataKeys, snapshotNow, clock, log } = this.#options;
    this.#forgetting.abort();
    this.#forgetting = new AbortController();
    const { signal: replaced } = this.#forgetting;
    this.#group.start('old data keys', async (signal) => {
      const either = AbortSignal.any([signal, replaced]);
      for (let attempt = 0; attempt < FORGET_ATTEMPTS && dataKeys.oldKeys > 0 && !either.aborted; attempt++) {
        try {
          await snapshotNow();
        } catch (error) {
          log.warn('no snapshot after a change of keys', { error: errorMessage(error) });
        }
        await clock.sleep(FORGET_PAUSE_MS, either).catch(() => undefined);
      }
    });
  }
}
