import { crc32 } from 'node:zlib';
import { assert } from '../../base/index.ts';
import { get64, put64 } from './record.ts';
import { payloadBytesOnDisk, sealPayload } from './seal.ts';
import type { LogKey } from './keys.ts';

/**
 * A frame is one batch as it stands in a segment: a header of 64 bytes, the payload (records, see record.ts; sealed when
 * there is a data key), 1 to 8 bytes 0xff up to a multiple of 8. Each frame is synced before the next is written, and
 * sequence numbers have no gaps, over all segments.
 *
 * The header says in clear what the log was after the frame: its last index, term, vote and commit index. So the newest
 * header that can be read tells what this member may have promised, even when entries before it are damaged.
 *
 * Every sector's part of a frame holds at least two bytes that are not zero (see `maskFor`). So a sector of zeros was
 * never written (a torn write), and no single flipped bit makes a written sector look like one.
 */
export const FRAME_HEADER_BYTES = 64;
export const FRAME_ALIGN_BYTES = 8;
const PADDING = 0xff;
/** Disks write sectors of this size whole or not at all. */
export const SECTOR_BYTES = 512;
const MAGIC = Buffer.from('ShWg', 'latin1');
/** Of logs before 0.2: headers of 24 bytes. */
const FORMAT_1_HEADER_BYTES = 24;
const MAGIC_FORMAT_1 = Buffer.from('ShWf', 'latin1');
/** Bytes of the header that are bound to a sealed payload. */
const BOUND_BYTES = 52;
/** Magic and checksums alone are more than this. */
const STRAY_BYTES_MAX = 2;
const ZEROS = Buffer.alloc(256 * 1024);

const FLAG_HEAD = 1;
const FLAG_CHECKPOINT = 2;

/** What the header says. */
export interface FrameHeader {
  sequence: number;
  /** Last index of the log after this frame; 0 when it is empty. */
  lastIndex: number;
  term: number;
  vote: number;
  commit: number;
  /** First frame of a segment. */
  head: boolean;
  /** Holds the whole log: nothing before counts, and the sequence number may jump forward. */
  checkpoint: boolean;
}

export interface ReadHeader extends FrameHeader {
  /** Bytes of the payload on the disk. */
  length: number;
  /** 0 in clear. */
  keyId: number;
  mask: number;
  payloadCrc: number;
  /** The bytes that a sealed payload is bound to. */
  bound: Buffer;
}

/** Bytes a payload of `payloadBytes` on the disk takes in a segment. */
export function frameBytes(payloadBytes: number): number {
  const raw = FRAME_HEADER_BYTES + payloadBytes + 1;
  return Math.ceil(raw / FRAME_ALIGN_BYTES) * FRAME_ALIGN_BYTES;
}

/** What encrypts frames from now on: the key, and random bytes of this opening of the log. */
export interface FrameSeal {
  key: LogKey;
  salt: Uint8Array;
}

/** Bytes of a whole frame whose records take `recordBytes`. */
export function wholeFrameBytes(recordBytes: number, sealed: boolean): number {
  return frameBytes(payloadBytesOnDisk(recordBytes, sealed));
}

/**
 * One frame, in one buffer.
 * @param position where it will stand in its segment: decides where sectors begin.
 * @param fill writes the records, `recordBytes` of them, at an offset of a buffer.
 */
export function encodeFrame(
  header: FrameHeader,
  position: number,
  recordBytes: number,
  fill: (target: Buffer, at: number) => void,
  seal: FrameSeal | null,
): Buffer {
  const length = payloadBytesOnDisk(recordBytes, seal !== null);
  const frame = Buffer.allocUnsafe(frameBytes(length));
  const end = FRAME_HEADER_BYTES + length;
  frame.fill(PADDING, end);
  MAGIC.copy(frame, 0);
  frame.writeUInt32LE(length, 4);
  put64(frame, 8, header.sequence);
  put64(frame, 16, header.lastIndex);
  put64(frame, 24, header.term);
  put64(frame, 32, header.vote);
  put64(frame, 40, header.commit);
  frame.writeUInt32LE(seal?.key.id ?? 0, 48);
  if (seal === null) fill(frame, FRAME_HEADER_BYTES);
  else {
    const plain = Buffer.allocUnsafe(recordBytes);
    fill(plain, 0);
    sealPayload(frame, FRAME_HEADER_BYTES, plain, header.sequence, seal, frame.subarray(0, BOUND_BYTES));
  }
  const payload = frame.subarray(FRAME_HEADER_BYTES, end);
  const mask = maskFor(frame, position);
  if (mask !== 0) applyMask(payload, mask);
  frame.writeUInt16LE(mask, 52);
  frame.writeUInt16LE((header.head ? FLAG_HEAD : 0) | (header.checkpoint ? FLAG_CHECKPOINT : 0), 54);
  frame.writeUInt32LE(crc32(payload), 56);
  frame.writeUInt32LE(crc32(frame.subarray(0, 60)), 60);
  return frame;
}

