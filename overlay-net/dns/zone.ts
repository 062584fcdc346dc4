import { PROTOCOL_NAMES, type NetworkEndpoint, type NetworkService, type NetworkTable } from '../../proto/index.ts';
import { canonicalIp } from '../ip.ts';
import type { TableChange } from '../table-change.ts';

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

/*
 * Tables go to the resolvers' thread as text, a line for each endpoint and service: to copy one long string costs the
 * main thread a third of what copying as many objects does.
 */
export const FIELD = '\t';
export const LINE = '\n';
const ITEM = ' ';

function endpointLine(one: NetworkEndpoint): string {
  const serving = one.serving ? '1' : '0';
  const names = `${one.task_name}${FIELD}${one.service_id}${FIELD}${one.aliases.join(ITEM)}`;
  const addresses = `${one.address}${FIELD}${one.address6}`;
  return `E${FIELD}${one.task_id}${FIELD}${names}${FIELD}${serving}${FIELD}${one.weight}${FIELD}${addresses}${LINE}`;
}

/** Another version's managers may know more. */
const PROTOCOLS: Readonly<Record<number, string | undefined>> = PROTOCOL_NAMES;

function serviceLine(one: NetworkService): string {
  const ports = one.ports.map((port) => `${port.name}/${PROTOCOLS[port.protocol] ?? ''}/${port.target_port}`);
  const names = `S${FIELD}${one.service_id}${FIELD}${one.name}${FIELD}${one.aliases.join(ITEM)}`;
  return `${names}${FIELD}${one.vip}${FIELD}${one.vip6}${FIELD}${ports.join(ITEM)}${LINE}`;
}

/** The names of a table as text for `LiveZone`, in pieces of at most `linesMax` lines. */
export function* zoneText(table: NetworkTable, linesMax: number): Generator<string> {
  yield* pieces(linesOf(table), linesMax);
}

/** The same for what differs between two tables. */
export function* changeText(
  { endpoints, services }: Pick<TableChange, 'endpoints' | 'services'>,
  linesMax: number,
): Generator<string> {
  yield* pieces(changeLines(endpoints, services), linesMax);
}

function* linesOf(table: NetworkTable): Generator<string> {
  for (const one of table.endpoints) yield endpointLine(one);
  for (const one of table.services) yield serviceLine(one);
}

function* changeLines(endpoints: TableChange['endpoints'], services: TableChange['services']): Generator<string> {
  for (const { before, after } of endpoints) {
    yield after === undefined ? `e${FIELD}${before?.task_id ?? ''}${LINE}` : endpointLine(after);
  }
  for (const { before, after } of services) {
    yield after === undefined ? `s${FIELD}${before?.service_id ?? ''}${LINE}` : serviceLine(after);
  }
}

function* pieces(lines: Iterable<string>, linesMax: number): Generator<string> {
  let text = '';
  let count = 0;
  for (const line of lines) {
    text += line;
    if (++count % linesMax === 0) {
      yield text;
      text = '';
    }
  }
  if (text !== '') yield text;
}

/** The items of a list in one field. */
export function items(field: string): string[] {
  return field === '' ? [] : field.split(ITEM);
}

export function readPort(item: string): ServicePort {
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
