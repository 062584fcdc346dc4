import { invalidArgument } from '../../base/index.ts';
import type { Input } from './bytes.ts';

const BLOCK_BYTES = 512;
/** Largest extended header that is read, bytes. */
const EXTENDED_MAX_BYTES = 1024 * 1024;
/** Pieces of one sparse file at the most. */
const SPARSE_MAX = 200_000;
const NS_PER_S = 1_000_000_000n;

/** A piece of a sparse file that holds data. */
interface Extent {
  offset: number;
  length: number;
}

/** A member of an archive. Names are bytes, one per character. */
export interface TarEntry {
  name: string;
  type: string;
  linkName: string;
  mode: number;
  uid: number;
  gid: number;
  /** Bytes of the file, holes included. */
  size: number;
  mtimeNs: bigint;
  major: number;
  minor: number;
  /** By name, without the prefix of the archive's records. */
  attributes: Map<string, Buffer>;
}

interface Pending extends TarEntry {
  /** Bytes in the archive. */
  stored: number;
  extents: Extent[] | undefined;
}

const damaged = (why: string): Error => invalidArgument(`damaged archive: ${why}`);

function text(block: Buffer, start: number, length: number): string {
  const field = block.subarray(start, start + length);
  const end = field.indexOf(0);
  return field.toString('latin1', 0, end === -1 ? length : end);
}

/** Octal text, or base 256 when the top bit is set (GNU); negative numbers only as base 256. */
function numeric(block: Buffer, start: number, length: number): number {
  const first = block[start] ?? 0;
  if ((first & 0x80) !== 0) {
    let value = (first & 0x40) === 0 ? first & 0x3f : (first & 0x7f) - 0x80;
    for (let i = 1; i < length; i++) value = value * 256 + (block[start + i] ?? 0);
    return value;
  }
  const digits = text(block, start, length).trim();
  if (digits === '') return 0;
  if (!/^[0-7]+$/.test(digits)) throw damaged('a header holds no proper number');
  return Number.parseInt(digits, 8);
}

function checksumHolds(block: Buffer): boolean {
  let sum = 0;
  for (let i = 0; i < BLOCK_BYTES; i++) sum += i >= 148 && i < 156 ? 0x20 : (block[i] ?? 0);
  return sum === Number.parseInt(text(block, 148, 8).trim(), 8);
}

/** Records of a pax header in their order: "length key=value\n". Keys of sparse files may stand more than once. */
function paxRecords(body: Buffer): [string, Buffer][] {
  const records: [string, Buffer][] = [];
  for (let at = 0; at < body.length;) {
    const space = body.indexOf(0x20, at);
    const length = space === -1 ? Number.NaN : Number(body.toString('latin1', at, space));
    if (!Number.isSafeInteger(length) || length <= space - at || at + length > body.length) {
      throw damaged('a pax header does not add up');
    }
    const equals = body.indexOf(0x3d, space);
    if (equals !== -1 && equals < at + length) {
      records.push([body.toString('latin1', space + 1, equals), body.subarray(equals + 1, at + length - 1)]);
    }
    at += length;
  }
  return records;
}

function count(value: string | undefined): number {
  const number = Number(value);
  if (value === undefined || !/^\d+$/.test(value) || !Number.isSafeInteger(number)) throw damaged('an ill number');
  return number;
}

function paxTimeNs(value: string): bigint {
  const match = /^(-?)(\d+)(?:\.(\d+))?$/.exec(value);
  if (match === null) throw damaged('an ill time');
  const ns = BigInt(match[2] ?? '0') * NS_PER_S + BigInt((match[3] ?? '').slice(0, 9).padEnd(9, '0'));
  return match[1] === '-' ? -ns : ns;
}

function pairs(numbers: readonly number[]): Extent[] {
  if (numbers.length % 2 !== 0 || numbers.length > 2 * SPARSE_MAX) throw damaged('an ill map of a sparse file');
  const extents: Extent[] = [];
  for (let i = 0; i < numbers.length; i += 2) {
    extents.push({ offset: numbers[i] as number, length: numbers[i + 1] as number });
  }
  return extents;
}

