import { join } from 'node:path';
import { errorMessage, invalidArgument, readFileIfExists, type LogLevel } from '../base/index.ts';
import type { PressurePolicy } from '../engine/index.ts';
import { diskPressure } from './disk-pressure-flags.ts';
import { containerSettings, type ContainerSettings } from './container-defaults.ts';
import { fileKey, FLAGS, isIgnoredKey, refusalOf, type FlagName, type FlagValues } from './flags.ts';

/** The daemon's settings: validated, complete. */
export interface DaemonConfig {
  dataRoot: string;
  execRoot: string;
  pidfile: string;
  hosts: string[];
  logLevel: LogLevel;
  debug: boolean;
  labels: Record<string, string>;
  insecureRegistries: string[];
  registryMirrors: string[];
  defaultAddressPools: { base: string; size: number }[];
  defaultUlimits: { name: string; soft: number; hard: number }[];
  dns: string[];
  swarmDefaultAdvertiseAddr: string;
  genericResources: string[];
  /** A path or a slice; empty: the driver's own. */
  cgroupParent: string;
  bip: string;
  /** Whether the bridges that every host has get IPv6; and the default bridge's subnet of it, empty: a unique local one. */
  ipv6: boolean;
  fixedCidrV6: string;
  init: boolean;
  iptables: boolean;
  mtu: number | undefined;
  /** `host:port` that serves measurements alone; empty: none does. */
  metricsAddr: string;
  storageDriver: string;
  /** Whose subordinate ids containers get: default, user[:group], uid[:gid]; empty: nobody's. */
  usernsRemap: string;
  /** When unused things are removed by themselves; undefined: never. */
  diskPressure: PressurePolicy | undefined;
  /** Log driver of containers that name none, with its options. */
  logDriver: { type: string; config: Record<string, string> };
  /** What containers get that say nothing themselves. */
  containers: ContainerSettings;
  configFile: string;
  warnings: string[];
}

const DEFAULT_CONFIG_FILE = '/etc/shoal/daemon.json';
const LEVELS: readonly string[] = ['debug', 'info', 'warn', 'error', 'fatal'];

/** Reads daemon.json. A file that was named must exist; the default one need not. */
function readConfigFile(path: string, named: boolean): Record<string, unknown> {
  const text = readFileIfExists(path);
  if (text === undefined) {
    if (named) throw invalidArgument(`unable to configure the daemon with file ${path}: no such file`);
    return {};
  }
  let json: unknown;
  try {
    json = JSON.parse(text.trim() === '' ? '{}' : text);
  } catch (error) {
    throw invalidArgument(`unable to configure the daemon with file ${path}: ${errorMessage(error)}`);
  }
  if (typeof json !== 'object' || json === null || Array.isArray(json)) {
    throw invalidArgument(`unable to configure the daemon with file ${path}: a JSON object is expected`);
  }
  return json as Record<string, unknown>;
}

/** One value of daemon.json in the form of its flag. */
function fromFile(name: FlagName, value: unknown, path: string): string | boolean | string[] {
  const { kind } = FLAGS[name];
  const bad = (want: string): Error => invalidArgument(`${path}: ${fileKey(name)} must be ${want}`);
  if (kind === 'bool') {
    if (typeof value !== 'boolean') throw bad('true or false');
    return value;
  }
  if (kind === 'string') {
    if (typeof value !== 'string' && typeof value !== 'number') throw bad('a string');
    return String(value);
  }
  if (name === 'default-ulimit' && typeof value === 'object' && value !== null && !Array.isArray(value)) {
    const limits = value as Record<string, { Name?: string; Hard?: number; Soft?: number }>;
    return Object.entries(limits).map(([key, l]) => `${l.Name ?? key}=${l.Soft ?? 0}:${l.Hard ?? l.Soft ?? 0}`);
  }
  if (name === 'log-opt' && typeof value === 'object' && value !== null && !Array.isArray(value)) {
    return Object.entries(value).map(([key, option]) => `${key}=${String(option)}`);
  }
  if (name === 'add-runtime' && typeof value === 'object' && value !== null && !Array.isArray(value)) {
    return Object.entries(value as Record<string, { path?: string } | null>).map(
      ([key, runtime]) => `${key}=${runtime?.path ?? ''}`,
    );
  }
  if (!Array.isArray(value)) throw bad('a list');
  return value.map((item: unknown) => {
    if (typeof item === 'string') return item;
    const pool = item as { base?: unknown; size?: unknown } | null;
    if (name === 'default-address-pool' && typeof pool?.base === 'string')
      return `base=${pool.base},size=${String(pool.size)}`;
    throw bad('a list of strings');
  });
}

function mergeFile(flags: FlagValues, file: Record<string, unknown>, path: string, warnings: string[]): FlagValues {
  const merged: FlagValues = { ...flags };
  const names = new Map((Object.keys(FLAGS) as FlagName[]).map((name) => [fileKey(name), name]));
  const both: string[] = [];
  for (const [key, value] of Object.entries(file)) {
    const name = names.get(key);
    if (name === undefined) {
      const refusal = refusalOf(key, value);
      if (refusal !== undefined) throw invalidArgument(`${path}: ${key}: ${refusal}`);
      if (!isIgnoredKey(key))
        throw invalidArgument(`${path}: the following directives don't match any configuration option: ${key}`);
      warnings.push(`${path}: ${key} has no meaning for shoal and is ignored`);
    } else if (name in flags)
      both.push(`${key}: (from flag: ${String(flags[name])}, from file: ${JSON.stringify(value)})`);
    else merged[name] = fromFile(name, value, path);
  }
  if (both.length > 0) {
    throw invalidArgument(
      `the following directives are specified both as a flag and in the configuration file: ${both.join(', ')}`,
    );
  }
  return merged;
}

