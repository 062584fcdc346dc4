/** Ports, volumes and devices of `run`: grammars that are read once all options are known. */
import { posix, resolve } from 'node:path';
import { isAddress, type DeviceRequest } from './run-values.ts';
import { cut } from './words.ts';

export interface PortBinding {
  HostIp: string;
  HostPort: string;
}

const PORT_MAX = 65_535;

interface PortRange {
  first: number;
  last: number;
}

/** First and last port of `8000` or `8000-9000`. @throws Error when it is neither */
function portRange(text: string): PortRange {
  const [from = '', to = from] = text.split('-');
  const [first, last] = [Number(from), Number(to)];
  for (const part of [from, to]) {
    const reason = /^\d+$/.test(part) ? 'value out of range' : 'invalid syntax';
    const bad = reason === 'invalid syntax' || Number(part) > PORT_MAX;
    if (bad) throw new Error(`strconv.ParseUint: parsing ${JSON.stringify(part)}: ${reason}`);
  }
  if (last < first) throw new Error(`invalid range specified for port: ${text}`);
  return { first, last };
}

/** Protocol and number of `80/tcp`. */
function splitPort(text: string): [protocol: string, port: string] {
  const [port = '', protocol = ''] = text.split('/');
  if (port === '') return ['', ''];
  return [protocol === '' ? 'tcp' : protocol, port];
}

function rangeOr(text: string, what: string): PortRange {
  try {
    return portRange(text);
  } catch (error) {
    throw new Error(`invalid ${what}: ${text}`, { cause: error });
  }
}

/** The long form `published=…,target=…` in the short one. */
function shortForm(text: string): string {
  if (!text.includes('=')) return text;
  const fields: Record<string, string> = { protocol: 'tcp' };
  for (const field of text.split(',')) {
    const [key, value] = cut(field, '=');
    if (value === undefined || key === '') {
      throw new Error(`invalid publish opts format (should be name=value but got '${field}')`);
    }
    fields[key] = value;
  }
  return `${fields['published'] ?? ''}:${fields['target'] ?? ''}/${fields['protocol']}`;
}

/** Published ports of one word of `--publish`. */
function publishWord(word: string): [port: string, binding: PortBinding][] {
  const text = shortForm(word);
  const parts = text.split(':');
  const target = parts.pop() ?? '';
  const published = parts.pop() ?? '';
  const given = parts.join(':');
  const [protocol, port] = splitPort(target);
  const ip = given.replace(/^\[(.*)\]$/, '$1');
  if (ip !== '' && !isAddress(ip)) throw new Error(`invalid IP address: ${ip}`);
  if (port === '') throw new Error(`no port specified: ${text}<empty>`);
  const to = rangeOr(port, 'containerPort');
  const from = published === '' ? { first: 0, last: 0 } : rangeOr(published, 'hostPort');
  const single = to.first === to.last;
  if (published !== '' && !single && to.last - to.first !== from.last - from.first) {
    throw new Error(`invalid ranges specified for container and host Ports: ${port} and ${published}`);
  }
  if (!['tcp', 'udp', 'sctp'].includes(protocol.toLowerCase())) throw new Error(`invalid proto: ${protocol}`);
  return Array.from({ length: to.last - to.first + 1 }, (_, i) => {
    const span = single && from.first !== from.last ? `-${from.last}` : '';
    const HostPort = published === '' ? '' : `${from.first + i}${span}`;
    return [`${to.first + i}/${protocol.toLowerCase()}`, { HostIp: ip, HostPort }];
  });
}

export interface Ports {
  exposed: Record<string, object>;
  bindings: Record<string, PortBinding[]>;
}

