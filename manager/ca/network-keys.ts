import type { Clock, Logger, Random } from '../../base/index.ts';
import { Cluster, EncryptionKey } from '../../proto/index.ts';
import type { LeaderDuty, Store } from '../store/types.ts';
import { clusterOf } from './bootstrap.ts';

/** Time after which agents get a new key of each kind, ms (swarmkit.md §3.12). */
const ROTATE_AFTER_MS = 12 * 3_600_000;
const PASS_MS = 60_000;
const KEY_BYTES = 16;
/** Lamport times from here on are seconds since 1970; those of a new cluster begin at chance below 65,536. */
const SECONDS_FROM = 1_000_000_000;

/** When the keys were last changed, ms: the clock that numbers them tells it, so a change of leader forgets nothing. */
function rotatedMs(cluster: Cluster): number {
  const clock = cluster.encryption_key_lamport_clock;
  if (clock >= SECONDS_FROM) return clock * 1000;
  const created = cluster.meta?.created_at;
  return created ? created.seconds * 1000 : 0;
}

/** Whether the keys of agents' networks are due for a change. */
export function networkKeysAreDue(cluster: Cluster, nowMs: number): boolean {
  return cluster.network_bootstrap_keys.length > 0 && nowMs - rotatedMs(cluster) >= ROTATE_AFTER_MS;
}

/**
 * Of each kind a new key comes and the oldest goes: one change per kind, as stock agents demand. Agents use the one before
 * the newest, so a key is known everywhere long before it counts.
 */
export function rotateNetworkKeys(cluster: Cluster, nowMs: number, random: Random): Cluster {
  const next = Cluster.clone(cluster);
  const kinds = [...new Set(cluster.network_bootstrap_keys.map((key) => key.subsystem))];
  let clock = Math.max(cluster.encryption_key_lamport_clock, Math.floor(nowMs / 1000) - kinds.length);
  next.network_bootstrap_keys = kinds.flatMap((subsystem) => {
    clock++;
    const fresh = EncryptionKey.create({ subsystem, key: random.bytes(KEY_BYTES), lamport_time: clock });
    const known = cluster.network_bootstrap_keys.filter((key) => key.subsystem === subsystem);
    const sorted = known.sort((a, b) => a.lamport_time - b.lamport_time);
    return [...sorted.slice(1), fresh];
  });
  next.encryption_key_lamport_clock = clock;
  return next;
}

export interface NetworkKeyDeps {
  store: Store;
  clock: Clock;
  random: Random;
  log: Logger;
  /** Tells all agents what has changed. */
  onRotated: () => void;
}

/** The leader's duty that renews the keys of agents' networks. */
export function createNetworkKeyRotation(deps: NetworkKeyDeps): LeaderDuty {
  const { store, clock, random, log } = deps;
  const pass = async (): Promise<void> => {
    const nowMs = clock.now();
    const known = clusterOf(store.view());
    if (known === undefined || !networkKeysAreDue(known, nowMs)) return;
    await store.update((tx) => {
      const cluster = clusterOf(tx);
      if (cluster === undefined || !networkKeysAreDue(cluster, nowMs)) return;
      tx.update('cluster', rotateNetworkKeys(cluster, nowMs, random));
    });
    log.info('the keys of agents’ networks were changed');
    deps.onRotated();
  };
  return {
    name: 'network-keys',
    async run(signal) {
      while (!signal.aborted) {
        await pass().catch((error: unknown) => {
          if (!signal.aborted) log.warn('the keys of networks could not be changed; it is tried again', { error });
        });
        await clock.sleep(PASS_MS, signal).catch(() => undefined);
      }
    },
  };
}
