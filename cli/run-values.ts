/** Readers of single values of `run` options, in docker's error words. */
import { parseBytes, parseInteger, parseUint } from './units.ts';
import { csvFields, cut } from './words.ts';

/** `--attach`: a stream's name, in any case. */
export function attachStream(text: string): string {
  const name = text.toLowerCase();
  if (!['stdin', 'stdout', 'stderr'].includes(name)) throw new Error('valid streams are STDIN, STDOUT and STDERR');
  return name;
}

/** `--env`: a variable with or without a value; what it is without one is looked up when the body is made. */
export function environmentWord(text: string): string {
  if (text === '' || text.startsWith('=')) throw new Error(`invalid environment variable: ${text}`);
  return text;
}

const DEVICE_RULE = /^[acb] ([0-9]+|\*):([0-9]+|\*) [rwm]{1,3}$/;

/** `--device-cgroup-rule`: `TYPE MAJOR:MINOR MODE`. */
export function deviceRule(text: string): string {
  if (!DEVICE_RULE.test(text)) throw new Error(`invalid device cgroup format '${text}'`);
  return text;
}

/** Path and value of `PATH:VALUE`, whose path is a device's. */
function devicePair(text: string): [string, string] {
  const [path, value] = cut(text, ':');
  if (value === undefined || path === '') throw new Error(`bad format: ${text}`);
  if (!path.startsWith('/dev/')) throw new Error(`bad format for device path: ${text}`);
  return [path, value];
}

/** `--blkio-weight-device`: `PATH:WEIGHT`. */
export function weightDevice(text: string): { Path: string; Weight: number } {
  const [path, value] = devicePair(text);
  const weight = Number(value);
  if (!/^\d+$/.test(value) || (weight > 0 && (weight < 10 || weight > 1000))) {
    throw new Error(`invalid weight for device: ${text}`);
  }
  return { Path: path, Weight: weight };
}

/** `--device-read-bps` and the like: `PATH:SIZE`. */
export function throttle(text: string): { Path: string; Rate: number } {
  const [path, value] = devicePair(text);
  try {
    return { Path: path, Rate: parseBytes(value) };
  } catch (error) {
    const form = '<device-path>:<number>[<unit>]. Number must be a positive integer';
    throw new Error(
      `invalid rate for device: ${text}. The correct format is ${form}. Unit is optional and can be kb, mb, or gb`,
      { cause: error },
    );
  }
}

/** `--device-read-iops` and the like: `PATH:NUMBER`. */
export function ioRate(text: string): { Path: string; Rate: number } {
  const [path, value] = devicePair(text);
  if (!/^\d+$/.test(value)) {
    const form = '<device-path>:<number>. Number must be a positive integer';
    throw new Error(`invalid rate for device: ${text}. The correct format is ${form}`);
  }
  return { Path: path, Rate: parseUint(value) };
}

/** `--memory-swap`: a size, or -1 for no limit. */
export function swapBytes(text: string): number {
  return text === '-1' ? -1 : parseBytes(text);
}

const SYSCTL_NAMES = 'msgmax msgmnb msgmni sem shmall shmmax shmmni shm_rmid_forced'
  .split(' ')
  .map((name) => `kernel.${name}`);

/** `--sysctl`: a setting of a namespace that containers have for themselves. */
export function sysctl(text: string): string {
  const [name, value] = cut(text, '=');
  const known = SYSCTL_NAMES.includes(name) || name.startsWith('net.') || name.startsWith('fs.mqueue.');
  if (value === undefined || !known) throw new Error(`sysctl '${text}' is not allowed`);
  return text;
}

/** `--link`: `CONTAINER[:ALIAS]`. */
export function linkWord(text: string): string {
  if (text === '') throw new Error('empty string specified for links');
  if (text.split(':').length > 2) throw new Error(`bad format for links: ${text}`);
  return text;
}

const LABEL_FORM = '[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?';
const DOMAIN = new RegExp(`^(:?${LABEL_FORM}(?:\\.${LABEL_FORM})*)\\.?\\s*$`);
const DOMAIN_MAX_LENGTH = 254;

/** `--dns-search`: a domain, or `.` for none. */
export function dnsSearch(text: string): string {
  const name = text.replace(/^ +| +$/g, '');
  if (name === '.') return name;
  const found = DOMAIN.exec(name)?.[1];
  if (!/[a-zA-Z]/.test(name) || found === undefined || found.length > DOMAIN_MAX_LENGTH) {
    throw new Error(`${name} is not a valid domain`);
  }
  return found;
}

const IPV4 = /^(?:(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)(?:\.(?!$)|$)){4}$/;

/** Whether a text has the form of an address, as far as the client judges it. */
export function isAddress(text: string): boolean {
  if (IPV4.test(text)) return true;
  return text.includes(':') && URL.canParse(`http://[${text}]/`);
}

