import { crc32 } from 'node:zlib';
import { must, ShoalError } from '../../base/index.ts';
import { RaftSnapshot, RaftSnapshotMetadata } from '../../proto/index.ts';
import type { LogDisk } from './disk.ts';
import type { LogKey, LogKeyRing } from './keys.ts';
import { get64, put64 } from './record.ts';
import { findKey, openSnapshot, SEAL_NONCE_BYTES, sealSnapshot } from './seal.ts';
import { SNAP_DIR } from './segment.ts';

/**
 * A snapshot file: a header of 64 bytes (magic, key id, index, term, length of the metadata, length of the body, nonce,
 * CRC-32 of the body, CRC-32 of the header), then the body: metadata (protobuf) and data, sealed when there is a key.
 */
const MAGIC = Buffer.from('ShS2', 'latin1');
const HEADER_BYTES = 64;
const BOUND_BYTES = 52;

/** Index and term of a snapshot, and where its file is. */
export interface SnapshotId {
  index: number;
  term: number;
}

function hex(value: number): string {
  return value.toString(16).padStart(14, '0');
}

export function snapshotPath({ index, term }: SnapshotId): string {
  return `${SNAP_DIR}/snap-${hex(term)}-${hex(index)}.snap`;
}

export function snapshotId(snapshot: RaftSnapshot): SnapshotId {
  const { index, term } = must(snapshot.metadata, 'snapshot metadata');
  return { index, term };
}

/** Snapshots that have a file, newest first. */
export function listSnapshots(disk: LogDisk): SnapshotId[] {
  const out: SnapshotId[] = [];
  for (const name of disk.list(SNAP_DIR)) {
    const match = /^snap-([0-9a-f]{14})-([0-9a-f]{14})\.snap$/.exec(name);
    if (match === null) continue;
    out.push({ term: Number.parseInt(match[1] ?? '', 16), index: Number.parseInt(match[2] ?? '', 16) });
  }
  return out.sort((a, b) => b.index - a.index || b.term - a.term);
}

/** The content of a snapshot file, in parts. */
export function encodeSnapshot(
  snapshot: RaftSnapshot,
  key: LogKey | null,
  randomBytes: (count: number) => Uint8Array,
): Uint8Array[] {
  const { index, term } = snapshotId(snapshot);
  const metadata = RaftSnapshotMetadata.encode(must(snapshot.metadata, 'snapshot metadata'));
  const header = Buffer.alloc(HEADER_BYTES);
  MAGIC.copy(header, 0);
  header.writeUInt32LE(key?.id ?? 0, 4);
  put64(header, 8, index);
  put64(header, 16, term);
  header.writeUInt32LE(metadata.length, 24);
  put64(header, 28, metadata.length + snapshot.data.length);
  if (key !== null) header.set(randomBytes(SEAL_NONCE_BYTES), 36);
  let body: Uint8Array[] = [metadata, snapshot.data];
  if (key !== null) {
    body = sealSnapshot(body, key, header.subarray(36, 36 + SEAL_NONCE_BYTES), header.subarray(0, BOUND_BYTES));
  }
  let crc = 0;
  for (const part of body) crc = crc32(part, crc);
  header.writeUInt32LE(crc, 52);
  header.writeUInt32LE(crc32(header.subarray(0, 60)), 60);
  return [header, ...body];
}

function badSnapshot(path: string, reason: string, cause?: unknown): ShoalError {
  return new ShoalError('DataLoss', `raft snapshot ${path}: ${reason}`, { cause });
}

/** Key id of a snapshot file whose header is good; undefined otherwise. */
export function snapshotKeyId(file: Buffer): number | undefined {
  if (file.length < HEADER_BYTES || !file.subarray(0, 4).equals(MAGIC)) return undefined;
  return crc32(file.subarray(0, 60)) === file.readUInt32LE(60) ? file.readUInt32LE(4) : undefined;
}

/**
 * Decodes a snapshot file.
 * @throws ShoalError DataLoss when it is damaged, FailedPrecondition when its key is not known.
 */
export function decodeSnapshot(file: Buffer, id: SnapshotId, keys: LogKeyRing | null, path: string): RaftSnapshot {
  const keyId = snapshotKeyId(file);
  if (keyId === undefined) throw badSnapshot(path, 'the header is damaged (offset 0)');
  if (get64(file, 8) !== id.index || get64(file, 16) !== id.term) throw badSnapshot(path, 'it is of another index');
  let body = file.subarray(HEADER_BYTES);
  if (crc32(body) !== file.readUInt32LE(52)) {
    throw badSnapshot(path, `the checksum does not match (offset ${HEADER_BYTES})`);
  }
  if (keyId !== 0) {
    const key = findKey(keys, keyId, `raft snapshot ${path}`);
    const nonce = file.subarray(36, 36 + SEAL_NONCE_BYTES);
    body = openSnapshot(body, key, nonce, file.subarray(0, BOUND_BYTES), `raft snapshot ${path}`);
  }
  if (body.length !== get64(file, 28)) throw badSnapshot(path, `it has ${body.length} bytes instead of its length`);
  const metadataEnd = file.readUInt32LE(24);
  try {
    const metadata = RaftSnapshotMetadata.decode(body.subarray(0, metadataEnd));
    const data = new Uint8Array(body.buffer, body.byteOffset + metadataEnd, body.length - metadataEnd);
    return RaftSnapshot.create({ metadata, data });
  } catch (error) {
    throw badSnapshot(path, 'its metadata is no protobuf message', error);
  }
}

/** Reads a snapshot file. @throws ShoalError DataLoss when it is missing or damaged, FailedPrecondition without its key. */
export function readSnapshot(
  disk: LogDisk,
  id: SnapshotId,
  keys: LogKeyRing | null,
): { snapshot: RaftSnapshot; keyId: number } {
  const path = snapshotPath(id);
  let file: Buffer;
  try {
    file = disk.read(path);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') throw badSnapshot(path, 'it is missing', error);
    // A sector that the disk cannot give back.
    if (code === 'EIO') throw badSnapshot(path, 'the disk cannot read it', error);
    throw error;
  }
  return { snapshot: decodeSnapshot(file, id, keys, path), keyId: snapshotKeyId(file) ?? 0 };
}
