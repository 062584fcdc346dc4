import { errorMessage, must, ShoalError, type Logger, type Random } from '../../base/index.ts';
import type { IdentityStore, KeyLock } from '../../identity/index.ts';

/** Bytes of a data key (AES-256-GCM). */
const DATA_KEY_BYTES = 32;
/** Keys kept at the most; more rotations than that wait until the log has let go of an old one. */
export const DATA_KEYS_MAX = 64;
/** Header of the node's key file that holds them. */
const HEADER = 'raft-dek';

/** A change of the key file that drops the keys of a log. */
export const NO_DATA_KEYS = { [HEADER]: null } as const;

/** A data key (DEK): what the raft log and its snapshots are encrypted with on the disk. */
export interface DataKey {
  /** 1 to 2^32 - 1, never used again for another key of the same log. */
  id: number;
  secret: Uint8Array;
}

/** As stored: ids and secrets (base64), oldest first. */
interface StoredKeys {
  /** Id of the next key. */
  next: number;
  /** The log that the keys are for exists, or has existed. */
  begun: boolean;
  keys: { id: number; secret: string }[];
}

interface Keys {
  next: number;
  begun: boolean;
  /** Oldest first; the last one is current. */
  list: readonly DataKey[];
}

function decode(bytes: Uint8Array): Keys {
  try {
    const { next, begun, keys } = JSON.parse(Buffer.from(bytes).toString('utf8')) as StoredKeys;
    const list = keys.map(({ id, secret }) => ({ id, secret: Buffer.from(secret, 'base64') }));
    const good = list.every(({ id, secret }) => id > 0 && id < next && secret.length === DATA_KEY_BYTES);
    if (Number.isSafeInteger(next) && list.length > 0 && good) return { next, begun: begun === true, list };
  } catch {
    // Said below.
  }
  throw new ShoalError(
    'DataLoss',
    'the keys of the raft log cannot be read; remove the node from the cluster and join it again',
  );
}

function encode({ next, begun, list }: Keys): Uint8Array {
  const keys = list.map(({ id, secret }) => ({ id, secret: Buffer.from(secret).toString('base64') }));
  return Buffer.from(JSON.stringify({ next, begun, keys } satisfies StoredKeys));
}

/**
 * The data keys of a manager, the key ring of its raft log (raft/wal/keys.ts). They lie in a header of the node's key file,
 * as SwarmKit keeps them, so they are in clear beside the log without autolock, and under the unlock key with it. Every
 * change is durable before it takes effect.
 */
export class DataKeys {
  readonly #identities: IdentityStore;
  readonly #random: Random;
  readonly #log: Logger;
  #keys: Keys;

  /** @throws ShoalError DataLoss when the stored keys cannot be read */
  constructor(options: { identities: IdentityStore; random: Random; log: Logger }) {
    this.#identities = options.identities;
    this.#random = options.random;
    this.#log = options.log;
    const stored = this.#identities.header(HEADER);
    this.#keys = stored === undefined ? { next: 1, begun: false, list: [] } : decode(stored);
  }

  /** Whether a node has begun a log that it has not given up since. */
  static hasBegun(identities: IdentityStore): boolean {
    const stored = identities.header(HEADER);
    return stored !== undefined && decode(stored).begun;
  }

  /** Drops the keys of a log that was deleted. */
  static forget(identities: IdentityStore): void {
    if (identities.header(HEADER) !== undefined) identities.update({ headers: NO_DATA_KEYS });
  }

  /** Key for everything written from now on. To be called after `begin` or `resume`. */
  current(): DataKey {
    return must(this.#keys.list.at(-1), 'current data key');
  }

  find(id: number): DataKey | undefined {
    return this.#keys.list.find((key) => key.id === id);
  }

  /** Old keys that something on the disk may still need. */
  get oldKeys(): number {
    return Math.max(0, this.#keys.list.length - 1);
  }

  /** Nothing on the disk needs any key but these: the others are forgotten. A fault of the disk only delays that. */
  retain(ids: ReadonlySet<number>): void {
    const { id: currentId } = this.current();
    const list = this.#keys.list.filter(({ id }) => id === currentId || ids.has(id));
    const dropped = this.#keys.list.length - list.length;
    if (dropped === 0) return;
    try {
      this.#store({ ...this.#keys, list });
      this.#log.info('old keys of the raft log are forgotten', { dropped });
    } catch (error) {
      this.#log.warn('old keys of the raft log could not be forgotten yet', { error: errorMessage(error) });
    }
  }

  /** Goes on with a log; one of a version that did not encrypt gets its first key. */
  resume(): void {
    if (this.#keys.list.length === 0) this.#add();
  }

  /** Prepares a new log: all keys of the former one are forgotten. */
  begin(): void {
    const { next } = this.#keys;
    this.#add({}, { next, begun: false, list: [] });
  }

  /** The log exists: what it promises from now on must not be forgotten. */
  confirm(): void {
    if (!this.#keys.begun) this.#store({ ...this.#keys, begun: true });
  }

  /**
   * From now on another key is current; the old ones stay until `retain`. With `lock` that is changed in the same durable
   * step.
   * @throws errors of the file system; then nothing has changed.
   */
  rotate(lock?: KeyLock): void {
    const change = lock === undefined ? {} : { lock };
    if (this.#keys.list.length < DATA_KEYS_MAX) {
      this.#add(change);
      return;
    }
    this.#log.warn('the key of the raft log is not changed: too many old ones are in use', { keys: DATA_KEYS_MAX });
    this.#identities.update(change);
  }

  #add(change: { lock?: KeyLock } = {}, { next, begun, list }: Keys = this.#keys): void {
    const key = { id: next, secret: this.#random.bytes(DATA_KEY_BYTES) };
    this.#store({ next: next + 1, begun, list: [...list, key] }, change);
  }

  #store(keys: Keys, change: { lock?: KeyLock } = {}): void {
    this.#identities.update({ ...change, headers: { [HEADER]: encode(keys) } });
    this.#keys = keys;
  }
}
