import { closeSync, constants, fstatSync, openSync, readlinkSync, readSync, type BigIntStats } from 'node:fs';
import { deviceParts, getExtendedAttribute, listExtendedAttributes } from '../../base/index.ts';
import type { IdMapping } from '../types.ts';
import { capabilityInside } from '../userns/file-capabilities.ts';
import { hostRoot, insideId } from '../userns/ids.ts';
import { errnoOf, Output, pathBytes } from './bytes.ts';

const BLOCK_BYTES = 512;
const READ_BYTES = 256 * 1024;
const NS_PER_S = 1_000_000_000n;
const S_IFMT = 0o170000n;
const S_IFREG = 0o100000n;
const S_IFDIR = 0o040000n;
const S_IFLNK = 0o120000n;
const S_IFCHR = 0o020000n;
const S_IFBLK = 0o060000n;
const S_IFIFO = 0o010000n;

/** Largest numbers that the fields of a ustar header hold. */
const ID_MAX = 0o7777777n;
const SIZE_MAX = 0o77777777777n;

interface Header {
  name: string;
  type: string;
  linkName: string;
  mode: number;
  uid: bigint;
  gid: bigint;
  size: bigint;
  mtime: bigint;
  major: number;
  minor: number;
}

/** Whether an attribute belongs to the file itself, not to this host or its file systems. */
function travels(name: string): boolean {
  return name.startsWith('user.') || name === 'security.capability';
}

function paxRecord(key: string, value: Buffer): Buffer {
  const rest = Buffer.concat([Buffer.from(` ${key}=`, 'latin1'), value, Buffer.from('\n')]);
  let length = rest.length + 1;
  while (String(length).length + rest.length !== length) length = String(length).length + rest.length;
  return Buffer.concat([Buffer.from(String(length)), rest]);
}

function octal(block: Buffer, value: number | bigint, at: number, width: number): void {
  block.write(value.toString(8).padStart(width - 1, '0'), at, 'latin1');
}

/** Splits a long name into prefix and name of the ustar header; undefined when that cannot be. */
function ustarName(name: string): [prefix: string, name: string] | undefined {
  if (name.length <= 100) return ['', name];
  if (name.length > 256) return undefined;
  const slash = name.indexOf('/', name.length - 101);
  if (slash <= 0 || slash > 155 || slash === name.length - 1) return undefined;
  return [name.slice(0, slash), name.slice(slash + 1)];
}

/** Writes an archive in the pax form (POSIX.1-2001) to a descriptor, file by file, in constant memory. */
export class TarWriter {
  readonly #out: Output;
  readonly #ids: IdMapping | undefined;
  readonly #copy = Buffer.alloc(READ_BYTES);
  /** Name of the first of several hard links, by device and inode. */
  readonly #links = new Map<string, string>();

  /** @param ids by which owners are told as a container sees them */
  constructor(out: Output, ids?: IdMapping) {
    this.#out = out;
    this.#ids = ids;
  }

  #owner({ uid, gid }: BigIntStats): { uid: bigint; gid: bigint } {
    if (this.#ids === undefined) return { uid, gid };
    const { uids, gids } = this.#ids;
    return { uid: BigInt(insideId(uids, Number(uid))), gid: BigInt(insideId(gids, Number(gid))) };
  }

