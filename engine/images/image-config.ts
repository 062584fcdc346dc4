import { invalidArgument } from '../../base/index.ts';
import type { Image, ImageConfig } from '../types.ts';
import { LAYERS_MAX } from '../storage/index.ts';
import { isDigest } from './reference.ts';

/** Largest image configuration or manifest that is read, bytes. */
export const DOCUMENT_MAX_BYTES = 8 * 1024 * 1024;

/** What is known of an image from its configuration alone. */
export type ImageFacts = Omit<Image, 'id' | 'repoTags' | 'repoDigests' | 'sizeBytes'>;

type Json = Readonly<Record<string, unknown>>;

export function isObject(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

export function parseJson(bytes: Uint8Array | string, what: string): Json {
  let value: unknown;
  try {
    value = JSON.parse(typeof bytes === 'string' ? bytes : Buffer.from(bytes).toString('utf8'));
  } catch {
    throw invalidArgument(`${what} is not JSON`);
  }
  if (!isObject(value)) throw invalidArgument(`${what} is not a JSON object`);
  return value;
}

export function textOf(value: unknown): string {
  return typeof value === 'string' ? value : '';
}

function textList(value: unknown): string[] | undefined {
  if (!Array.isArray(value)) return undefined;
  return value.filter((item): item is string => typeof item === 'string');
}

function textMap(value: unknown): Record<string, string> | undefined {
  if (!isObject(value)) return undefined;
  const entries = Object.entries(value).filter((entry): entry is [string, string] => typeof entry[1] === 'string');
  return Object.fromEntries(entries);
}

function keySet(value: unknown): Record<string, object> | undefined {
  return isObject(value) ? Object.fromEntries(Object.keys(value).map((key) => [key, {}])) : undefined;
}

function healthcheck(value: unknown): ImageConfig['Healthcheck'] {
  if (!isObject(value)) return undefined;
  const out: NonNullable<ImageConfig['Healthcheck']> = {};
  const test = textList(value['Test']);
  if (test !== undefined) out.Test = test;
  for (const key of ['Interval', 'Timeout', 'StartPeriod', 'StartInterval', 'Retries'] as const) {
    const number = value[key];
    if (typeof number === 'number') out[key] = number;
  }
  return out;
}

/** Reads settings under Docker's names; unknown or ill-typed ones are left out. */
export function parseRunConfig(value: unknown): ImageConfig {
  if (!isObject(value)) return {};
  const config: ImageConfig = {};
  const env = textList(value['Env']);
  if (env !== undefined) config.Env = env;
  for (const key of ['Cmd', 'Entrypoint'] as const) {
    const list = textList(value[key]);
    if (list !== undefined) config[key] = list;
  }
  for (const key of ['OnBuild', 'Shell'] as const) {
    const list = textList(value[key]);
    if (list !== undefined) config[key] = list;
  }
  for (const key of ['WorkingDir', 'User', 'StopSignal'] as const) {
    const text = textOf(value[key]);
    if (text !== '') config[key] = text;
  }
  const labels = textMap(value['Labels']);
  if (labels !== undefined) config.Labels = labels;
  for (const key of ['ExposedPorts', 'Volumes'] as const) {
    const set = keySet(value[key]);
    if (set !== undefined) config[key] = set;
  }
  const health = healthcheck(value['Healthcheck']);
  if (health !== undefined) config.Healthcheck = health;
  return config;
}

function historyOf(value: unknown): Image['history'] {
  if (!Array.isArray(value)) return [];
  return value.filter(isObject).map((item) => {
    const entry: Image['history'][number] = {};
    for (const key of ['created', 'created_by', 'comment'] as const) {
      const text = textOf(item[key]);
      if (text !== '') entry[key] = text;
    }
    if (item['empty_layer'] === true) entry.empty_layer = true;
    return entry;
  });
}

/**
 * Reads an OCI or Docker image configuration; unknown or ill-typed fields are left out.
 * @throws ShoalError InvalidArgument when it does not say which layers the image has, or not for Linux.
 */
export function parseImageConfig(bytes: Uint8Array): ImageFacts {
  const json = parseJson(bytes, 'the image configuration');
  const rootfs = json['rootfs'];
  const diffIds = isObject(rootfs) ? textList(rootfs['diff_ids']) : undefined;
  if (diffIds === undefined || !diffIds.every(isDigest)) {
    throw invalidArgument('invalid image configuration: rootfs.diff_ids is not a list of sha256 digests');
  }
  if (diffIds.length > LAYERS_MAX) {
    throw invalidArgument(`the image has ${diffIds.length} layers; ${LAYERS_MAX} is the most`);
  }
  const os = textOf(json['os']) || 'linux';
  if (os !== 'linux') throw invalidArgument(`image operating system "${os}" cannot be used on this platform`);
  const createdMs = Date.parse(textOf(json['created']));
  return {
    createdMs: Number.isFinite(createdMs) && createdMs > 0 ? createdMs : 0,
    architecture: textOf(json['architecture']),
    os,
    variant: textOf(json['variant']),
    diffIds,
    config: parseRunConfig(json['config']),
    history: historyOf(json['history']),
    author: textOf(json['author']),
    comment: textOf(json['comment']),
  };
}

/** The OCI name of this machine's processor. */
export function hostArchitecture(arch: string = process.arch): string {
  const names: Readonly<Record<string, string>> = { x64: 'amd64', ia32: '386' };
  return names[arch] ?? arch;
}
