import { errorMessage, invalidArgument } from '../../base/index.ts';
import { checkSyslog } from './syslog.ts';

export type LogDriverName = 'json-file' | 'local' | 'journald' | 'syslog' | 'none';

/** A log driver as a user names it; an empty type is the daemon's default. */
export interface LogDriver {
  type: string;
  config: Readonly<Record<string, string>>;
}

/** How a container's log is kept on disk. Drivers that send it elsewhere keep a bounded copy here, for `docker logs`. */
export interface LogPolicy {
  driver: LogDriverName;
  /** Bytes after which a new file is begun; 0 for never. */
  maxSizeBytes: number;
  /** Files kept, the present one included. */
  maxFiles: number;
  /** Whether files that are written to no more are compressed. */
  compress: boolean;
}

/** Files of one log at most, whatever was asked for. */
export const LOG_FILES_MAX = 1000;
const UNITS: Readonly<Record<string, number>> = { '': 1, b: 1, k: 1024, m: 1024 ** 2, g: 1024 ** 3, t: 1024 ** 4 };

/** Bytes of Docker's size texts: 10m, 512k, 1.5g, 10MB. @throws ShoalError InvalidArgument. */
export function parseSize(text: string): number {
  const match = /^(\d+(?:\.\d+)?) ?([bkmgt]?)i?b?$/i.exec(text.trim());
  const unit = UNITS[(match?.[2] ?? '').toLowerCase()];
  if (match === null || unit === undefined) throw invalidArgument(`invalid size: '${text}'`);
  return Math.floor(Number(match[1]) * unit);
}

const DETAILS = ['labels', 'labels-regex', 'env', 'env-regex', 'tag'];
const CACHE = ['cache-disabled', 'cache-max-size', 'cache-max-file', 'cache-compress'];
const SYSLOG = ['address', 'facility', 'format', 'tls-ca-cert', 'tls-cert', 'tls-key', 'tls-skip-verify'].map(
  (option) => `syslog-${option}`,
);
/** Options of every driver but `none`. */
const COMMON = ['mode', 'max-buffer-size'];

/** Options of each driver (docs of Docker, "Configure logging drivers"). */
const OPTIONS: Readonly<Record<LogDriverName, readonly string[]>> = {
  'json-file': ['max-size', 'max-file', 'compress', ...DETAILS],
  local: ['max-size', 'max-file', 'compress'],
  journald: [...DETAILS, ...CACHE],
  syslog: [...SYSLOG, ...DETAILS, ...CACHE],
  none: [],
};

export const LOG_DRIVERS = Object.keys(OPTIONS) as LogDriverName[];

/** Sizes of `local`, and of the copy that the drivers without files keep. */
const LOCAL_SIZE = '20m';
const LOCAL_FILES = '5';

function unknownOption(key: string, driver: LogDriverName): Error {
  const where = driver === 'local' ? 'log driver local' : `${driver} log driver`;
  return invalidArgument(`unknown log opt '${key}' for ${where}`);
}

function bool(key: string, text: string): boolean {
  if (/^(1|t|true)$/i.test(text)) return true;
  if (/^(0|f|false)$/i.test(text)) return false;
  throw invalidArgument(`invalid value for log opt ${key}: ${text}: true or false is expected`);
}

function checkCommon({ config }: LogDriver): void {
  const mode = config['mode'] ?? '';
  if (!['', 'blocking', 'non-blocking'].includes(mode)) {
    throw invalidArgument(`logger: logging mode not supported: ${mode}`);
  }
  const buffer = config['max-buffer-size'];
  if (buffer === undefined) return;
  if (mode !== 'non-blocking') {
    throw invalidArgument("logger: max-buffer-size option is only supported with 'mode=non-blocking'");
  }
  parseSize(buffer);
}

function sizes(config: LogDriver['config'], prefix: string, size: string | undefined, files: string): LogPolicy {
  const wanted = config[`${prefix}max-size`] ?? size;
  const maxSizeBytes = wanted === undefined || wanted === '-1' ? 0 : parseSize(wanted);
  if (wanted !== undefined && wanted !== '-1' && maxSizeBytes === 0) {
    throw invalidArgument(`invalid value for ${prefix}max-size: ${wanted} must be more than 0`);
  }
  const maxFiles = Number(config[`${prefix}max-file`] ?? files);
  if (!Number.isInteger(maxFiles) || maxFiles < 1) throw invalidArgument('max-file cannot be less than 1');
  const compressText = config[`${prefix}compress`];
  const rotates = maxFiles > 1 && maxSizeBytes > 0;
  const compress = compressText === undefined ? size !== undefined : bool(`${prefix}compress`, compressText);
  if (compressText !== undefined && compress && !rotates) {
    throw invalidArgument('compress cannot be true when max-file is less than 2 or max-size is not set');
  }
  return { driver: 'local', maxSizeBytes, maxFiles: Math.min(maxFiles, LOG_FILES_MAX), compress: compress && rotates };
}

/**
 * Reads a log driver's options, as Docker does at create.
 * @throws ShoalError InvalidArgument in Docker's words for an unknown driver or option.
 */
