import { invalidArgument } from '../../base/index.ts';
import type { ImageConfig } from '../types.ts';

/** Splits words as a Dockerfile does: blanks divide, quotes and backslash keep together. */
function words(text: string): string[] {
  const out: string[] = [];
  let word: string | undefined;
  let quote = '';
  for (let i = 0; i < text.length; i++) {
    const c = text[i] as string;
    if (c === '\\' && quote !== "'" && i + 1 < text.length) {
      word = (word ?? '') + (text[++i] as string);
    } else if (quote !== '') {
      if (c === quote) quote = '';
      else word = (word ?? '') + c;
    } else if (c === '"' || c === "'") {
      quote = c;
      word = word ?? '';
    } else if (/\s/.test(c)) {
      if (word !== undefined) out.push(word);
      word = undefined;
    } else {
      word = (word ?? '') + c;
    }
  }
  if (quote !== '') throw invalidArgument(`unexpected end of statement while looking for matching ${quote}`);
  if (word !== undefined) out.push(word);
  return out;
}

/** `KEY=value …`, or the old form `KEY value`. */
function pairs(instruction: string, rest: string): [string, string][] {
  if (!/^\S+?=/.test(rest)) {
    const [key, ...value] = rest.split(/\s+/);
    if (key === undefined || value.length === 0) throw invalidArgument(`${instruction} must have two arguments`);
    return [[key, rest.slice(key.length).trim()]];
  }
  return words(rest).map((word) => {
    const equals = word.indexOf('=');
    if (equals < 1) throw invalidArgument(`Syntax error - can't find = in "${word}". Must be of the form: name=value`);
    return [word.slice(0, equals), word.slice(equals + 1)];
  });
}

function jsonList(rest: string): string[] | undefined {
  if (!rest.startsWith('[')) return undefined;
  try {
    const value: unknown = JSON.parse(rest);
    if (Array.isArray(value) && value.every((item): item is string => typeof item === 'string')) return value;
  } catch {
    return undefined;
  }
  return undefined;
}

function command(rest: string): string[] {
  return jsonList(rest) ?? ['/bin/sh', '-c', rest];
}

function setEnvironment(config: ImageConfig, rest: string): void {
  const env = new Map((config.Env ?? []).map((item) => [item.split('=', 1)[0] as string, item]));
  for (const [key, value] of pairs('ENV', rest)) env.set(key, `${key}=${value}`);
  config.Env = [...env.values()];
}

function exposedPorts(rest: string): Record<string, object> {
  const ports: Record<string, object> = {};
  for (const word of words(rest)) {
    const match = /^(\d+)(?:-(\d+))?(?:\/(tcp|udp|sctp))?$/i.exec(word);
    if (match === null) throw invalidArgument(`invalid containerPort: ${word}`);
    const first = Number(match[1]);
    const last = Number(match[2] ?? match[1]);
    if (first < 1 || last > 65_535 || last < first) throw invalidArgument(`invalid containerPort: ${word}`);
    for (let port = first; port <= last; port++) ports[`${port}/${(match[3] ?? 'tcp').toLowerCase()}`] = {};
  }
  return ports;
}

function health(rest: string): NonNullable<ImageConfig['Healthcheck']> {
  if (/^NONE$/i.test(rest)) return { Test: ['NONE'] };
  const out: NonNullable<ImageConfig['Healthcheck']> = {};
  let text = rest;
  for (let m = /^--([a-z-]+)=(\S+)\s+/.exec(text); m !== null; m = /^--([a-z-]+)=(\S+)\s+/.exec(text)) {
    text = text.slice(m[0].length);
    const value = m[2] as string;
    if (m[1] === 'interval') out.Interval = nanoseconds(value);
    else if (m[1] === 'timeout') out.Timeout = nanoseconds(value);
    else if (m[1] === 'start-period') out.StartPeriod = nanoseconds(value);
    else if (m[1] === 'start-interval') out.StartInterval = nanoseconds(value);
    else if (m[1] === 'retries' && /^\d+$/.test(value)) out.Retries = Number(value);
    else throw invalidArgument(`Unknown flag: ${m[1]}`);
  }
  const test = /^CMD\s+(.+)$/is.exec(text);
  if (test === null) throw invalidArgument('Unknown type in HEALTHCHECK (try CMD)');
  const list = jsonList((test[1] as string).trim());
  out.Test = list === undefined ? ['CMD-SHELL', (test[1] as string).trim()] : ['CMD', ...list];
  return out;
}

const UNIT_NS: Readonly<Record<string, number>> = { ns: 1, us: 1e3, ms: 1e6, s: 1e9, m: 60e9, h: 3600e9 };

function nanoseconds(text: string): number {
  if (!/^(?:\d+(?:\.\d+)?(?:ns|us|ms|s|m|h))+$/.test(text)) throw invalidArgument(`invalid duration "${text}"`);
  let sum = 0;
  for (const match of text.matchAll(/(\d+(?:\.\d+)?)(ns|us|ms|s|m|h)/g)) {
    sum += Number(match[1]) * (UNIT_NS[match[2] as string] as number);
  }
  return Math.round(sum);
}

function applyOne(config: ImageConfig, name: string, rest: string): void {
  switch (name) {
    case 'CMD':
      config.Cmd = command(rest);
      return;
    case 'ENTRYPOINT':
      config.Entrypoint = command(rest);
      return;
    case 'ENV':
      setEnvironment(config, rest);
      return;
    case 'EXPOSE':
      config.ExposedPorts = { ...config.ExposedPorts, ...exposedPorts(rest) };
      return;
    case 'HEALTHCHECK':
      config.Healthcheck = health(rest);
      return;
    case 'LABEL':
      config.Labels = { ...config.Labels, ...Object.fromEntries(pairs('LABEL', rest)) };
      return;
    case 'ONBUILD':
      config.OnBuild = [...(config.OnBuild ?? []), rest];
      return;
    case 'STOPSIGNAL':
      config.StopSignal = rest;
      return;
    case 'USER':
      config.User = rest;
      return;
    case 'VOLUME':
      config.Volumes = {
        ...config.Volumes,
        ...Object.fromEntries((jsonList(rest) ?? words(rest)).map((v) => [v, {}])),
      };
      return;
    case 'WORKDIR':
      config.WorkingDir = rest.startsWith('/') ? rest : `${(config.WorkingDir ?? '').replace(/\/$/, '')}/${rest}`;
      return;
    default:
      throw invalidArgument(`${name.toLowerCase()} is not a valid change command`);
  }
}

/**
 * Applies Dockerfile instructions of `docker import --change` and `docker commit --change` to a configuration and returns the new one.
 * @throws ShoalError InvalidArgument for what is no such instruction.
 */
export function applyChanges(start: ImageConfig, changes: readonly string[]): ImageConfig {
  const config: ImageConfig = structuredClone(start);
  for (const line of changes.flatMap((change) => change.split('\n')).map((text) => text.trim())) {
    if (line === '') continue;
    const match = /^(\S+)\s*(.*)$/s.exec(line);
    const [name, rest] = [match?.[1]?.toUpperCase() ?? '', match?.[2]?.trim() ?? ''];
    if (rest === '') throw invalidArgument(`${name} requires at least one argument`);
    applyOne(config, name, rest);
  }
  return config;
}
