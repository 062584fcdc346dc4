/** Unlock keys as text, the ring of data keys on the disk, and how both follow the cluster object. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { SeededRandom, silentLogger, systemRandom, VirtualClock } from '../../base/index.ts';
import { IdentityStore, type KeyLock } from '../../identity/index.ts';
import { Cluster } from '../../proto/index.ts';
import { createBootstrapIdentity } from '../ca/index.ts';
import { createMemoryStore, type MemoryStore } from '../store/testing.ts';
import { until } from '../testing.ts';
import { DATA_KEYS_MAX, DataKeys } from './data-keys.ts';
import { KeyKeeper } from './key-keeper.ts';
import { formatUnlockKey, lockOf, parseUnlockKey, unlockKeyEntry } from './unlock-key.ts';

const { identity } = createBootstrapIdentity({ nowMs: Date.now(), random: systemRandom });
const secret = Buffer.from(systemRandom.bytes(32));
const other = Buffer.from(systemRandom.bytes(32));

let dir: string;
let identities: IdentityStore;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'shoal-'));
  identities = new IdentityStore(dir);
  identities.save(identity);
});
afterEach(() => rmSync(dir, { recursive: true }));

function open(store = identities): DataKeys {
  const keys = new DataKeys({ identities: store, random: systemRandom, log: silentLogger });
  keys.resume();
  return keys;
}

/** The identity as the next start finds it. */
function reload(unlockKey: Uint8Array | null = null): IdentityStore {
  const fresh = new IdentityStore(dir);
  fresh.load(unlockKey);
  return fresh;
}

describe('an unlock key', () => {
  it('is shown and read', () => {
    const text = formatUnlockKey(secret);
    expect(text).toMatch(/^SWMKEY-1-[A-Za-z0-9+/]{43}$/);
    expect(Buffer.from(parseUnlockKey(text))).toEqual(Buffer.from(secret));
  });

  it.each(['', 'SWMKEY-1-', 'SWMTKN-1-abc', 'SWMKEY-1-a b', `SWMKEY-2-${'a'.repeat(43)}`])('"%s" is none', (text) => {
    expect(() => parseUnlockKey(text)).toThrow('invalid key string');
  });

  it('is found among the keys of a cluster', () => {
    const meta = { version: { index: 12 } };
    expect(lockOf(Cluster.create({ meta }))).toEqual({ secret: null, version: 12 });
    const unlock_keys = [{ subsystem: 'else', key: other }, unlockKeyEntry(secret)];
    expect(lockOf(Cluster.create({ meta, unlock_keys }))).toEqual({ secret, version: 12 });
  });
});

describe('the ring of data keys', () => {
  it('has one key from the start, and the same after a restart', () => {
    const ring = open();
    expect([ring.current().id, ring.current().secret.length, ring.oldKeys]).toEqual([1, 32, 0]);
    const again = open(reload());
    expect(again.current()).toEqual({ ...ring.current(), secret: Buffer.from(ring.current().secret) });
  });

  it('keeps old keys until nothing needs them, and never gives an id twice', () => {
    const ring = open();
    const first = ring.current();
    ring.rotate();
    ring.rotate();
    const again = open(reload());
    expect([again.current().id, again.oldKeys]).toEqual([3, 2]);
    expect(Buffer.from(again.find(1)?.secret ?? [])).toEqual(Buffer.from(first.secret));
    again.retain(new Set([0, 2, 9]));
    expect([again.find(1), again.find(2)?.id, again.current().id]).toEqual([undefined, 2, 3]);
    // The current key stays, used or not.
    again.retain(new Set());
    const last = open(reload());
    expect([last.find(2), last.current().id, last.oldKeys]).toEqual([undefined, 3, 0]);
    last.begin();
    expect([last.find(3), last.current().id, last.oldKeys]).toEqual([undefined, 4, 0]);
    expect(open(reload()).current().id).toBe(4);
  });

  it('stays bounded when the log lets go of nothing; the lock changes all the same', () => {
    const ring = open();
    for (let count = 0; count < DATA_KEYS_MAX; count++) ring.rotate({ secret, version: count + 1 });
    expect([ring.oldKeys, ring.current().id]).toEqual([DATA_KEYS_MAX - 1, DATA_KEYS_MAX]);
    ring.rotate({ secret: other, version: 99 });
    expect(ring.current().id).toBe(DATA_KEYS_MAX);
    expect(reload(secret).state).toBe('locked');
    expect(open(reload(other)).oldKeys).toBe(DATA_KEYS_MAX - 1);
  });

  it('is forgotten with its log, and refuses what it cannot read', () => {
    const ring = open();
    ring.begin();
    expect(DataKeys.hasBegun(reload())).toBe(false);
    ring.confirm();
    expect(DataKeys.hasBegun(reload())).toBe(true);
    ring.rotate();
    expect(DataKeys.hasBegun(reload())).toBe(true);
    DataKeys.forget(identities);
    expect(DataKeys.hasBegun(reload())).toBe(false);
    for (const bad of ['', '{}', '{"next":2,"keys":[{"id":1,"secret":"AAAA"}]}', '{"next":1,"keys":[]}']) {
      identities.update({ headers: { 'raft-dek': Buffer.from(bad) } });
      expect(() => open(reload())).toThrow('keys of the raft log cannot be read');
    }
  });

  it('is unchanged when the disk does not take a new key', () => {
    const ring = open();
    rmSync(join(dir, 'certificates'), { recursive: true });
    expect(() => ring.rotate()).toThrow('ENOENT');
    expect([ring.current().id, ring.oldKeys]).toEqual([1, 0]);
    identities.save(identity);
    ring.rotate();
    rmSync(join(dir, 'certificates'), { recursive: true });
    // What cannot be forgotten now is kept.
    ring.retain(new Set([2]));
    expect(ring.oldKeys).toBe(1);
  });
});