const XATTR = 'SCHILY.xattr.';
const EXTENDED = new Set(['x', 'g', 'L', 'K']);

/** Reads an archive member by member (ustar, pax, GNU; sparse files of all forms). */
export class TarReader {
  readonly #in: Input;
  #entry: Pending | undefined;
  #begun = false;

  constructor(input: Input) {
    this.#in = input;
  }

  /** The next member, or undefined at the end. Content that was not taken is passed over. @throws ShoalError */
  next(): TarEntry | undefined {
    if (this.#entry !== undefined) this.#pass(this.#entry.stored, () => undefined);
    this.#entry = undefined;
    const records: [string, Buffer][] = [];
    const long = { name: '', link: '' };
    for (;;) {
      const block = this.#in.exactly(BLOCK_BYTES);
      if (block === undefined || block.every((byte) => byte === 0)) {
        if (block === undefined && (records.length > 0 || !this.#begun)) throw damaged('unexpected EOF');
        return undefined;
      }
      if (!checksumHolds(block)) throw invalidArgument('archive/tar: invalid tar header');
      this.#begun = true;
      const type = text(block, 156, 1) || '0';
      if (!EXTENDED.has(type)) {
        this.#entry = this.#member(block, type, records, long);
        return this.#entry;
      }
      const body = this.#extended(numeric(block, 124, 12));
      if (type === 'x') records.push(...paxRecords(body));
      if (type === 'L') long.name = text(body, 0, body.length);
      if (type === 'K') long.link = text(body, 0, body.length);
    }
  }

  /** Gives the content of the present member away, with where in the file each piece stands. */
  content(take: (piece: Buffer, offset: number) => void): void {
    const entry = this.#entry;
    if (entry === undefined) return;
    this.#entry = undefined;
    let [left, at] = [entry.stored, 0];
    for (const { offset, length } of entry.extents ?? [{ offset: 0, length: entry.stored }]) {
      if (length > left || offset + length > entry.size) throw damaged('a sparse file does not add up');
      at = offset;
      this.#in.pass(length, (piece) => {
        take(piece, at);
        at += piece.length;
      });
      left -= length;
    }
    this.#in.pass(left, () => undefined);
    this.#pad(entry.stored);
  }

  #pass(length: number, take: (piece: Buffer) => void): void {
    this.#in.pass(length, take);
    this.#pad(length);
  }

