import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { failedPrecondition, readFileIfExists, writeFileDurably, type Logger } from '../../base/index.ts';
import { markWhiteouts, type Whiteouts } from './apply.ts';

const CONTAINER_ID = /^[0-9a-f]{64}$/;

/** What the root of a container stands on. */
export interface RootRecord {
  imageId: string;
  layers: string[];
  /** Driver that holds what the container has written; absent in records of earlier versions. */
  driver?: string;
}

/**
 * Reads the record of a root; undefined for what is none. A root that a power cut left without a readable list of layers
 * keeps what the container has written: the list is made again from its image at the next mount (`imageId` is empty).
 */
export function readRoot(directory: string, name: string, log: Logger): RootRecord | undefined {
  const path = join(directory, name);
  const stored = readFileIfExists(join(path, 'lower'));
  try {
    if (stored !== undefined) return JSON.parse(stored) as RootRecord;
  } catch {
    log.warn('the layers of a root are not readable and are taken from its image again', { id: name });
  }
  const written = existsSync(join(path, 'diff')) || existsSync(join(path, 'complete'));
  return CONTAINER_ID.test(name) && written ? { imageId: '', layers: [] } : undefined;
}

/**
 * What a container has written stands where another driver does not look.
 * @throws ShoalError FailedPrecondition for a root of another driver
 */
export function checkDriver(id: string, root: RootRecord, driver: string, fallback: string | undefined): void {
  if (root.driver === undefined || root.driver === driver) return;
  const why = fallback === undefined ? '' : ` (${fallback})`;
  throw failedPrecondition(
    `the root of container ${id} was made with ${root.driver}, and the daemon uses ${driver} now${why}: ` +
      `start it where ${root.driver} works, or remove the container`,
  );
}

/** Makes a layer that was unpacked to be copied say in overlayfs' terms what it hides. */
export function markLayer(path: string): void {
  const file = join(path, 'whiteouts.json');
  const whiteouts = JSON.parse(readFileSync(file, 'utf8')) as Whiteouts & { marked?: boolean };
  if (whiteouts.marked !== false) return;
  markWhiteouts(join(path, 'diff'), whiteouts);
  writeFileDurably(file, JSON.stringify({ ...whiteouts, marked: true }));
}
