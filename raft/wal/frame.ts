import { crc32 } from 'node:zlib';

/**
 * A frame is one batch as it stands in a segment: a header of 24 bytes (magic, payload length, sequence number, CRC-32
 * of the payload, CRC-32 of the header before it), the payload, 1 to 8 bytes 0xff up to a multiple of 8 (so that no
 * frame ends with zeros, which would look like a sector that was never written). Each frame is synced before
 * the next is written, and sequence numbers have no gaps, over all segments.
 */
export const FRAME_HEADER_BYTES = 24;
export const FRAME_ALIGN_BYTES = 8;
const PADDING = 0xff;
/** Disks write sectors of this size whole or not at all. */
const SECTOR_BYTES = 512;
const MAGIC = Buffer.from('ShWf', 'latin1');

/** Bytes a payload takes in a segment. */
export function frameBytes(payloadBytes: number): number {
  const raw = FRAME_HEADER_BYTES + payloadBytes + 1;
  return Math.ceil(raw / FRAME_ALIGN_BYTES) * FRAME_ALIGN_BYTES;
}

export function encodeFrame(sequence: number, payload: Buffer): Buffer {
  const frame = Buffer.alloc(frameBytes(payload.length), PADDING);
  MAGIC.copy(frame, 0);
  frame.writeUInt32LE(payload.length, 4);
  frame.writeUInt32LE(sequence >>> 0, 8);
  frame.writeUInt32LE(Math.floor(sequence / 2 ** 32), 12);
  frame.writeUInt32LE(crc32(payload), 16);
  frame.writeUInt32LE(crc32(frame.subarray(0, 20)), 20);
  payload.copy(frame, FRAME_HEADER_BYTES);
  return frame;
}

export type FrameRead =
  | { kind: 'frame'; sequence: number; payload: Buffer; next: number }
  /** Nothing was written here or after. */
  | { kind: 'end' }
  /** A write that a crash cut short: the last of the log, never acknowledged. */
  | { kind: 'torn' }
  | { kind: 'corrupt'; reason: string };

interface Header {
  sequence: number;
  length: number;
  payloadCrc: number;
}

function readHeader(file: Buffer, offset: number): Header | undefined {
  if (offset + FRAME_HEADER_BYTES > file.length) return undefined;
  const header = file.subarray(offset, offset + FRAME_HEADER_BYTES);
  if (!header.subarray(0, 4).equals(MAGIC)) return undefined;
  if (crc32(header.subarray(0, 20)) !== header.readUInt32LE(20)) return undefined;
  return {
    length: header.readUInt32LE(4),
    sequence: header.readUInt32LE(12) * 2 ** 32 + header.readUInt32LE(8),
    payloadCrc: header.readUInt32LE(16),
  };
}

function allZero(bytes: Buffer): boolean {
  return bytes.every((byte) => byte === 0);
}

/** Whether some sector's part of [start, end) was never written: it still holds the zeros of the preallocation. */
function hasUnwrittenSector(file: Buffer, start: number, end: number): boolean {
  if (end > file.length) return true;
  for (let at = start; at < end;) {
    const stop = Math.min(end, (Math.floor(at / SECTOR_BYTES) + 1) * SECTOR_BYTES);
    if (allZero(file.subarray(at, stop))) return true;
    at = stop;
  }
  return false;
}

/** Whether any whole header stands after `offset`. Frames after a bad one prove that the bad one was once good. */
function frameFollows(file: Buffer, offset: number): boolean {
  for (let at = file.indexOf(MAGIC, offset); at >= 0; at = file.indexOf(MAGIC, at + 1)) {
    if (at % FRAME_ALIGN_BYTES === 0 && readHeader(file, at) !== undefined) return true;
  }
  return false;
}

/**
 * Reads the frame at `offset` of a segment. A frame that fails its checks is `torn` only when no other frame follows
 * and a sector of it was never written; anything else that fails is `corrupt`.
 */
export function readFrame(file: Buffer, offset: number): FrameRead {
  const header = readHeader(file, offset);
  if (header === undefined) return readBadHeader(file, offset);
  const end = offset + FRAME_HEADER_BYTES + header.length;
  const payload = file.subarray(offset + FRAME_HEADER_BYTES, end);
  if (payload.length === header.length && crc32(payload) === header.payloadCrc) {
    return { kind: 'frame', sequence: header.sequence, payload, next: offset + frameBytes(header.length) };
  }
  // The search begins after this payload, which may itself hold bytes that look like a header.
  if (frameFollows(file, Math.min(end, file.length))) {
    return { kind: 'corrupt', reason: 'checksum of the payload does not match' };
  }
  if (hasUnwrittenSector(file, offset, offset + frameBytes(header.length))) return { kind: 'torn' };
  return { kind: 'corrupt', reason: 'checksum of the last payload does not match although all of it was written' };
}

function readBadHeader(file: Buffer, offset: number): FrameRead {
  const end = Math.min(offset + FRAME_HEADER_BYTES, file.length);
  const rest = file.subarray(offset);
  if (allZero(rest)) return { kind: 'end' };
  if (frameFollows(file, end)) return { kind: 'corrupt', reason: 'header is damaged and frames follow' };
  if (hasUnwrittenSector(file, offset, offset + FRAME_HEADER_BYTES)) return { kind: 'torn' };
  return { kind: 'corrupt', reason: 'header is damaged' };
}