/** XORs a payload with a repeated number of 16 bits; done twice it gives back what was. */
export function applyMask(payload: Buffer, mask: number): void {
  const low = mask & 0xff;
  const high = mask >>> 8;
  for (let i = 0; i < payload.length; i++) payload[i] = (payload[i] as number) ^ (i % 2 === 0 ? low : high);
}

/** Positions in `frame` where a new sector of the segment begins, and its end. */
function nextSector(at: number, position: number, end: number): number {
  return Math.min(end, at + SECTOR_BYTES - ((position + at) % SECTOR_BYTES));
}

/** Whether at most one byte of [from, to) is not zero. */
function nearlyZero(bytes: Buffer, from: number, to: number, evenMask = 0, oddMask = 0): boolean {
  let seen = 0;
  for (let i = from; i < to; i++) {
    const inPayload = i >= FRAME_HEADER_BYTES;
    const mask = inPayload ? (i % 2 === 0 ? evenMask : oddMask) : 0;
    if (((bytes[i] as number) ^ mask) !== 0 && ++seen > 1) return false;
  }
  return true;
}

/**
 * A mask under which no sector's part of the frame is nearly zero; 0, no mask, for nearly all data. Each sector can rule
 * out few masks, and there are more masks than sectors in a frame, so one is always found.
 */
function maskFor(frame: Buffer, position: number): number {
  const fits = (mask: number): boolean => {
    for (let at = 0; at < frame.length;) {
      const stop = nextSector(at, position, frame.length);
      // A last part can be one byte of padding; one flipped bit does not make 0xff zero.
      if (stop - at > 1 && nearlyZero(frame, at, stop, mask & 0xff, mask >>> 8)) return false;
      at = stop;
    }
    return true;
  };
  for (let mask = 0; mask <= 0xffff; mask++) if (fits(mask)) return mask;
  assert(false, 'a frame has fewer sectors than there are masks');
}

export type FrameRead =
  | { kind: 'frame'; header: ReadHeader; payload: Buffer; next: number }
  /** Nothing was written here or after. */
  | { kind: 'end' }
  /**
   * A write that a crash cut short: the last of the log, never acknowledged. Or `stray` bytes where nothing was written:
   * too few to be left of a frame.
   */
  | { kind: 'torn'; stray: boolean }
  /** Was written whole and is not what was written. `next` is where reading can go on, null when nothing follows. */
  | { kind: 'damaged'; reason: string; header: ReadHeader | null; next: number | null };

/** The header at `offset`, if one stands there whole. */
export function readHeader(file: Buffer, offset: number): ReadHeader | undefined {
  if (offset + FRAME_HEADER_BYTES > file.length) return undefined;
  const bytes = file.subarray(offset, offset + FRAME_HEADER_BYTES);
  if (!bytes.subarray(0, 4).equals(MAGIC)) return undefined;
  if (crc32(bytes.subarray(0, 60)) !== bytes.readUInt32LE(60)) return undefined;
  const flags = bytes.readUInt16LE(54);
  return {
    length: bytes.readUInt32LE(4),
    sequence: get64(bytes, 8),
    lastIndex: get64(bytes, 16),
    term: get64(bytes, 24),
    vote: get64(bytes, 32),
    commit: get64(bytes, 40),
    keyId: bytes.readUInt32LE(48),
    mask: bytes.readUInt16LE(52),
    head: (flags & FLAG_HEAD) !== 0,
    checkpoint: (flags & FLAG_CHECKPOINT) !== 0,
    payloadCrc: bytes.readUInt32LE(56),
    bound: bytes.subarray(0, BOUND_BYTES),
  };
}

