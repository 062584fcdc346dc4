/** Readers of the values that service flags take: ports, networks, secrets, limits. */
import { isIP } from 'node:net';
import type { DataReference, GenericResource, NetworkAttachment, PortConfig } from './objects.ts';
import { csvFields, cut } from './words.ts';

/** File mode of a secret or config that names none. */
const DATA_MODE = 0o444;
const LONG_SYNTAX = /\w+=\w+(,\w+=\w+)*/;
const PORT_MAX = 65535;
const PROTOCOLS = ['tcp', 'udp', 'sctp'];

function longPort(value: string): PortConfig {
  const port: PortConfig = { Protocol: 'tcp', TargetPort: 0, PublishMode: 'ingress' };
  const number = (which: string, text: string): number => {
    const reason = !/^\d+$/.test(text) ? 'invalid syntax' : Number(text) > PORT_MAX ? 'value out of range' : '';
    if (reason !== '') throw new Error(`invalid ${which} port (${text}): value must be an integer: ${reason}`);
    return Number(text);
  };
  for (const field of csvFields(value)) {
    const [key, text] = cut(field.toLowerCase(), '=');
    if (text === undefined || key === '') throw new Error(`invalid field: ${field}`);
    switch (key) {
      case 'protocol':
        if (!PROTOCOLS.includes(text)) throw new Error(`invalid protocol value '${text}'`);
        port.Protocol = text;
        break;
      case 'mode':
        if (text !== 'ingress' && text !== 'host') {
          throw new Error(`invalid publish mode value (${text}): must be either 'ingress' or 'host'`);
        }
        port.PublishMode = text;
        break;
      case 'target':
        port.TargetPort = number('target', text);
        break;
      case 'published':
        port.PublishedPort = number('published', text);
        break;
      // Shoal's own: Docker has no such field.
      case 'ip':
        // As it is written: names of interfaces have case.
        port.HostIP = (cut(field, '=')[1] ?? '').replace(/^\[(.*)\]$/, '$1');
        if (isIP(port.HostIP) === 0 && !/^(?!\d+$)[\w.@-]{1,15}$/.test(port.HostIP)) {
          throw new Error(`invalid ip (${text}): an IP address or the name of an interface is expected`);
        }
        break;
      default:
        throw new Error(`invalid field key: ${key}`);
    }
  }
  if (port.TargetPort === 0) throw new Error("missing mandatory field 'target'");
  return port;
}

function portRange(text: string, what: string): { first: number; last: number } {
  const form = /^(\d+)(?:-(\d+))?$/.exec(text);
  const first = Number(form?.[1]);
  const last = Number(form?.[2] ?? form?.[1]);
  if (form === null || first > PORT_MAX || last > PORT_MAX) throw new Error(`invalid ${what}: ${text}`);
  if (last < first) throw new Error(`invalid ${what}: ${text}`);
  return { first, last };
}

function shortPorts(value: string): PortConfig[] {
  const [ports, protocolText] = cut(value, '/');
  const protocol = (protocolText ?? 'tcp').toLowerCase();
  if (!PROTOCOLS.includes(protocol)) throw new Error(`invalid proto: ${protocol}`);
  const parts = ports.split(':');
  const target = parts.pop() ?? '';
  const published = parts.pop() ?? '';
  if (parts.length > 0) {
    const ip = parts.join(':');
    if (ip !== '' && isIP(ip.replace(/^\[(.*)\]$/, '$1')) === 0) throw new Error(`invalid IP address: ${ip}`);
    if (ip !== '') throw new Error('hostip is not supported');
  }
  if (target === '') throw new Error(`no port specified: ${value}<empty>`);
  const to = portRange(target, 'containerPort');
  const base = (TargetPort: number, PublishedPort: number): PortConfig => ({
    Protocol: protocol,
    TargetPort,
    ...(PublishedPort === 0 ? {} : { PublishedPort }),
    PublishMode: 'ingress',
  });
  const size = to.last - to.first;
  if (published === '') return Array.from({ length: size + 1 }, (_, i) => base(to.first + i, 0));
  const from = portRange(published, 'hostPort');
  if (size === 0) return Array.from({ length: from.last - from.first + 1 }, (_, i) => base(to.first, from.first + i));
  if (from.last - from.first !== size)
    throw new Error(`invalid ranges specified for container and host Ports: ${target} and ${published}`);
  return Array.from({ length: size + 1 }, (_, i) => base(to.first + i, from.first + i));
}