  #pad(length: number): void {
    this.#in.pass((BLOCK_BYTES - (length % BLOCK_BYTES)) % BLOCK_BYTES, () => undefined);
  }

  #extended(size: number): Buffer {
    if (size < 0 || size > EXTENDED_MAX_BYTES) throw damaged('an extended header is too long');
    const body = size === 0 ? Buffer.alloc(0) : this.#in.exactly(size);
    if (body === undefined) throw damaged('unexpected EOF');
    this.#pad(size);
    return body;
  }

  #member(block: Buffer, type: string, records: [string, Buffer][], long: { name: string; link: string }): Pending {
    const pax = new Map(records.map(([key, value]) => [key, value.toString('latin1')]));
    const ustar = block.toString('latin1', 257, 262) === 'ustar' && block[263] === 0x30;
    const prefix = ustar ? text(block, 345, 155) : '';
    const short = text(block, 0, 100);
    const given = (key: string, at: number, length: number): number =>
      pax.has(key) ? count(pax.get(key)) : numeric(block, at, length);
    const device = type === '3' || type === '4';
    const mtime = pax.get('mtime');
    const entry: Pending = {
      name: pax.get('path') ?? (long.name || (prefix === '' ? short : `${prefix}/${short}`)),
      // Contiguous files are plain ones here; a plain file named like a directory is one (V7).
      type: type === '7' ? '0' : type,
      linkName: pax.get('linkpath') ?? (long.link || text(block, 157, 100)),
      mode: numeric(block, 100, 8) & 0o7777,
      uid: given('uid', 108, 8),
      gid: given('gid', 116, 8),
      size: given('size', 124, 12),
      mtimeNs: mtime === undefined ? BigInt(numeric(block, 136, 12)) * NS_PER_S : paxTimeNs(mtime),
      major: device ? numeric(block, 329, 8) : 0,
      minor: device ? numeric(block, 337, 8) : 0,
      attributes: new Map(
        records.filter(([key]) => key.startsWith(XATTR)).map(([key, value]) => [key.slice(XATTR.length), value]),
      ),
      stored: 0,
      extents: undefined,
    };
    if (entry.type === '0' && entry.name.endsWith('/')) entry.type = '5';
    if (!Number.isSafeInteger(entry.size) || entry.size < 0) throw damaged('a member has no proper size');
    // Links, devices and directories carry no content, whatever their size field says.
    entry.stored = ['1', '2', '3', '4', '5', '6'].includes(entry.type) ? 0 : entry.size;
    this.#sparse(entry, block, pax, records);
    return entry;
  }

  /** Finds the map of a sparse file (GNU tar manual, "Storing Sparse Files"). */
  #sparse(entry: Pending, block: Buffer, pax: Map<string, string>, records: [string, Buffer][]): void {
    const name = pax.get('GNU.sparse.name');
    if (name !== undefined) entry.name = name;
    if (entry.type === 'S') {
      entry.type = '0';
      entry.size = numeric(block, 483, 12);
      entry.extents = this.#oldMap(block);
    } else if (pax.get('GNU.sparse.major') === '1') {
      entry.size = count(pax.get('GNU.sparse.realsize'));
      entry.extents = this.#mapInContent(entry);
    } else if (pax.has('GNU.sparse.map')) {
      entry.size = count(pax.get('GNU.sparse.size'));
      entry.extents = pairs((pax.get('GNU.sparse.map') ?? '').split(',').map(count));
    } else if (pax.has('GNU.sparse.offset')) {
      entry.size = count(pax.get('GNU.sparse.size'));
      const numbers = records.filter(([key]) => key === 'GNU.sparse.offset' || key === 'GNU.sparse.numbytes');
      entry.extents = pairs(numbers.map(([, value]) => count(value.toString('latin1'))));
    }
  }

  #oldMap(header: Buffer): Extent[] {
    const numbers: number[] = [];
    const collect = (block: Buffer, at: number, slots: number): void => {
      for (let i = 0; i < slots && block[at + i * 24] !== 0; i++) {
        numbers.push(numeric(block, at + i * 24, 12), numeric(block, at + i * 24 + 12, 12));
      }
      if (numbers.length > 2 * SPARSE_MAX) throw damaged('an ill map of a sparse file');
    };
    collect(header, 386, 4);
    for (let more = header[482] !== 0; more;) {
      const block = this.#in.exactly(BLOCK_BYTES);
      if (block === undefined) throw damaged('unexpected EOF');
      collect(block, 0, 21);
      more = block[504] !== 0;
    }
    return pairs(numbers);
  }

  /** Form 1.0: lines of numbers before the content, filled up to whole blocks. */
  #mapInContent(entry: Pending): Extent[] {
    const numbers: number[] = [];
    let rest = '';
    for (;;) {
      const wanted = numbers[0];
      if (wanted !== undefined && wanted > SPARSE_MAX) throw damaged('an ill map of a sparse file');
      if (wanted !== undefined && numbers.length > 2 * wanted) return pairs(numbers.slice(1, 2 * wanted + 1));
      const block = entry.stored >= BLOCK_BYTES ? this.#in.exactly(BLOCK_BYTES) : undefined;
      if (block === undefined) throw damaged('the map of a sparse file is cut off');
      entry.stored -= BLOCK_BYTES;
      const lines = (rest + text(block, 0, BLOCK_BYTES)).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) numbers.push(count(line));
    }
  }
}