describe('the keeper', () => {
  let store: MemoryStore;
  let keys: DataKeys;
  let keeper: KeyKeeper;
  let snapshots: number;
  let locked: number;
  const clock = new VirtualClock(1_700_000_000_000);

  beforeEach(() => {
    store = createMemoryStore({ clock });
    snapshots = 0;
    locked = 0;
    keys = open();
    keeper = make(identities);
  });
  afterEach(() => keeper.stop());

  function make(where: IdentityStore): KeyKeeper {
    return new KeyKeeper({
      identities: where,
      dataKeys: keys,
      store,
      snapshotNow: async () => void snapshots++,
      onLocked: () => void locked++,
      clock,
      random: new SeededRandom(1),
      log: silentLogger,
    });
  }

  /** The cluster wants this key from now on; null is autolock off. */
  async function want(key: Uint8Array | null): Promise<void> {
    const unlock_keys = key === null ? [] : [unlockKeyEntry(key)];
    await store.update((tx) => {
      const stored = tx.get('cluster', 'c');
      if (stored === undefined) tx.create('cluster', Cluster.create({ id: 'c', unlock_keys }));
      else tx.update('cluster', Cluster.create({ ...Cluster.clone(stored), unlock_keys }));
    });
  }

  const inForce = (key: Uint8Array | null): Promise<void> =>
    until('the lock is in force', () => {
      const { secret: now } = identities.lock;
      return now === null || key === null ? now === key : Buffer.compare(now, key) === 0;
    });

  it('locks when autolock is switched on, with a new data key; again when the key changes; and unlocks', async () => {
    keeper.start();
    await want(null);
    expect([identities.lock.secret, keys.current().id]).toEqual([null, 1]);
    await want(secret);
    await inForce(secret);
    expect([locked, snapshots, keys.current().id, keys.oldKeys]).toEqual([1, 1, 2, 1]);
    expect(reload().state).toBe('locked');
    await want(other);
    await inForce(other);
    expect([locked, snapshots, keys.current().id]).toEqual([1, 2, 3]);
    expect([reload(secret).state, reload(other).state]).toEqual(['locked', 'open']);
    await want(null);
    await inForce(null);
    expect([reload().state, keys.current().id, snapshots]).toEqual(['open', 3, 2]);
  });

  it('takes what is in the store already, and leaves a lock alone that other changes of the cluster touch', async () => {
    await want(secret);
    keeper.start();
    await inForce(secret);
    const { version } = identities.lock;
    await want(secret);
    await want(secret);
    expect([identities.lock.version, keys.current().id]).toEqual([version, 2]);
  });

  it('believes no past state of a log that is replayed', async () => {
    const lock: KeyLock = { secret, version: 50 };
    identities.update({ lock });
    keeper.start();
    await want(null);
    await want(other);
    await want(null);
    await store.seed({ config: [] });
    expect([identities.lock, keys.current().id]).toEqual([lock, 1]);
  });

  it('takes the snapshot that a restart came in between of; more while old keys are needed, but not for ever', async () => {
    keys.rotate();
    keeper.start();
    for (let count = 1; count <= 5; count++) {
      await until(`snapshot ${count}`, () => snapshots === count && clock.nextTimerAt() !== undefined);
      clock.advance(1_000);
    }
    await store.seed({ config: [] });
    expect([snapshots, clock.nextTimerAt()]).toEqual([5, undefined]);
    await want(secret);
    await until('another', () => snapshots === 6);
    keys.retain(new Set());
    clock.advance(1_000);
    await store.seed({ config: [] });
    expect([snapshots, clock.nextTimerAt()]).toEqual([6, undefined]);
  });

  it('tries again when the disk takes nothing', async () => {
    keeper.start();
    await want(null);
    rmSync(join(dir, 'certificates'), { recursive: true });
    await want(secret);
    await until('the first try failed', () => clock.nextTimerAt() !== undefined);
    expect(identities.lock.secret).toBeNull();
    identities.save(identity);
    clock.advance(60_000);
    await inForce(secret);
    expect(reload(secret).state).toBe('open');
  });
});
