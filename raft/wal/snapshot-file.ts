import { closeSync, fsyncSync, openSync, readdirSync, readFileSync, renameSync, unlinkSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { ShoalError, syncDirectory } from '../../base/index.ts';
import { RaftSnapshot } from '../../proto/index.ts';

const MAGIC = Buffer.from('ShSn', 'latin1');
const HEADER_BYTES = 16;

function hex(value: number): string {
  return value.toString(16).padStart(14, '0');
}

export function snapshotName(index: number, term: number): string {
  return `snap-${hex(term)}-${hex(index)}.snap`;
}

/** Writes all of `bytes` at `position`. */
export function writeFully(fd: number, bytes: Uint8Array, position: number): void {
  let done = 0;
  while (done < bytes.length) done += writeSync(fd, bytes, done, bytes.length - done, position + done);
}

/** Writes a snapshot so that it stands whole under its name, or not at all. */
export function writeSnapshotFile(dir: string, snapshot: RaftSnapshot): void {
  const { index, term } = snapshot.metadata ?? { index: 0, term: 0 };
  const body = RaftSnapshot.encode(snapshot);
  const header = Buffer.alloc(HEADER_BYTES);
  MAGIC.copy(header, 0);
  header.writeUInt32LE(crc32(body), 4);
  header.writeUInt32LE(body.length >>> 0, 8);
  header.writeUInt32LE(Math.floor(body.length / 2 ** 32), 12);
  const path = join(dir, snapshotName(index, term));
  const beside = `${path}.new`;
  const fd = openSync(beside, 'w', 0o600);
  try {
    writeFully(fd, header, 0);
    writeFully(fd, body, HEADER_BYTES);
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
  renameSync(beside, path);
  syncDirectory(dir);
}

/** @throws ShoalError DataLoss when the file is missing or damaged. */
export function readSnapshotFile(dir: string, index: number, term: number): RaftSnapshot {
  const path = join(dir, snapshotName(index, term));
  const bad = (reason: string, cause?: unknown): ShoalError =>
    new ShoalError(
      'DataLoss',
      `raft snapshot ${path}: ${reason}; remove this manager from the cluster and join it anew`,
      { cause },
    );
  let file: Buffer;
  try {
    file = readFileSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') throw bad('is missing', error);
    throw error;
  }
  if (file.length < HEADER_BYTES || !file.subarray(0, 4).equals(MAGIC)) throw bad('is no snapshot (offset 0)');
  const length = file.readUInt32LE(12) * 2 ** 32 + file.readUInt32LE(8);
  const body = file.subarray(HEADER_BYTES);
  if (body.length !== length) throw bad(`has ${body.length} bytes after its header instead of ${length}`);
  if (crc32(body) !== file.readUInt32LE(4)) throw bad(`checksum does not match (offset ${HEADER_BYTES})`);
  const snapshot = RaftSnapshot.decode(body);
  if (snapshot.metadata?.index !== index || snapshot.metadata.term !== term) throw bad('is of another index');
  return snapshot;
}

/** Deletes all snapshot files but one (none is kept when `index` is 0). */
export function deleteOtherSnapshots(dir: string, index: number, term: number): void {
  const keep = index === 0 ? '' : snapshotName(index, term);
  for (const name of readdirSync(dir)) {
    if (name.startsWith('snap-') && name !== keep) unlinkSync(join(dir, name));
  }
}