  #attribute(name: string, value: Buffer): Buffer {
    const own = this.#ids !== undefined && name === 'security.capability';
    return own ? capabilityInside(value, hostRoot(this.#ids).uid) : value;
  }

  /**
   * Adds what `path` is, under a name. A socket, and what is gone meanwhile, is left out.
   * @param name as it stands in the archive; a directory gets its slash here.
   */
  add(path: string, name: string, stats: BigIntStats): void {
    const kind = stats.mode & S_IFMT;
    const header: Header = {
      ...{ name, type: '0', linkName: '', mode: Number(stats.mode & 0o7777n), ...this.#owner(stats) },
      ...{ size: 0n, mtime: stats.mtimeNs / NS_PER_S, major: 0, minor: 0 },
    };
    if (kind === S_IFREG) {
      this.#regular(path, header, stats);
      return;
    }
    if (kind === S_IFDIR) Object.assign(header, { type: '5', name: name.endsWith('/') ? name : `${name}/` });
    else if (kind === S_IFLNK) {
      const target = this.#linkTarget(path);
      if (target === undefined) return;
      Object.assign(header, { type: '2', linkName: target, mode: 0o777 });
    } else if (kind === S_IFCHR || kind === S_IFBLK) {
      Object.assign(header, { type: kind === S_IFCHR ? '3' : '4', ...deviceParts(stats.rdev) });
    } else if (kind === S_IFIFO) header.type = '6';
    else return;
    this.#header(header, this.#attributes(path, kind));
  }

  /** Adds an empty file of root. */
  addEmpty(name: string): void {
    const none = { type: '0', linkName: '', mode: 0, uid: 0n, gid: 0n, size: 0n, mtime: 0n, major: 0, minor: 0 };
    this.#header({ name, ...none }, []);
  }

  /** Two blocks of zeros end an archive. */
  finish(): void {
    this.#out.write(Buffer.alloc(2 * BLOCK_BYTES));
    this.#out.flush();
  }

  #linkTarget(path: string): string | undefined {
    try {
      return readlinkSync(pathBytes(path), { encoding: 'buffer' }).toString('latin1');
    } catch (error) {
      if (['ENOENT', 'EINVAL', 'ENOTDIR'].includes(errnoOf(error))) return undefined;
      throw error;
    }
  }

  #attributes(path: string, kind: bigint): Buffer[] {
    if (kind !== S_IFREG && kind !== S_IFDIR) return [];
    const bytes = pathBytes(path);
    return listExtendedAttributes(bytes)
      .filter(travels)
      .flatMap((name) => {
        const value = getExtendedAttribute(bytes, name);
        return value === undefined ? [] : [paxRecord(`SCHILY.xattr.${name}`, this.#attribute(name, value))];
      });
  }

  #regular(path: string, header: Header, stats: BigIntStats): void {
    const key = `${stats.dev}:${stats.ino}`;
    const first = stats.nlink > 1n ? this.#links.get(key) : undefined;
    if (first !== undefined) {
      this.#header({ ...header, type: '1', linkName: first }, []);
      return;
    }
    let fd: number;
    try {
      // Something else may stand here by now: a link is not followed, a pipe does not block.
      fd = openSync(pathBytes(path), constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    } catch (error) {
      if (['ENOENT', 'ELOOP', 'ENXIO', 'ENOTDIR'].includes(errnoOf(error))) return;
      throw error;
    }
    try {
      const now = fstatSync(fd, { bigint: true });
      if (!now.isFile()) return;
      if (stats.nlink > 1n) this.#links.set(key, header.name);
      this.#header({ ...header, size: now.size }, this.#attributes(path, S_IFREG));
      this.#content(fd, Number(now.size));
    } finally {
      closeSync(fd);
    }
  }

  /** As many bytes as the header has told, whatever becomes of the file meanwhile. */
  #content(fd: number, size: number): void {
    let left = size;
    while (left > 0) {
      const count = readSync(fd, this.#copy, 0, Math.min(left, READ_BYTES), null);
      const piece = count === 0 ? Buffer.alloc(Math.min(left, READ_BYTES)) : this.#copy.subarray(0, count);
      this.#out.write(piece);
      left -= piece.length;
    }
    this.#out.write(Buffer.alloc((BLOCK_BYTES - (size % BLOCK_BYTES)) % BLOCK_BYTES));
  }

  #header(header: Header, more: Buffer[]): void {
    const records = [...more];
    const split = ustarName(header.name);
    if (split === undefined) records.push(paxRecord('path', pathBytes(header.name)));
    if (header.linkName.length > 100) records.push(paxRecord('linkpath', pathBytes(header.linkName)));
    const number = (key: string, value: bigint, max: bigint): bigint => {
      if (value >= 0n && value <= max) return value;
      records.push(paxRecord(key, Buffer.from(String(value))));
      return 0n;
    };
    const uid = number('uid', header.uid, ID_MAX);
    const gid = number('gid', header.gid, ID_MAX);
    const size = number('size', header.size, SIZE_MAX);
    const mtime = number('mtime', header.mtime, SIZE_MAX);
    if (records.length > 0) this.#extended(header, Buffer.concat(records));
    this.#block(split ?? ['', header.name.slice(0, 100)], { ...header, uid, gid, size, mtime });
  }

  #extended(header: Header, body: Buffer): void {
    const name = `PaxHeaders.0/${header.name.split('/').findLast((part) => part !== '') ?? ''}`.slice(0, 100);
    this.#block(['', name], { ...header, ...{ type: 'x', linkName: '', size: BigInt(body.length) }, uid: 0n, gid: 0n });
    this.#out.write(body);
    this.#out.write(Buffer.alloc((BLOCK_BYTES - (body.length % BLOCK_BYTES)) % BLOCK_BYTES));
  }

  #block([prefix, name]: [string, string], header: Omit<Header, 'name'>): void {
    const block = Buffer.alloc(BLOCK_BYTES);
    block.write(name, 0, 100, 'latin1');
    octal(block, header.mode, 100, 8);
    octal(block, header.uid > ID_MAX ? 0n : header.uid, 108, 8);
    octal(block, header.gid > ID_MAX ? 0n : header.gid, 116, 8);
    octal(block, header.size, 124, 12);
    octal(block, header.mtime < 0n || header.mtime > SIZE_MAX ? 0n : header.mtime, 136, 12);
    block.write('        ', 148, 'latin1');
    block.write(header.type, 156, 'latin1');
    block.write(header.linkName.slice(0, 100), 157, 'latin1');
    block.write('ustar\x0000', 257, 'latin1');
    octal(block, header.major & 0o7777777, 329, 8);
    octal(block, header.minor & 0o7777777, 337, 8);
    block.write(prefix, 345, 155, 'latin1');
    let sum = 0;
    for (const byte of block) sum += byte;
    block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
    this.#out.write(block);
  }
}
