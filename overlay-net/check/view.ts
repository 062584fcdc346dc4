/** What a check needs to know of one network on this host. */
import type { Clock, Random } from '../../base/index.ts';
import type { NetworkEndpoint } from '../../proto/index.ts';
import { bareIp } from '../ip4.ts';
import type { Kernel } from '../kernel/index.ts';
import type { Overlay, Overlays } from '../overlays.ts';
import type { Leg, SandboxRecord } from '../store.ts';

export interface CheckOptions {
  kernel: Kernel;
  overlays: Overlays;
  sandboxes: ReadonlyMap<string, SandboxRecord>;
  clock: Clock;
  random: Random;
}

/** A task of this host on the network. */
export interface LocalTask {
  name: string;
  record: SandboxRecord;
  leg: Leg;
}

/** Words for a task's place: its name and address. */
export function placeOf(endpoint: NetworkEndpoint, address = bareIp(endpoint.address)): string {
  return `${endpoint.task_name || endpoint.task_id} (${address})`;
}

/** This host's running containers on a network, in the order of their names. */
export function localTasks(overlay: Overlay, sandboxes: ReadonlyMap<string, SandboxRecord>): LocalTask[] {
  const names = new Map(overlay.table.endpoints.map((one) => [bareIp(one.address), one.task_name]));
  const found: LocalTask[] = [];
  for (const record of sandboxes.values()) {
    if (record.drained) continue;
    for (const leg of record.legs) {
      if (leg.networkId !== overlay.facts.id) continue;
      const name = names.get(leg.address) || record.spec.names[0] || record.spec.id.slice(0, 12);
      found.push({ name, record, leg });
    }
  }
  return found.sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** Addresses without mask of an endpoint, IPv4 first. */
export function addressesOf(endpoint: NetworkEndpoint): string[] {
  return [endpoint.address, endpoint.address6].filter((one) => one !== '').map(bareIp);
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[sorted.length >> 1] ?? 0;
}
