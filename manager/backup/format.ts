import { createHash, type Hash } from 'node:crypto';
import { invalidArgument, ShoalError, type Random } from '../../base/index.ts';
import { ChunkCipher, TAG_BYTES, type Encryption } from './seal.ts';

/**
 * A backup file:
 *   magic (8 bytes) · length of the header (4) · start of the header's SHA-256 (4) · header (JSON)
 *   chunks: length of the plain content (4, top bit: the last one) · content · when encrypted, 16 bytes of tag
 *   SHA-256 of everything before (32)
 * The contents of the chunks, one after the other, are records: kind (1) · length (4) · bytes. All numbers big-endian.
 */
const MAGIC = Buffer.from('SHOALBAK');
/** Newest format that this version writes and reads. */
export const FORMAT = 1;
const CHUNK_BYTES = 256 * 1024;
const CHUNK_BYTES_MAX = 4 * 1024 * 1024;
const HEADER_BYTES_MAX = 64 * 1024;
const RECORD_BYTES_MAX = 64 * 1024 * 1024;
const HASH_BYTES = 32;
const CHECK_BYTES = 4;
const LAST = 0x8000_0000;

/** What anybody can read of a backup. */
export interface BackupHeader {
  format: number;
  /** Version of Shoal that wrote it. */
  version: string;
  /** Unix ms. */
  createdMs: number;
  encryption: Encryption | null;
}

export interface BackupRecord {
  kind: number;
  data: Uint8Array;
}

const number32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
};
const sha256 = (bytes: Uint8Array): Buffer => createHash('sha256').update(bytes).digest();
const damaged = (what: string): ShoalError =>
  new ShoalError('DataLoss', `the backup is damaged: ${what}; take another copy of it`);

export interface WriteOptions {
  version: string;
  createdMs: number;
  passphrase: string | undefined;
  random: Random;
}

/** Pieces of about CHUNK_BYTES out of records. */
function* chunksOf(records: Iterable<BackupRecord>): Generator<{ content: Buffer; last: boolean }> {
  let waiting: Uint8Array[] = [];
  let bytes = 0;
  for (const { kind, data } of records) {
    const head = Buffer.alloc(5);
    head.writeUInt8(kind);
    head.writeUInt32BE(data.length, 1);
    for (const piece of [head, data]) {
      for (let at = 0; at < piece.length; at += CHUNK_BYTES) {
        const part = piece.subarray(at, at + CHUNK_BYTES);
        waiting.push(part);
        bytes += part.length;
        if (bytes < CHUNK_BYTES) continue;
        yield { content: Buffer.concat(waiting), last: false };
        waiting = [];
        bytes = 0;
      }
    }
  }
  yield { content: Buffer.concat(waiting), last: true };
}

/** The bytes of a backup; the key is made before this resolves, the rest as it is read. */
export async function writeBackup(
  records: Iterable<BackupRecord>,
  options: WriteOptions,
): Promise<AsyncGenerator<Buffer>> {
  const { passphrase, random, version, createdMs } = options;
  const made = passphrase === undefined ? undefined : await ChunkCipher.create(passphrase, random);
  const header: BackupHeader = { format: FORMAT, version, createdMs, encryption: made?.encryption ?? null };
  return sealedChunks(records, header, made?.cipher);
}

/** A turn of the event loop between two chunks: a large store must not hold up the manager. */
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

async function* sealedChunks(
  records: Iterable<BackupRecord>,
  header: BackupHeader,
  cipher: ChunkCipher | undefined,
): AsyncGenerator<Buffer> {
  const hash = createHash('sha256');
  const out = (bytes: Buffer): Buffer => {
    hash.update(bytes);
    return bytes;
  };
  const text = Buffer.from(JSON.stringify(header));
  const check = sha256(text);
  yield out(Buffer.concat([MAGIC, number32(text.length), check.subarray(0, CHECK_BYTES), text]));
  let number = 0;
  for (const { content, last } of chunksOf(records)) {
    const head = number32(last ? content.length + LAST : content.length);
    const sealed = cipher?.seal(number++, Buffer.concat([head, check]), content) ?? content;
    yield out(Buffer.concat([head, sealed]));
    await turn();
  }
  yield hash.digest();
}

/** Takes bytes from a stream in the pieces that its reader wants. */
class ByteReader {
  readonly #source: AsyncIterator<Uint8Array>;
  readonly #hash: Hash = createHash('sha256');
  #have: Buffer = Buffer.alloc(0);

  constructor(source: AsyncIterable<Uint8Array>) {
    this.#source = source[Symbol.asyncIterator]();
  }

