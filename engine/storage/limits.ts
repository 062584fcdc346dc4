import { statfsSync } from 'node:fs';
import { ShoalError } from '../../base/index.ts';

/** Bytes that stay free on a file system whatever is unpacked: this share of it, this much at the most. */
const RESERVE_SHARE = 0.05;
const RESERVE_MAX_BYTES = 1024 ** 3;
/**
 * Archives of layers shrink to a hundredth at the most when they hold real files. What grows more than this, beyond a
 * size that does no harm, is meant to do harm. gzip cannot grow more than 1,032 times (RFC 1951); zstd can.
 */
export const EXPANSION_MAX = 2000;
export const EXPANSION_FREE_BYTES = 1024 ** 3;

export interface UnpackLimit {
  /** Bytes that may be written. */
  maxBytes: number;
  /** The error for what is more. */
  refuse: () => ShoalError;
}

const mebibytes = (bytes: number): string => `${Math.ceil(bytes / 1024 ** 2)} MiB`;

/** Bytes that may still be written below a directory without filling its file system. */
export function roomBelow(directory: string): number {
  const { bavail, bsize, blocks } = statfsSync(directory);
  return Math.max(0, bavail * bsize - Math.min(RESERVE_MAX_BYTES, blocks * bsize * RESERVE_SHARE));
}

/** The error for what would fill the disk. */
export function noSpace(what: string, neededBytes: number | undefined, directory: string): ShoalError {
  const needed = neededBytes === undefined ? '' : ` ${mebibytes(neededBytes)} are needed;`;
  const room = mebibytes(roomBelow(directory));
  return new ShoalError(
    'ResourceExhausted',
    `no space left on device: ${what} does not fit below ${directory}:${needed} ${room} may be used there, ` +
      'the rest is kept free; remove images or containers, or enlarge the disk',
  );
}

/** How far `packedBytes` of compressed data may grow below a directory. @param what it is, for the error */
export function unpackLimit(directory: string, packedBytes: number, what: string): UnpackLimit {
  const room = roomBelow(directory);
  const growth = Math.max(EXPANSION_FREE_BYTES, packedBytes * EXPANSION_MAX);
  if (growth < room) {
    const words = `refused ${what}: ${packedBytes} bytes unpack to more than ${mebibytes(growth)}; no real data is so small`;
    return { maxBytes: growth, refuse: () => new ShoalError('InvalidArgument', words) };
  }
  return { maxBytes: room, refuse: () => noSpace(what, undefined, directory) };
}

/** @throws ShoalError ResourceExhausted when so many bytes do not fit below a directory */
export function checkRoom(directory: string, bytes: number, what: string): void {
  if (bytes > roomBelow(directory)) throw noSpace(what, bytes, directory);
}

/** An error of the disk in words that name what filled it; others as they are. */
export function spaceError(error: unknown, what: string, directory: string): unknown {
  const { code } = error as NodeJS.ErrnoException;
  const full = code === 'ENOSPC' || code === 'EDQUOT' || /no space left on device|quota exceeded/i.test(String(error));
  return full && !(error instanceof ShoalError && error.code === 'ResourceExhausted')
    ? noSpace(what, undefined, directory)
    : error;
}