/** `--dns`: an address, IPv6 in its shortest form. */
export function dnsServer(text: string): string {
  const address = text.trim();
  if (!isAddress(address)) throw new Error(`IP address is not correctly formatted: ${text}`);
  return address.includes(':') ? new URL(`http://[${address}]/`).hostname.slice(1, -1) : address;
}

/** Whether a text is a MAC address in one of the forms that Go reads. */
export const isMac = (text: string): boolean =>
  /^[\da-f]{2}([:-][\da-f]{2}){5,}$/i.test(text) || /^[\da-f]{4}(\.[\da-f]{4}){2,}$/i.test(text);

/** `--add-host`: `HOST:ADDRESS` or `HOST=ADDRESS`, in the form that the API takes. */
export function extraHost(text: string): string {
  const [name, value] = text.includes('=') ? cut(text, '=') : cut(text, ':');
  if (value === undefined || name === '' || name.includes(':')) {
    throw new Error(`bad format for add-host: ${JSON.stringify(text)}`);
  }
  if (value === 'host-gateway') return `${name}:${value}`;
  const address = value.length > 2 ? value.replace(/^\[(.*)\]$/, '$1') : value;
  if (!isAddress(address.trim())) throw new Error(`invalid IP address in add-host: ${JSON.stringify(address)}`);
  return `${name}:${address}`;
}

/** A network of `run --network`. */
export interface RunNetwork {
  target: string;
  aliases: string[];
  links: string[];
  driverOpts: Record<string, string>;
  linkLocal: string[];
  gwPriority: number;
  ip: string;
  ip6: string;
  mac: string;
}

export const runNetwork = (target: string): RunNetwork => ({
  ...{ target, aliases: [], links: [], driverOpts: {}, linkLocal: [], gwPriority: 0, ip: '', ip6: '', mac: '' },
});

function setNetworkField(network: RunNetwork, key: string, text: string): void {
  switch (key) {
    case 'name':
      network.target = text;
      return;
    case 'alias':
      network.aliases.push(text);
      return;
    case 'ip':
      network.ip = text;
      return;
    case 'ip6':
      network.ip6 = text;
      return;
    case 'mac-address':
      network.mac = text;
      return;
    case 'link-local-ip':
      network.linkLocal.push(text);
      return;
    case 'driver-opt': {
      const [name, value] = cut(text, '=');
      if (value === undefined || name === '') throw new Error('invalid key value pair format in driver options');
      network.driverOpts[name.trim()] = value.trim();
      return;
    }
    case 'gw-priority':
      if (!/^[+-]?\d+$/.test(text)) throw new Error(`invalid gw-priority (${text}): invalid syntax`);
      network.gwPriority = parseInteger(text);
      return;
    default:
      throw new Error(`invalid field key ${key}`);
  }
}

/** `--network`: a name or mode, or `name=…,alias=…,ip=…`. */
export function networkAttachment(text: string): RunNetwork {
  if (!/\w+=\w+(,\w+=\w+)*/.test(text)) return runNetwork(text);
  const network = runNetwork('');
  for (const field of csvFields(text)) {
    const [key, value] = cut(field.toLowerCase(), '=');
    if (value === undefined || key === '') throw new Error(`invalid field ${field}`);
    setNetworkField(network, key.trim(), value.trim());
  }
  if (network.target === '') throw new Error('network name/id is not specified');
  return network;
}

/** A request for devices of a driver (GPUs). */
export interface DeviceRequest {
  Driver: string;
  Count: number;
  DeviceIDs: string[] | null;
  Capabilities: string[][] | null;
  Options: Record<string, string> | null;
}

function gpuCount(text: string): number {
  if (text === 'all') return -1;
  if (!/^[+-]?\d+$/.test(text)) {
    throw new Error(`invalid count (${text}): value must be either "all" or an integer: invalid syntax`);
  }
  return Number(text);
}

/** `--gpus`: `all`, a number, or `device=…,capabilities=…`. */
export function gpuRequest(text: string): DeviceRequest {
  const request: DeviceRequest = { Driver: '', Count: 0, DeviceIDs: null, Capabilities: [['gpu']], Options: {} };
  const seen = new Set<string>();
  for (const field of csvFields(text)) {
    const [key, value] = cut(field, '=');
    if (seen.has(key)) throw new Error(`gpu request key '${key}' can be specified only once`);
    seen.add(key);
    if (value === undefined) {
      seen.add('count');
      request.Count = gpuCount(key);
    } else if (key === 'driver') request.Driver = value;
    else if (key === 'count') request.Count = gpuCount(value);
    else if (key === 'device') request.DeviceIDs = value.split(',');
    else if (key === 'capabilities') request.Capabilities = [[...value.split(','), 'gpu']];
    else if (key === 'options') {
      const pairs = csvFields(value).map((pair) => cut(pair, '='));
      request.Options = Object.fromEntries(pairs.map(([name, setting]) => [name, setting ?? '']));
    } else throw new Error(`unexpected key '${key}' in '${field}'`);
  }
  if (!seen.has('count') && request.DeviceIDs === null) request.Count = 1;
  return request;
}