function keyValue(flag: string, text: string): [string, string] {
  const at = text.indexOf('=');
  if (at <= 0) throw invalidArgument(`invalid argument "${text}" for "--${flag}" flag: key=value is expected`);
  return [text.slice(0, at), text.slice(at + 1)];
}

function addressPool(text: string): { base: string; size: number } {
  const fields = Object.fromEntries(text.split(',').map((part) => keyValue('default-address-pool', part)));
  const { base = '', size = '' } = fields as { base?: string; size?: string };
  if (!/^[\d.]+\/\d+$/.test(base) || !/^\d+$/.test(size)) {
    throw invalidArgument(`invalid argument "${text}" for "--default-address-pool" flag: base=CIDR,size=N is expected`);
  }
  return { base, size: Number(size) };
}

function ulimit(text: string): { name: string; soft: number; hard: number } {
  const [name, value] = keyValue('default-ulimit', text);
  const [soft = '', hard = soft] = value.split(':');
  if (!/^-?\d+$/.test(soft) || !/^-?\d+$/.test(hard)) {
    throw invalidArgument(`invalid argument "${text}" for "--default-ulimit" flag: name=soft[:hard] is expected`);
  }
  return { name, soft: Number(soft), hard: Number(hard) };
}

function mtu(text: string | undefined): number | undefined {
  if (text === undefined || text === '0') return undefined;
  const value = Number(text);
  if (!Number.isInteger(value) || value < 576 || value > 65_535) {
    throw invalidArgument(`invalid argument "${text}" for "--mtu" flag: 576 to 65535 is expected`);
  }
  return value;
}

function metricsAddr(text: string): string {
  if (text === '' || /^(\[[^\]]+\]|[^:/]*):\d+$/.test(text)) return text;
  throw invalidArgument(`invalid argument "${text}" for "--metrics-addr" flag: host:port is expected`);
}

/**
 * Completes flags with the configuration file and the defaults.
 * @throws ShoalError InvalidArgument, in dockerd's words where it has them.
 */
export function loadConfig(flags: FlagValues, flagWarnings: readonly string[]): DaemonConfig {
  const warnings = [...flagWarnings];
  const configFile = (flags['config-file'] as string | undefined) ?? DEFAULT_CONFIG_FILE;
  const file = readConfigFile(configFile, flags['config-file'] !== undefined);
  const values = mergeFile(flags, file, configFile, warnings);
  const text = (name: FlagName, otherwise: string): string => (values[name] as string | undefined) ?? otherwise;
  const list = (name: FlagName): string[] => (values[name] as string[] | undefined) ?? [];
  const bool = (name: FlagName, otherwise: boolean): boolean => (values[name] as boolean | undefined) ?? otherwise;
  const debug = bool('debug', false);
  const level = text('log-level', 'info');
  if (!LEVELS.includes(level)) throw invalidArgument(`unable to parse logging level: ${level}`);
  const hosts = list('host');
  if (!bool('live-restore', true))
    warnings.push('live-restore cannot be turned off: containers always outlive the daemon');
  const execRoot = text('exec-root', '/run/shoal');
  return {
    dataRoot: text('data-root', '/var/lib/shoal'),
    execRoot,
    pidfile: text('pidfile', execRoot === '/run/shoal' ? '/run/shoal.pid' : join(execRoot, 'shoal.pid')),
    hosts: hosts.length === 0 ? ['unix:///var/run/docker.sock'] : hosts,
    logLevel: debug ? 'debug' : (level as LogLevel),
    debug,
    labels: Object.fromEntries(list('label').map((label) => keyValue('label', label))),
    insecureRegistries: list('insecure-registry'),
    registryMirrors: list('registry-mirror'),
    defaultAddressPools: list('default-address-pool').map(addressPool),
    defaultUlimits: list('default-ulimit').map(ulimit),
    dns: list('dns'),
    swarmDefaultAdvertiseAddr: text('swarm-default-advertise-addr', ''),
    genericResources: list('node-generic-resource'),
    cgroupParent: text('cgroup-parent', ''),
    bip: text('bip', '172.17.0.1/16'),
    ipv6: bool('ipv6', true),
    fixedCidrV6: text('fixed-cidr-v6', ''),
    init: bool('init', false),
    iptables: bool('iptables', true),
    metricsAddr: metricsAddr(text('metrics-addr', '')),
    mtu: mtu(values.mtu as string | undefined),
    storageDriver: text('storage-driver', ''),
    usernsRemap: text('userns-remap', ''),
    diskPressure: diskPressure(text('disk-high-mark', ''), text('disk-low-mark', ''), text('disk-image-age', '')),
    logDriver: {
      type: text('log-driver', 'json-file'),
      config: Object.fromEntries(list('log-opt').map((option) => keyValue('log-opt', option))),
    },
    containers: containerSettings(values),
    configFile,
    warnings,
  };
}