/** Ports of `--publish`, by the short (`8080:80/tcp`, ranges) or the long (`published=…,target=…`) syntax. */
export function parsePorts(value: string): PortConfig[] {
  return LONG_SYNTAX.test(value) ? [longPort(value)] : shortPorts(value);
}

/** A network of `--network`: a name, or `name=…,alias=…,driver-opt=k=v`. */
export function parseNetwork(value: string): NetworkAttachment {
  if (!LONG_SYNTAX.test(value)) return { Target: value };
  const network: NetworkAttachment = { Target: '', Aliases: [] };
  for (const field of csvFields(value)) {
    const [rawKey, rawText] = cut(field.toLowerCase(), '=');
    if (rawText === undefined || rawKey === '') throw new Error(`invalid field ${field}`);
    const key = rawKey.trim();
    const text = rawText.trim();
    switch (key) {
      case 'name':
        network.Target = text;
        break;
      case 'alias':
        network.Aliases?.push(text);
        break;
      case 'driver-opt': {
        const [option, setting] = cut(text, '=');
        if (setting === undefined || option === '') throw new Error('invalid key value pair format in driver options');
        network.DriverOpts = { ...network.DriverOpts, [option.trim()]: setting.trim() };
        break;
      }
      // Addresses are for containers alone; the API of services has no place for them.
      case 'ip':
      case 'ip6':
      case 'mac-address':
      case 'link-local-ip':
      case 'gw-priority':
        break;
      default:
        throw new Error(`invalid field key ${key}`);
    }
  }
  if (network.Target === '') throw new Error('network name/id is not specified');
  return network;
}

/** Reader of `--secret` and `--config` values; `noun` is `Secret` or `Config`. */
export function dataReader(noun: 'Secret' | 'Config'): (value: string) => DataReference {
  return (value) => {
    const fields = csvFields(value);
    const file = { Name: '', UID: '0', GID: '0', Mode: DATA_MODE };
    const named = (name: string): DataReference =>
      noun === 'Secret' ? { File: file, SecretName: name } : { File: file, ConfigName: name };
    if (fields.length === 1 && fields[0]?.includes('=') === false) {
      file.Name = fields[0];
      return named(fields[0]);
    }
    let source = '';
    for (const field of fields) {
      const [key, text] = cut(field, '=');
      if (text === undefined || key === '') throw new Error(`invalid field '${field}' must be a key=value pair`);
      const word = key.toLowerCase();
      if (word === 'source' || word === 'src') source = text;
      else if (word === 'target') file.Name = text;
      else if (word === 'uid') file.UID = text;
      else if (word === 'gid') file.GID = text;
      else if (word === 'mode') file.Mode = parseMode(text);
      else throw new Error(`invalid field in ${noun.toLowerCase()} request: ${key}`);
    }
    if (source === '') throw new Error('source is required');
    if (file.Name === '') file.Name = source;
    return named(source);
  };
}

/** A file mode with Go's prefixes: `0444` and `0o444` are octal, `292` is decimal. */
function parseMode(text: string): number {
  if (/^0o?[0-7]+$/.test(text)) return Number.parseInt(text.replace(/^0o?/, ''), 8);
  if (!/^(0x[\da-f]+|\d+)$/i.test(text)) {
    throw new Error(`invalid mode specified: strconv.ParseUint: parsing ${JSON.stringify(text)}: invalid syntax`);
  }
  return Number(text);
}

/** `spread=node.labels.x`. */
export function parsePreference(value: string): { Spread: { SpreadDescriptor: string } } {
  const [strategy, descriptor] = cut(value, '=');
  if (descriptor === undefined || strategy === '') {
    throw new Error('placement preference must be of the format "<strategy>=<arg>"');
  }
  if (strategy !== 'spread') throw new Error(`unsupported placement preference ${strategy} (only spread is supported)`);
  return { Spread: { SpreadDescriptor: descriptor } };
}

const ULIMITS = 'core cpu data fsize locks memlock msgqueue nice nofile nproc rss rtprio rttime sigpending stack'.split(
  ' ',
);

