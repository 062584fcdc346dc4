import { expect, it } from 'vitest';
import { systemRandom } from '../../base/index.ts';
import { Cluster, EncryptionKey } from '../../proto/index.ts';
import { networkKeysAreDue, rotateNetworkKeys } from './network-keys.ts';

const HOUR_MS = 3_600_000;
const BORN_MS = 1_800_000_000_000;

function cluster(): Cluster {
  const keys = ['networking:gossip', 'networking:ipsec'].flatMap((subsystem, kind) =>
    [1, 2, 3].map((n) =>
      EncryptionKey.create({ subsystem, key: systemRandom.bytes(16), lamport_time: 100 + kind * 3 + n }),
    ),
  );
  return Cluster.create({
    id: 'c',
    meta: { created_at: { seconds: BORN_MS / 1000, nanos: 0 } },
    network_bootstrap_keys: keys,
    encryption_key_lamport_clock: 106,
  });
}

const hex = (object: Cluster): string[] =>
  object.network_bootstrap_keys.map(({ key }) => Buffer.from(key).toString('hex'));

it('are due after 12 h, counted from what is stored', () => {
  let now = cluster();
  expect(networkKeysAreDue(now, BORN_MS + 11 * HOUR_MS)).toBe(false);
  expect(networkKeysAreDue(now, BORN_MS + 12 * HOUR_MS)).toBe(true);
  now = rotateNetworkKeys(now, BORN_MS + 12 * HOUR_MS, systemRandom);
  expect(networkKeysAreDue(now, BORN_MS + 23 * HOUR_MS)).toBe(false);
  expect(networkKeysAreDue(now, BORN_MS + 24 * HOUR_MS)).toBe(true);
  // A cluster without keys (restored, or of an odd kind) is left alone.
  expect(networkKeysAreDue(Cluster.create({ id: 'c' }), BORN_MS)).toBe(false);
});

it('change by one of each kind, and no Lamport time comes twice', () => {
  const seen = new Map<number, string>();
  let now = cluster();
  for (let turn = 1; turn <= 5; turn++) {
    const next = rotateNetworkKeys(now, BORN_MS + turn * 12 * HOUR_MS, systemRandom);
    expect(next.network_bootstrap_keys.map(({ subsystem }) => subsystem)).toEqual(
      now.network_bootstrap_keys.map(({ subsystem }) => subsystem),
    );
    expect(hex(next).filter((key) => !hex(now).includes(key))).toHaveLength(2);
    for (const { key, lamport_time: time } of next.network_bootstrap_keys) {
      const text = Buffer.from(key).toString('hex');
      expect(seen.get(time) ?? text).toBe(text);
      seen.set(time, text);
    }
    expect(next.encryption_key_lamport_clock).toBe(Math.max(...next.network_bootstrap_keys.map((k) => k.lamport_time)));
    now = next;
  }
  // A clock set back still leads forward.
  expect(rotateNetworkKeys(now, 0, systemRandom).encryption_key_lamport_clock).toBe(
    now.encryption_key_lamport_clock + 2,
  );
});
