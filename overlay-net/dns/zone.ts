import type { NetworkTable } from '../../proto/index.ts';
import { canonicalIp } from '../ip.ts';

/** Names of one network. Keys are lower case. */
export interface Zone {
  network: string;
  /** Addresses of a name, of both families; an empty list is a name that is known and has none now. */
  addresses: Map<string, string[]>;
  names: Map<string, string>;
}

export function emptyZone(network: string): Zone {
  return { network: network.toLowerCase(), addresses: new Map(), names: new Map() };
}

/** Adds an address to a name. */
export function addName(zone: Zone, name: string, address: string): void {
  if (name === '') return;
  const key = name.toLowerCase();
  const list = zone.addresses.get(key);
  if (list === undefined) zone.addresses.set(key, [address]);
  else if (!list.includes(address)) list.push(address);
}

/** The zone of an overlay: services by virtual address (or by tasks), `tasks.` names, tasks, reverse names. */
export function overlayZone(name: string, table: NetworkTable): Zone {
  const zone = emptyZone(name);
  const serving = new Map<string, string[]>();
  for (const endpoint of table.endpoints) {
    for (const ip of [canonicalIp(endpoint.address), canonicalIp(endpoint.address6)]) {
      if (ip === '') continue;
      addName(zone, endpoint.task_name, ip);
      if (endpoint.serving) {
        for (const alias of endpoint.aliases) addName(zone, alias, ip);
        const list = serving.get(endpoint.service_id);
        if (list === undefined) serving.set(endpoint.service_id, [ip]);
        else list.push(ip);
      }
      if (endpoint.task_name !== '') zone.names.set(ip, `${endpoint.task_name}.${zone.network}`);
    }
  }
  for (const service of table.services) {
    const tasks = serving.get(service.service_id) ?? [];
    const virtual = [canonicalIp(service.vip), canonicalIp(service.vip6)].filter((vip) => vip !== '');
    for (const known of [service.name, ...service.aliases]) {
      if (known === '') continue;
      const key = known.toLowerCase();
      // A service's name and aliases mean the service, whatever its tasks call themselves.
      zone.addresses.set(key, virtual.length === 0 ? tasks : virtual);
      zone.addresses.set(`tasks.${key}`, tasks);
    }
    for (const vip of virtual) zone.names.set(vip, `${service.name}.${zone.network}`);
  }
  return zone;
}

/** Addresses of a name on some networks, the first network that knows it; undefined when none does. */
export function resolveName(zones: readonly Zone[], name: string): string[] | undefined {
  for (const zone of zones) {
    const plain = zone.addresses.get(name);
    if (plain !== undefined) return plain;
    if (name.endsWith(`.${zone.network}`)) {
      const inner = zone.addresses.get(name.slice(0, -zone.network.length - 1));
      if (inner !== undefined) return inner;
    }
  }
  return undefined;
}

export function resolveAddress(zones: readonly Zone[], address: string): string | undefined {
  for (const zone of zones) {
    const name = zone.names.get(address);
    if (name !== undefined) return name;
  }
  return undefined;
}
