import { rename, rm, stat } from 'node:fs/promises';
import { invalidArgument } from '../../base/index.ts';
import { LOG_FILES_MAX } from './reader.ts';

/** How a container's log is kept. */
export interface LogPolicy {
  driver: 'json-file' | 'local' | 'none';
  /** Bytes after which a new file is begun; 0 for never. */
  maxSizeBytes: number;
  /** Files kept, the present one included. */
  maxFiles: number;
}

/**
 * The size at which conmon itself begins its file anew, dropping what was in it: right for a log of one file. With more
 * files the daemon rotates and conmon must not, as it counts the bytes of all its files together; such a log grows
 * without bound while no daemon runs.
 */
export function conmonSizeLimit(policy: LogPolicy): number {
  return policy.maxFiles === 1 ? policy.maxSizeBytes : 0;
}

const UNITS: Readonly<Record<string, number>> = { '': 1, b: 1, k: 1024, m: 1024 ** 2, g: 1024 ** 3, t: 1024 ** 4 };

/** Bytes of Docker's size texts: 10m, 512k, 1.5g, 10MB. @throws ShoalError InvalidArgument. */
export function parseSize(text: string): number {
  const match = /^(\d+(?:\.\d+)?) ?([bkmgt]?)i?b?$/i.exec(text.trim());
  const unit = UNITS[(match?.[2] ?? '').toLowerCase()];
  if (match === null || unit === undefined) throw invalidArgument(`invalid size: '${text}'`);
  return Math.floor(Number(match[1]) * unit);
}

/** Options that are taken but have no meaning in our file form. */
const ACCEPTED = ['max-size', 'max-file', 'compress', 'mode', 'max-buffer-size', 'labels', 'labels-regex', 'env'];
ACCEPTED.push('env-regex', 'tag');

/** Reads a log driver's options in Docker's words. @throws ShoalError InvalidArgument for an unknown driver or option. */
export function logPolicy(driver: { type: string; config: Readonly<Record<string, string>> }): LogPolicy {
  const type = driver.type === '' ? 'json-file' : driver.type;
  if (type === 'none') return { driver: type, maxSizeBytes: 0, maxFiles: 1 };
  if (type !== 'json-file' && type !== 'local') {
    throw invalidArgument(`logger: no log driver named '${type}' is registered; use json-file, local or none`);
  }
  for (const key of Object.keys(driver.config)) {
    if (!ACCEPTED.includes(key)) throw invalidArgument(`unknown log opt '${key}' for ${type} log driver`);
  }
  const local = type === 'local';
  const size = driver.config['max-size'];
  const files = driver.config['max-file'];
  const maxFiles = files === undefined ? (local ? 5 : 1) : Number(files);
  if (!Number.isInteger(maxFiles) || maxFiles < 1) throw invalidArgument('max-file cannot be less than 1');
  const maxSizeBytes = size === undefined || size === '-1' ? (local ? 20 * 1024 ** 2 : 0) : parseSize(size);
  return { driver: type, maxSizeBytes, maxFiles: Math.min(maxFiles, LOG_FILES_MAX) };
}

/**
 * Begins a new log file when the present one has grown beyond its size: the older ones move up by one, the oldest goes.
 * @param reopen makes the writer open the path anew; false when no writer is there.
 */
export async function rotateIfDue(path: string, policy: LogPolicy, reopen: () => boolean): Promise<boolean> {
  if (policy.maxSizeBytes === 0 || policy.maxFiles === 1) return false;
  const size = (await stat(path).catch(() => undefined))?.size ?? 0;
  if (size < policy.maxSizeBytes) return false;
  await rm(`${path}.${policy.maxFiles - 1}`, { force: true });
  for (let n = policy.maxFiles - 2; n >= 1; n--) await renameIfExists(`${path}.${n}`, `${path}.${n + 1}`);
  await renameIfExists(path, `${path}.1`);
  return reopen();
}

async function renameIfExists(from: string, to: string): Promise<void> {
  try {
    await rename(from, to);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
}
