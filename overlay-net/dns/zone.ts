import {
  PortConfig_Protocol,
  type NetworkEndpoint,
  type NetworkService,
  type NetworkTable,
} from '../../proto/index.ts';
import { canonicalIp } from '../ip.ts';

/** A port of a service as SRV records name it. */
export interface ServicePort {
  /** Lower case; empty when the port has no name. */
  name: string;
  protocol: string;
  port: number;
}

/** A service as SRV records name it. */
export interface ServiceFacts {
  /** Its name with the network's. */
  target: string;
  /** It is reached by a virtual address, not by those of its tasks. */
  virtual: boolean;
  ports: readonly ServicePort[];
  /** Tasks that serve. */
  tasks: readonly { target: string; weight: number }[];
}

/** Names of one network. Keys are lower case. */
export interface Zone {
  network: string;
  /** Addresses of a name, of both families; an empty list is a name that is known and has none now. */
  addresses: Map<string, string[]>;
  /** Names of addresses. */
  names: Map<string, string>;
  /** By name and alias. */
  services: Map<string, ServiceFacts>;
}

export function emptyZone(network: string): Zone {
  return { network: network.toLowerCase(), addresses: new Map(), names: new Map(), services: new Map() };
}

/** Adds an address to a name. */
export function addName(zone: Zone, name: string, address: string): void {
  if (name === '') return;
  const key = name.toLowerCase();
  const list = zone.addresses.get(key);
  if (list === undefined) zone.addresses.set(key, [address]);
  else if (!list.includes(address)) list.push(address);
}

/** Makes a name known without giving it an address. */
function knowName(zone: Zone, name: string): void {
  const key = name.toLowerCase();
  if (name !== '' && !zone.addresses.has(key)) zone.addresses.set(key, []);
}

/*
 * Tables go to the resolvers' thread as text, a line for each endpoint and service: to copy one long string costs the
 * main thread a third of what copying as many objects does.
 */
const FIELD = '\t';
const LINE = '\n';
const ITEM = ' ';

function endpointLine(one: NetworkEndpoint): string {
  const serving = one.serving ? '1' : '0';
  const names = `E${FIELD}${one.task_name}${FIELD}${one.service_id}${FIELD}${one.aliases.join(ITEM)}`;
  return `${names}${FIELD}${serving}${FIELD}${one.weight}${FIELD}${one.address}${FIELD}${one.address6}${LINE}`;
}

const PROTOCOLS: Readonly<Record<number, string>> = {
  [PortConfig_Protocol.TCP]: 'tcp',
  [PortConfig_Protocol.UDP]: 'udp',
  [PortConfig_Protocol.SCTP]: 'sctp',
};

function serviceLine(one: NetworkService): string {
  const ports = one.ports.map((port) => `${port.name}/${PROTOCOLS[port.protocol] ?? ''}/${port.target_port}`);
  const names = `S${FIELD}${one.name}${FIELD}${one.service_id}${FIELD}${one.aliases.join(ITEM)}`;
  return `${names}${FIELD}${one.vip}${FIELD}${one.vip6}${FIELD}${ports.join(ITEM)}${LINE}`;
}

/** The names of a table as text for `ZoneBuilder`, in pieces of at most `linesMax` lines. */
export function* zoneText(table: NetworkTable, linesMax: number): Generator<string> {
  let text = '';
  let lines = 0;
  for (const list of [table.endpoints.values(), table.services.values()]) {
    for (const one of list) {
      text += 'task_id' in one ? endpointLine(one) : serviceLine(one);
      if (++lines % linesMax === 0) {
        yield text;
        text = '';
      }
    }
  }
  if (text !== '') yield text;
}

interface Serving {
  addresses: string[];
  tasks: { target: string; weight: number }[];
}

/** Makes the zone of an overlay: services by virtual address (or by tasks), `tasks.` names, tasks, reverse names. */
export class ZoneBuilder {
  /** Whole when all pieces of the text were read. */
  readonly zone: Zone;
  readonly #serving = new Map<string, Serving>();

  constructor(network: string) {
    this.zone = emptyZone(network);
  }