export function logPolicy(driver: LogDriver): LogPolicy {
  const type = driver.type === '' ? 'json-file' : driver.type;
  const name = LOG_DRIVERS.find((known) => known === type);
  if (name === undefined) throw invalidArgument(`logger: no log driver named '${type}' is registered`);
  if (name === 'none') return { driver: name, maxSizeBytes: 0, maxFiles: 1, compress: false };
  for (const key of Object.keys(driver.config)) {
    if (!OPTIONS[name].includes(key) && !COMMON.includes(key)) throw unknownOption(key, name);
  }
  checkCommon(driver);
  for (const key of ['labels-regex', 'env-regex']) pattern(driver.config[key]);
  if (driver.config['tag'] !== undefined) checkTag(driver.config['tag']);
  if (name === 'syslog') checkSyslog(driver.config);
  if (name === 'json-file') return { ...sizes(driver.config, '', undefined, '1'), driver: name };
  const prefix = name === 'local' ? '' : 'cache-';
  return { ...sizes(driver.config, prefix, LOCAL_SIZE, LOCAL_FILES), driver: name };
}

/** Whether `docker logs` is refused: the user wants no copy of what is sent elsewhere. */
export function unreadable({ type, config }: LogDriver): boolean {
  return (
    type === 'none' || (config['cache-disabled'] !== undefined && bool('cache-disabled', config['cache-disabled']))
  );
}

/** The driver of a container: the daemon's default where none was named, with its options where none were given. */
export function withLogDefaults(driver: LogDriver, defaults: LogDriver): LogDriver {
  const type = driver.type === '' ? defaults.type : driver.type;
  return { type, config: type === defaults.type ? { ...defaults.config, ...driver.config } : driver.config };
}

function pattern(text: string | undefined): RegExp | undefined {
  if (text === undefined || text === '') return undefined;
  try {
    return new RegExp(text);
  } catch {
    throw invalidArgument(`invalid regular expression in log options: ${text}`);
  }
}

/** Facts about a container that tags and details are made of. */
export interface LogSubject {
  id: string;
  name: string;
  imageId: string;
  imageName: string;
  labels: Readonly<Record<string, string>>;
  env: readonly string[];
}

const TAG_WORDS: Readonly<Record<string, (subject: LogSubject) => string>> = {
  ID: ({ id }) => id.slice(0, 12),
  FullID: ({ id }) => id,
  Name: ({ name }) => name,
  ImageID: ({ imageId }) => imageId.replace(/^sha256:/, '').slice(0, 12),
  ImageFullID: ({ imageId }) => imageId,
  ImageName: ({ imageName }) => imageName,
  DaemonName: () => 'docker',
};

/** Makes a tag from its template, such as `{{.ImageName}}/{{.Name}}`. */
export function logTag(template: string, subject: LogSubject): string {
  return template.replace(/\{\{\s*\.(\w+)\s*\}\}/g, (_, word: string) => TAG_WORDS[word]?.(subject) ?? '');
}

function checkTag(template: string): void {
  const rest = template.replace(/\{\{\s*\.(\w+)\s*\}\}/g, (whole, word: string) => (word in TAG_WORDS ? '' : whole));
  if (!rest.includes('{{')) return;
  throw invalidArgument(`invalid log tag template ${template}: known are ${Object.keys(TAG_WORDS).join(', ')}`);
}

/** Labels and variables that the options ask for, and the tag when there is one: `docker logs --details`. */
export function logAttributes({ config }: LogDriver, subject: LogSubject): Record<string, string> {
  const attributes: Record<string, string> = {};
  const listed = (key: string): string[] => (config[key] ?? '').split(',').filter((name) => name !== '');
  const take = (names: string[], matching: RegExp | undefined, all: Readonly<Record<string, string>>): void => {
    for (const [name, value] of Object.entries(all)) {
      if (names.includes(name) || matching?.test(name) === true) attributes[name] = value;
    }
  };
  take(listed('labels'), pattern(config['labels-regex']), subject.labels);
  const env = subject.env.map((text): [string, string] => {
    const at = text.indexOf('=');
    return at < 0 ? [text, ''] : [text.slice(0, at), text.slice(at + 1)];
  });
  take(listed('env'), pattern(config['env-regex']), Object.fromEntries(env));
  const tag = config['tag'];
  return tag === undefined || tag === '' ? attributes : { ...attributes, tag: logTag(tag, subject) };
}

/** Attributes in the words of `--details`: `a=b,c=d`, escaped as in a URL's query, sorted. */
export function attributeText(attributes: Readonly<Record<string, string>>): string {
  const escape = (text: string): string => new URLSearchParams({ x: text }).toString().slice(2);
  return Object.keys(attributes)
    .sort()
    .map((name) => `${escape(name)}=${escape(attributes[name] ?? '')}`)
    .join(',');
}

/** Checks the daemon's own defaults. @throws ShoalError InvalidArgument in dockerd's words */
export function checkLogDefaults(driver: LogDriver): void {
  try {
    logPolicy(driver);
  } catch (error) {
    throw invalidArgument(`failed to set log opts: ${errorMessage(error)}`);
  }
}
