import { invalidArgument } from '../../base/index.ts';

const BLOCK_BYTES = 512;
/** Largest extended header (pax record set or GNU long name) that is read, and all of one member together, bytes. */
export const TAR_EXTENDED_HEADER_MAX_BYTES = 1024 * 1024;
/** Largest number of members of one layer. */
export const TAR_MEMBERS_MAX = 4_000_000;

export interface TarMember {
  /** As stored, without trailing slash. */
  name: string;
  /** The type flag of the header; '0' for regular files. */
  type: string;
  linkName: string;
  /** Bytes of content. */
  size: number;
}

function text(block: Buffer, start: number, length: number): string {
  const field = block.subarray(start, start + length);
  const end = field.indexOf(0);
  return field.toString('utf8', 0, end === -1 ? length : end);
}

/** A number of a header: octal text, or base 256 when the top bit of the first byte is set (GNU). */
function numeric(block: Buffer, start: number, length: number): number {
  const first = block[start] as number;
  if ((first & 0x80) !== 0) {
    let value = first & 0x7f;
    for (let i = 1; i < length; i++) value = value * 256 + (block[start + i] as number);
    return value;
  }
  const digits = text(block, start, length).trim();
  return digits === '' ? 0 : Number.parseInt(digits, 8);
}

function checksumHolds(block: Buffer): boolean {
  let sum = 0;
  for (let i = 0; i < BLOCK_BYTES; i++) sum += i >= 148 && i < 156 ? 0x20 : (block[i] as number);
  return sum === numeric(block, 148, 8);
}

/** The records of a pax extended header: "length key=value\n" each (POSIX.1-2001, pax). */
function paxRecords(body: Buffer): Map<string, string> {
  const records = new Map<string, string>();
  for (let at = 0; at < body.length;) {
    const space = body.indexOf(0x20, at);
    const length = space === -1 ? Number.NaN : Number(body.toString('latin1', at, space));
    if (!Number.isSafeInteger(length) || length <= space - at || at + length > body.length) {
      throw invalidArgument('damaged archive: a pax header does not add up');
    }
    const equals = body.indexOf(0x3d, space);
    if (equals !== -1 && equals < at + length) {
      records.set(body.toString('utf8', space + 1, equals), body.toString('utf8', equals + 1, at + length - 1));
    }
    at += length;
  }
  return records;
}

const PENDING_TYPES = new Set(['x', 'g', 'L', 'K']);

/**
 * Reads the member headers of a tar stream that is pushed through in pieces (POSIX ustar and pax, GNU long names and
 * sparse members). It keeps no content.
 * @throws ShoalError InvalidArgument for what is not a tar archive.
 */
export class TarScanner {
  readonly #onMember: (member: TarMember) => void;
  #held: Buffer = Buffer.alloc(0);
  #skip = 0;
  #members = 0;
  #ended = false;
  #sparseExtension = 0;
  #collect: { type: string; size: number; padded: number } | undefined;
  #pax = new Map<string, string>();
  #extendedBytes = 0;
  #longName: string | undefined;
  #longLink: string | undefined;

  constructor(onMember: (member: TarMember) => void) {
    this.#onMember = onMember;
  }

  push(chunk: Buffer): void {
    let data = this.#held.length === 0 ? chunk : Buffer.concat([this.#held, chunk]);
    while (data.length > 0) {
      if (this.#skip > 0) {
        const step = Math.min(this.#skip, data.length);
        this.#skip -= step;
        data = data.subarray(step);
        continue;
      }
      const wanted = this.#collect?.padded ?? BLOCK_BYTES;
      if (data.length < wanted) break;
      const piece = data.subarray(0, wanted);
      data = data.subarray(wanted);
      if (this.#collect !== undefined) this.#extended(piece.subarray(0, this.#collect.size), this.#collect.type);
      else this.#block(piece);
    }
    this.#held = Buffer.from(data);
  }

  /** @throws ShoalError InvalidArgument when the archive stops in the middle of a member. */
  finish(): void {
    if (this.#skip > 0 || this.#collect !== undefined || (!this.#ended && this.#held.length > 0)) {
      throw invalidArgument('damaged archive: unexpected EOF');
    }
  }

  #extended(body: Buffer, type: string): void {
    this.#collect = undefined;
    if (type === 'x') for (const [key, value] of paxRecords(body)) this.#pax.set(key, value);
    const name = body.toString('utf8').replace(/\0.*$/s, '');
    if (type === 'L') this.#longName = name;
    if (type === 'K') this.#longLink = name;
  }

  #block(block: Buffer): void {
    if (this.#sparseExtension > 0) {
      // An old GNU sparse member has more map blocks before its content.
      if (block[504] === 0) {
        this.#skip = this.#sparseExtension - 1;
        this.#sparseExtension = 0;
      }
      return;
    }
    if (this.#ended) return;
    if (block.every((byte) => byte === 0)) {
      this.#ended = true;
      return;
    }
    if (!checksumHolds(block)) throw invalidArgument('invalid tar header: this is not a tar archive, or it is damaged');
    this.#header(block);
  }

  #header(block: Buffer): void {
    const type = String.fromCharCode(block[156] as number).replace('\0', '0');
    const paxSize = this.#pax.get('size');
    const size = PENDING_TYPES.has(type) || paxSize === undefined ? numeric(block, 124, 12) : Number(paxSize);
    if (!Number.isSafeInteger(size) || size < 0) throw invalidArgument('damaged archive: a member has no proper size');
    const padded = Math.ceil(size / BLOCK_BYTES) * BLOCK_BYTES;
    if (PENDING_TYPES.has(type)) {
      this.#extendedBytes += size;
      if (this.#extendedBytes > TAR_EXTENDED_HEADER_MAX_BYTES) {
        const words = `its extended headers have ${this.#extendedBytes} bytes, ${TAR_EXTENDED_HEADER_MAX_BYTES} is the most`;
        throw invalidArgument(
          `damaged archive: an extended header is too long: after member ${this.#members} ${words}`,
        );
      }
      if (size > 0) this.#collect = { type, size, padded };
      return;
    }
    const prefix = block.toString('latin1', 257, 262) === 'ustar' && block[263] === 0x30 ? text(block, 345, 155) : '';
    const short = text(block, 0, 100);
    const pax = this.#pax;
    const name =
      pax.get('GNU.sparse.name') ?? pax.get('path') ?? this.#longName ?? (prefix === '' ? short : `${prefix}/${short}`);
    const linkName = pax.get('linkpath') ?? this.#longLink ?? text(block, 157, 100);
    this.#pax = new Map();
    this.#extendedBytes = 0;
    this.#longName = undefined;
    this.#longLink = undefined;
    // Links, devices and directories carry no content, whatever their size field says.
    const content = type === '1' || type === '2' || type === '3' || type === '4' || type === '5' || type === '6';
    this.#skip = content ? 0 : padded;
    if (type === 'S' && block[482] === 1) {
      this.#sparseExtension = padded + 1;
      this.#skip = 0;
    }
    if (++this.#members > TAR_MEMBERS_MAX) throw invalidArgument(`an archive may hold ${TAR_MEMBERS_MAX} members`);
    this.#onMember({ name: name.replace(/\/+$/, ''), type, linkName, size: content ? 0 : size });
  }
}