  /** Takes the next piece of `zoneText`. Endpoints stand before services, whose names win over theirs. */
  read(text: string): void {
    for (const line of text.split(LINE)) {
      if (line.startsWith('E')) readEndpoint(this.zone, this.#serving, line.split(FIELD));
      else if (line.startsWith('S')) readService(this.zone, this.#serving, line.split(FIELD));
    }
  }
}

/** What resolvers know of a table. */
export function overlayZone(network: string, table: NetworkTable): Zone {
  const builder = new ZoneBuilder(network);
  for (const text of zoneText(table, Infinity)) builder.read(text);
  return builder.zone;
}

function items(field: string): string[] {
  return field === '' ? [] : field.split(ITEM);
}

function readEndpoint(zone: Zone, serving: Map<string, Serving>, fields: readonly string[]): void {
  const [, task = '', service = '', aliases = '', serves, weight, ...addresses] = fields;
  // A task that does not serve (yet, or any more) is known, so that nobody else is asked for it.
  knowName(zone, task);
  const target = `${task.toLowerCase()}.${zone.network}`;
  const found: string[] = [];
  for (const address of addresses) {
    const ip = canonicalIp(address);
    if (ip === '') continue;
    found.push(ip);
    if (task !== '') zone.names.set(ip, target);
  }
  if (serves !== '1' || found.length === 0) return;
  for (const ip of found) for (const name of [task, ...items(aliases)]) addName(zone, name, ip);
  let group = serving.get(service);
  if (group === undefined) serving.set(service, (group = { addresses: [], tasks: [] }));
  group.addresses.push(...found);
  if (task !== '') group.tasks.push({ target, weight: Number(weight) || 1 });
}

function readService(zone: Zone, serving: Map<string, Serving>, fields: readonly string[]): void {
  const [, name = '', id = '', aliases = '', vip = '', vip6 = '', ports = ''] = fields;
  const { addresses, tasks } = serving.get(id) ?? { addresses: [], tasks: [] };
  const virtual = [canonicalIp(vip), canonicalIp(vip6)].filter((address) => address !== '');
  const target = `${name.toLowerCase()}.${zone.network}`;
  const facts: ServiceFacts = { target, virtual: virtual.length > 0, ports: items(ports).map(readPort), tasks };
  for (const known of [name, ...items(aliases)]) {
    if (known === '') continue;
    const key = known.toLowerCase();
    // A service's name and aliases mean the service, whatever its tasks call themselves.
    zone.addresses.set(key, virtual.length === 0 ? addresses : virtual);
    zone.addresses.set(`tasks.${key}`, addresses);
    zone.services.set(key, facts);
  }
  for (const address of virtual) if (name !== '') zone.names.set(address, target);
}

function readPort(item: string): ServicePort {
  const [name = '', protocol = '', port = ''] = item.split('/');
  return { name: name.toLowerCase(), protocol, port: Number(port) };
}

/** A container of this host on a network, as it is known there. */
export interface Member {
  network: string;
  names: readonly string[];
  addresses: readonly string[];
}

/** The zone of this host's containers on one network. */
export function memberZone(network: string, members: Iterable<Member>): Zone {
  const zone = emptyZone(network);
  for (const { names, addresses } of members) {
    for (const address of addresses) {
      const ip = canonicalIp(address);
      if (ip === '') continue;
      for (const name of names) addName(zone, name, ip);
      if (names[0] !== undefined) zone.names.set(ip, `${names[0].toLowerCase()}.${zone.network}`);
    }
  }
  return zone;
}

/** What the first network that knows `name` holds under it, by its own name or followed by the network's. */
function lookUp<T>(zones: readonly Zone[], name: string, get: (zone: Zone, name: string) => T | undefined) {
  for (const zone of zones) {
    const plain = get(zone, name);
    if (plain !== undefined) return plain;
    if (name.endsWith(`.${zone.network}`)) {
      const inner = get(zone, name.slice(0, -zone.network.length - 1));
      if (inner !== undefined) return inner;
    }
  }
  return undefined;
}

/** Addresses of a name on some networks, the first network that knows it; undefined when none does. */
export function resolveName(zones: readonly Zone[], name: string): string[] | undefined {
  return lookUp(zones, name, (zone, inner) => zone.addresses.get(inner));
}

export function resolveService(zones: readonly Zone[], name: string): ServiceFacts | undefined {
  return lookUp(zones, name, (zone, inner) => zone.services.get(inner));
}

export function resolveAddress(zones: readonly Zone[], address: string): string | undefined {
  for (const zone of zones) {
    const name = zone.names.get(address);
    if (name !== undefined) return name;
  }
  return undefined;
}