/** `nofile=1024:2048`: soft and hard limit; one number is both. */
export function parseUlimit(value: string): { Name: string; Hard: number; Soft: number } {
  const [name, limits] = cut(value, '=');
  if (limits === undefined || name === '') throw new Error(`invalid ulimit argument: ${value}`);
  if (!ULIMITS.includes(name)) throw new Error(`invalid ulimit type: ${name}`);
  const parts = limits.split(':');
  if (parts.length > 2)
    throw new Error(`too many limit value arguments - ${limits}, can only have up to two, \`soft[:hard]\``);
  const [soft = 0, hard = soft] = parts.map((part) => {
    if (!/^-?\d+$/.test(part)) throw new Error(`strconv.ParseInt: parsing ${JSON.stringify(part)}: invalid syntax`);
    return Number(part);
  });
  if (hard !== -1 && (soft === -1 || soft > hard)) {
    throw new Error(`ulimit soft limit must be less than or equal to hard limit: ${soft} > ${hard}`);
  }
  return { Name: name, Hard: hard, Soft: soft };
}

/** `gpu=2` (discrete) or `gpu=UUID1` (named). */
export function parseGenericResources(values: readonly string[]): GenericResource[] {
  return values.map((value) => {
    const [kind, amount] = cut(value, '=');
    if (amount === undefined || kind === '' || amount === '') {
      throw new Error(`invalid generic-resource request \`${value}\`: a Kind=Value pair is expected`);
    }
    if (!/^\d+$/.test(amount))
      throw new Error(
        `invalid generic-resource request \`${value}\`, Named Generic Resources is not supported for service create or update`,
      );
    return { DiscreteResourceSpec: { Kind: kind, Value: Number(amount) } };
  });
}

/** `host:ip`, whose IP may be IPv6 or in brackets. */
export function parseHost(value: string): string {
  const [host, ip] = cut(value.includes('=') && !value.includes(':') ? value.replace('=', ':') : value, ':');
  const address = (ip ?? '').replace(/^\[(.*)\]$/, '$1');
  if (host === '' || address === '') throw new Error(`bad format for add-host: ${JSON.stringify(value)}`);
  if (isIP(address) === 0 && address !== 'host-gateway')
    throw new Error(`invalid IP address in add-host: ${JSON.stringify(ip)}`);
  return `${host}:${address}`;
}

/** An IP address. */
export function parseAddress(value: string): string {
  const address = value.trim();
  if (isIP(address) === 0) throw new Error(`IP address is not correctly formatted: ${value}`);
  return address;
}

/** A label `key=value`. */
export function parseLabel(value: string): string {
  const [key] = cut(value, '=');
  if (key.trim() === '') throw new Error(`invalid label '${value}': empty name`);
  if (/\s/.test(key)) throw new Error(`label '${key}' contains whitespaces`);
  return value;
}

/** The kind of credential specification, by its prefix; the empty value takes it away. */
export function parseCredentialSpec(value: string): { Config?: string; File?: string; Registry?: string } {
  const [kind, name] = cut(value, '://');
  if (value === '') return {};
  if (kind === 'config' && name !== undefined) return { Config: name };
  if (kind === 'file' && name !== undefined) return { File: name };
  if (kind === 'registry' && name !== undefined) return { Registry: name };
  throw new Error('invalid credential spec: value must be prefixed with "config://", "file://", or "registry://"');
}

/** A capability in the API's form. */
function capability(name: string): string {
  const word = name.trim().toUpperCase();
  return word === 'ALL' || word === 'RESET' || word.startsWith('CAP_') ? word : `CAP_${word}`;
}

export const capabilitySet = (names: readonly string[] | undefined): Set<string> =>
  new Set((names ?? []).map(capability));

/** Capabilities to add and to drop; adding wins, ALL stands for every other. */
export function effectiveCapabilities(
  add: readonly string[],
  drop: readonly string[],
): { add: string[]; drop: string[] } {
  const all = (set: Set<string>): Set<string> => (set.has('ALL') ? new Set(['ALL']) : set);
  const adds = all(capabilitySet(add));
  const drops = all(capabilitySet(drop));
  const kept = (set: Set<string>): string[] => [...set].filter((name) => name !== 'RESET').toSorted();
  return { add: kept(adds), drop: kept(new Set([...drops].filter((name) => !adds.has(name)))) };
}