/** Ports of `--publish` and `--expose`. @throws Error in docker's words */
export function readPorts(published: readonly string[], exposed: readonly string[]): Ports {
  const ports: Ports = { exposed: {}, bindings: {} };
  for (const [port, binding] of published.flatMap(publishWord)) {
    ports.exposed[port] = {};
    (ports.bindings[port] ??= []).push(binding);
  }
  for (const word of exposed) {
    if (word.includes(':')) throw new Error(`invalid port format for --expose: ${word}`);
    const [protocol, port] = splitPort(word);
    let range: PortRange;
    try {
      if (port === '') throw new Error('empty string specified for ports');
      range = portRange(port);
    } catch (error) {
      const reason = (error as Error).message;
      throw new Error(`invalid range format for --expose: ${word}, error: ${reason}`, { cause: error });
    }
    for (let number = range.first; number <= range.last; number++) ports.exposed[`${number}/${protocol}`] = {};
  }
  return ports;
}

/** Parts of a `--volume` between colons; a letter before a colon is a drive of Windows, as docker reads it. */
function volumeParts(text: string): string[] {
  if (text.length <= 2) return [text];
  const parts: string[] = [];
  let part = '';
  for (const char of text) {
    if (char !== ':' || /^\p{L}$/u.test(part)) part += char;
    else {
      parts.push(part);
      part = '';
    }
  }
  return [...parts, part];
}

export interface Volumes {
  binds: string[];
  anonymous: Record<string, object>;
}

/** Words of `--volume`: binds and named volumes in the form of the API, and anonymous volumes. */
export function readVolumes(words: readonly string[]): Volumes {
  const volumes: Volumes = { binds: [], anonymous: {} };
  for (const word of new Set(words)) {
    if (word === '') throw new Error('invalid empty volume spec');
    const parts = volumeParts(word);
    if (parts.includes('')) throw new Error(`invalid spec: ${word}: empty section between colons`);
    if (parts.length > 3) throw new Error(`invalid spec: ${word}: too many colons`);
    const [source = ''] = parts;
    if (parts.length === 1) {
      volumes.anonymous[word] = {};
    } else if (source.startsWith('.')) {
      volumes.binds.push(`${resolve(source)}:${cut(word, ':')[1] ?? ''}`);
    } else volumes.binds.push(word);
  }
  return volumes;
}

export interface DeviceMapping {
  PathOnHost: string;
  PathInContainer: string;
  CgroupPermissions: string;
}

const isDeviceMode = (text: string): boolean => /^[rwm]+$/.test(text) && new Set(text).size === text.length;
/** A device of a CDI registry: `VENDOR/CLASS=NAME`. */
const CDI_NAME = /^[a-zA-Z][\w.-]*[a-zA-Z0-9]\/[a-zA-Z](?:[\w-]*[a-zA-Z0-9])?=[a-zA-Z0-9](?:[\w.:-]*[a-zA-Z0-9])?$/;

function deviceMapping(word: string): DeviceMapping {
  const parts = word.split(':');
  const [source = '', second, third] = parts;
  if (parts.length > 3 || source === '') throw new Error(`bad format for path: ${word}`);
  const secondIsMode = parts.length === 2 && isDeviceMode(second ?? '');
  if (third !== undefined && !isDeviceMode(third)) throw new Error(`bad mode specified: ${third}`);
  const inside = second === undefined || secondIsMode ? source : second;
  if (!inside.startsWith('/')) throw new Error(`${inside} is not an absolute path`);
  // Where a path stands for both sides it is cleaned, like the last path of two.
  const cleaned = third === undefined ? posix.normalize(inside).replace(/(.)\/$/, '$1') : inside;
  return {
    PathOnHost: second === undefined || secondIsMode ? cleaned : source,
    PathInContainer: cleaned,
    CgroupPermissions: third ?? (secondIsMode ? (second ?? '') : 'rwm'),
  };
}

/** Devices of `--device`: files of the host, and names that a CDI registry knows. */
export function readDevices(words: readonly string[]): { mappings: DeviceMapping[]; requests: DeviceRequest[] } {
  const named = words.filter((word) => CDI_NAME.test(word));
  const mappings = words.filter((word) => !CDI_NAME.test(word)).map(deviceMapping);
  const request = { Driver: 'cdi', Count: 0, DeviceIDs: named, Capabilities: null, Options: null };
  return { mappings, requests: named.length === 0 ? [] : [request] };
}