  async #fill(count: number): Promise<boolean> {
    if (this.#have.length >= count) return true;
    const parts: Uint8Array[] = [this.#have];
    let bytes = this.#have.length;
    while (bytes < count) {
      const next = await this.#source.next();
      if (next.done === true) break;
      parts.push(next.value);
      bytes += next.value.length;
    }
    this.#have = Buffer.concat(parts);
    return bytes >= count;
  }

  /** @throws ShoalError DataLoss when the stream ends before */
  async take(count: number): Promise<Buffer> {
    if (!(await this.#fill(count))) throw damaged('it ends too early');
    const taken = this.#have.subarray(0, count);
    this.#have = this.#have.subarray(count);
    this.#hash.update(taken);
    return taken;
  }

  /** Compares the checksum, which must be the end of the stream. */
  async finish(): Promise<void> {
    const wanted = this.#hash.digest();
    if (!(await this.#fill(HASH_BYTES))) throw damaged('it ends too early');
    if (await this.#fill(HASH_BYTES + 1)) throw damaged('something follows its end');
    if (Buffer.compare(this.#have, wanted) !== 0) throw damaged('its checksum does not fit');
  }
}

async function readHeader(reader: ByteReader): Promise<{ header: BackupHeader; check: Buffer }> {
  const magic = await reader.take(MAGIC.length).catch(() => Buffer.alloc(0));
  if (Buffer.compare(magic, MAGIC) !== 0) {
    throw invalidArgument('this is no backup of a swarm: "shoal swarm backup FILE" makes one');
  }
  const length = (await reader.take(4)).readUInt32BE();
  if (length > HEADER_BYTES_MAX) throw damaged('its header cannot be that long');
  const start = await reader.take(CHECK_BYTES);
  const text = await reader.take(length);
  const check = sha256(text);
  if (Buffer.compare(check.subarray(0, CHECK_BYTES), start) !== 0)
    throw damaged('the checksum of its header does not fit');
  const header = JSON.parse(text.toString('utf8')) as BackupHeader;
  if (header.format > FORMAT) {
    throw new ShoalError(
      'FailedPrecondition',
      `the backup was written by Shoal ${header.version} in format ${header.format}; this version reads up to format ` +
        `${FORMAT}: use that version of Shoal, or a newer one`,
    );
  }
  return { header, check };
}

/** A backup being read: its header at once, its records one after the other. */
export interface BackupReading {
  header: BackupHeader;
  /**
   * Every record once. Only when this has ended without a fault is the whole known to be undamaged.
   * @throws ShoalError DataLoss
   */
  records: () => AsyncGenerator<BackupRecord>;
}

/**
 * Begins to read a backup.
 * @throws ShoalError InvalidArgument (no backup; passphrase missing or wrong), FailedPrecondition (newer format), DataLoss
 */
export async function readBackup(
  source: AsyncIterable<Uint8Array>,
  passphrase: string | undefined,
): Promise<BackupReading> {
  const reader = new ByteReader(source);
  const { header, check } = await readHeader(reader);
  let cipher: ChunkCipher | undefined;
  if (header.encryption !== null) {
    if (passphrase === undefined) throw invalidArgument('the backup is encrypted: give its passphrase');
    cipher = await ChunkCipher.open(passphrase, header.encryption);
  }
  return { header, records: () => recordsOf(contents(reader, cipher, check)) };
}

async function* contents(reader: ByteReader, cipher: ChunkCipher | undefined, check: Buffer): AsyncGenerator<Buffer> {
  for (let number = 0, last = false; !last; number++) {
    const head = await reader.take(4);
    const word = head.readUInt32BE();
    last = word >= LAST;
    const length = word % LAST;
    if (length > CHUNK_BYTES_MAX) throw damaged('a part of it cannot be that long');
    const bound = Buffer.concat([head, check]);
    const bytes = await reader.take(length + (cipher === undefined ? 0 : TAG_BYTES));
    if (cipher === undefined) yield bytes;
    else yield opened(cipher, number, bound, bytes);
  }
  await reader.finish();
}

function opened(cipher: ChunkCipher, number: number, bound: Buffer, bytes: Buffer): Buffer {
  try {
    return cipher.open(number, bound, bytes);
  } catch {
    throw damaged('a part of it is not what was encrypted');
  }
}

async function* recordsOf(source: AsyncIterable<Buffer>): AsyncGenerator<BackupRecord> {
  let parts: Buffer[] = [];
  let have = 0;
  for await (const content of source) {
    parts.push(content);
    have += content.length;
    for (;;) {
      if (have < 5) break;
      if ((parts[0]?.length ?? 0) < 5) parts = [Buffer.concat(parts)];
      const length = (parts[0] as Buffer).readUInt32BE(1);
      if (length > RECORD_BYTES_MAX) throw damaged('an object in it cannot be that large');
      if (have < 5 + length) break;
      const all = parts.length === 1 ? (parts[0] as Buffer) : Buffer.concat(parts);
      yield { kind: all.readUInt8(), data: all.subarray(5, 5 + length) };
      parts = [all.subarray(5 + length)];
      have -= 5 + length;
    }
  }
  if (have > 0) throw damaged('its last object is not whole');
}