/** Whether a segment begins with a whole header of format 1 (a flipped bit of a magic is not enough). */
export function isFormat1(file: Buffer): boolean {
  if (file.length < FORMAT_1_HEADER_BYTES || !file.subarray(0, 4).equals(MAGIC_FORMAT_1)) return false;
  return crc32(file.subarray(0, 20)) === file.readUInt32LE(20);
}

function allZero(file: Buffer, start: number, end: number): boolean {
  for (let at = start; at < end; at += ZEROS.length) {
    const stop = Math.min(end, at + ZEROS.length);
    if (file.compare(ZEROS, 0, stop - at, at, stop) !== 0) return false;
  }
  return true;
}

/** Whether some sector's part of [start, end) was never written: it still holds the zeros of the preallocation. */
function hasUnwrittenSector(file: Buffer, start: number, end: number): boolean {
  if (end > file.length) return true;
  for (let at = start; at < end;) {
    const stop = Math.min(end, (Math.floor(at / SECTOR_BYTES) + 1) * SECTOR_BYTES);
    if (allZero(file, at, stop)) return true;
    at = stop;
  }
  return false;
}

/**
 * Where the next whole header after `offset` stands. Entries may hold bytes that look like one, so its number must fit:
 * after `sequence`, by not more than there is room for.
 */
function findHeader(file: Buffer, offset: number, sequence: number): number | null {
  for (let at = file.indexOf(MAGIC, offset); at >= 0; at = file.indexOf(MAGIC, at + 1)) {
    if (at % FRAME_ALIGN_BYTES !== 0) continue;
    const header = readHeader(file, at);
    if (header === undefined || header.sequence <= sequence) continue;
    if (sequence === 0 || header.sequence <= sequence + 1 + at / FRAME_HEADER_BYTES) return at;
  }
  return null;
}

/** Whether no more than a flipped bit or two stand from `offset` on: every frame has more bytes that are not zero. */
function isStray(file: Buffer, offset: number): boolean {
  let seen = 0;
  for (let at = offset; at < file.length; at += SECTOR_BYTES) {
    const stop = Math.min(file.length, at + SECTOR_BYTES);
    if (allZero(file, at, stop)) continue;
    for (let i = at; i < stop; i++) if (file[i] !== 0 && ++seen > STRAY_BYTES_MAX) return false;
  }
  return true;
}

/** Reads the frame at `offset` of a segment. @param sequence of the frame before, 0 when not known. */
export function readFrame(file: Buffer, offset: number, sequence: number): FrameRead {
  const header = readHeader(file, offset);
  if (header === undefined) return readBadHeader(file, offset, sequence);
  const start = offset + FRAME_HEADER_BYTES;
  const next = offset + frameBytes(header.length);
  const payload = file.subarray(start, start + header.length);
  if (payload.length === header.length && crc32(payload) === header.payloadCrc) {
    return { kind: 'frame', header, payload, next };
  }
  if (next < file.length && !allZero(file, next, file.length)) {
    return { kind: 'damaged', reason: 'checksum of the payload does not match', header, next };
  }
  if (hasUnwrittenSector(file, offset, next)) return { kind: 'torn', stray: false };
  const reason = 'checksum of the last payload does not match although all of it was written';
  return { kind: 'damaged', reason, header, next: null };
}

function readBadHeader(file: Buffer, offset: number, sequence: number): FrameRead {
  const end = Math.min(offset + FRAME_HEADER_BYTES, file.length);
  if (allZero(file, offset, file.length)) return { kind: 'end' };
  if (isStray(file, offset)) return { kind: 'torn', stray: true };
  const found = findHeader(file, offset, sequence);
  if (found !== null) {
    return { kind: 'damaged', reason: 'a header is damaged and frames follow', header: null, next: found };
  }
  // To the end of the header's last sector: other bytes of the frame show that it was written.
  const sectorEnd = Math.ceil(end / SECTOR_BYTES) * SECTOR_BYTES;
  if (offset + FRAME_HEADER_BYTES > file.length || hasUnwrittenSector(file, offset, Math.min(sectorEnd, file.length))) {
    return { kind: 'torn', stray: false };
  }
  return { kind: 'damaged', reason: 'the header is damaged', header: null, next: null };
}
