import {
  chmodSync,
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  ftruncateSync,
  lchownSync,
  linkSync,
  mkdirSync,
  openSync,
  rmSync,
  symlinkSync,
} from 'node:fs';
import { posix } from 'node:path';
import { invalidArgument, makeNode, setExtendedAttributeBytes, setTimesNs, SystemCallError } from '../../base/index.ts';
import type { IdMapping } from '../types.ts';
import { capabilityOnHost } from '../userns/file-capabilities.ts';
import { hostOwner, hostRoot } from '../userns/ids.ts';
import { joined, look, pathBytes, pathText, writeAll } from './bytes.ts';
import { TarReader, type TarEntry } from './tar-read.ts';
import type { Input } from './bytes.ts';

const S_IFCHR = 0o020000;
const S_IFBLK = 0o060000;
const S_IFIFO = 0o010000;
/** Members of one archive at the most. */
const MEMBERS_MAX = 4_000_000;

const EPERM = 1;
const EOPNOTSUPP = 95;
const ENODATA = 61;

export interface ExtractOptions {
  /** Refuses to replace a directory by something else and the other way round. */
  noOverwriteDirNonDir: boolean;
  /** Owner of everything written, as the container sees it; undefined: as the archive says. */
  owner: { uid: number; gid: number } | undefined;
  /** What users are on the host; undefined: the same. */
  ids?: IdMapping | undefined;
}

/** A member's name as a clean path relative to the target; `.` for the target itself. */
function cleanName(name: string): string {
  const clean = posix.normalize(`./${name}`).replace(/\/+$/, '');
  if (clean === '..' || clean.startsWith('../')) {
    throw invalidArgument(`refused archive: ${JSON.stringify(pathText(name))} is outside of the directory it goes to`);
  }
  return clean;
}

/** Unpacks an archive into a directory of the view that this process is confined to, as Docker does. */
export class Extractor {
  readonly #target: string;
  readonly #options: ExtractOptions;
  /** Times of directories are set last: what is written into them changes them. */
  readonly #directories = new Map<string, bigint>();
  readonly #now = BigInt(Date.now()) * 1_000_000n;

  constructor(target: string, options: ExtractOptions) {
    this.#target = target;
    this.#options = options;
  }

  /** @throws ShoalError InvalidArgument for what is no archive, or one that reaches outside. */
  run(input: Input): void {
    const reader = new TarReader(input);
    let members = 0;
    for (let entry = reader.next(); entry !== undefined; entry = reader.next()) {
      if (++members > MEMBERS_MAX) throw invalidArgument(`an archive may hold ${MEMBERS_MAX} members`);
      this.#member(entry, reader);
    }
    for (const [path, ns] of [...this.#directories].reverse())
      if (look(path)?.isDirectory()) setTimesNs(pathBytes(path), ns);
    input.drain();
  }

  #member(entry: TarEntry, reader: TarReader): void {
    const name = cleanName(entry.name);
    const path = name === '.' ? this.#target : joined(this.#target, name);
    if (name !== '.') this.#parents(posix.dirname(path));
    const found = look(path);
    if (found !== undefined) {
      const [isDirectory, wanted] = [found.isDirectory(), entry.type === '5'];
      this.#checkKinds(path, isDirectory, wanted);
      if (isDirectory && name === '.') return;
      if (!(isDirectory && wanted)) rmSync(pathBytes(path), { recursive: true, force: true });
    }
    this.#make(path, entry, reader);
  }

  #checkKinds(path: string, isDirectory: boolean, wanted: boolean): void {
    if (!this.#options.noOverwriteDirNonDir || isDirectory === wanted) return;
    const [old, fresh] = isDirectory ? ['directory', 'non-directory'] : ['non-directory', 'directory'];
    const [at, to] = [JSON.stringify(pathText(path)), JSON.stringify(pathText(this.#target))];
    throw invalidArgument(`cannot overwrite ${old} ${at} with ${fresh} ${to}`);
  }

  #parents(path: string): void {
    if (look(path) !== undefined) return;
    this.#parents(posix.dirname(path));
    mkdirSync(pathBytes(path), { mode: 0o755 });
    const { owner, ids } = this.#options;
    if (owner === undefined && ids === undefined) return;
    const { uid, gid } = hostOwner(ids, owner ?? { uid: 0, gid: 0 });
    lchownSync(pathBytes(path), uid, gid);
  }

  #make(path: string, entry: TarEntry, reader: TarReader): void {
    const at = pathBytes(path);
    switch (entry.type) {
      case '0':
        this.#file(path, entry, reader);
        return;
      case '1': {
        const target = cleanName(entry.linkName);
        // linkat does not follow: a link to a link is a second name of that link.
        linkSync(pathBytes(joined(this.#target, target)), at);
        return;
      }
      case '2':
        symlinkSync(pathBytes(entry.linkName), at);
        this.#own(at, entry);
        setTimesNs(at, this.#time(entry));
        return;
      case '3':
      case '4':
        makeNode(at, (entry.type === '3' ? S_IFCHR : S_IFBLK) | 0o600, entry.major, entry.minor);
        break;
      case '6':
        makeNode(at, S_IFIFO | 0o600, 0, 0);
        break;
      case '5':
        if (look(path) === undefined) mkdirSync(at, { mode: 0o700 });
        this.#directories.set(path, this.#time(entry));
        break;
      default:
        throw invalidArgument(`unhandled tar header type ${JSON.stringify(entry.type)} of ${pathText(entry.name)}`);
    }
    this.#own(at, entry);
    // The owner first: a change of it takes setuid bits away.
    chmodSync(at, entry.mode);
    this.#attributes(at, entry);
    if (entry.type !== '5') setTimesNs(at, this.#time(entry));
  }

  #file(path: string, entry: TarEntry, reader: TarReader): void {
    const at = pathBytes(path);
    // O_EXCL: whatever was put here since is not opened, and a link not followed.
    const fd = openSync(at, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW, 0o600);
    try {
      let end = 0;
      reader.content((piece, offset) => {
        writeAll(fd, piece, offset);
        end = offset + piece.length;
      });
      if (end < entry.size) ftruncateSync(fd, entry.size);
      const { uid, gid } = this.#owner(entry);
      fchownSync(fd, uid, gid);
      fchmodSync(fd, entry.mode);
    } finally {
      closeSync(fd);
    }
    this.#attributes(at, entry);
    setTimesNs(at, this.#time(entry));
  }

  #own(at: Buffer, entry: TarEntry): void {
    const { uid, gid } = this.#owner(entry);
    lchownSync(at, uid, gid);
  }

  #owner(entry: TarEntry): { uid: number; gid: number } {
    return hostOwner(this.#options.ids, this.#options.owner ?? entry);
  }

  #onHost(name: string, value: Buffer): Buffer {
    const { ids } = this.#options;
    const own = ids !== undefined && name === 'security.capability';
    return own ? capabilityOnHost(value, hostRoot(ids).uid) : value;
  }

  /** Attributes of another host's file systems and security rules mean nothing here. */
  #attributes(at: Buffer, entry: TarEntry): void {
    for (const [name, value] of entry.attributes) {
      if (name.startsWith('trusted.') || name === 'security.selinux' || name === 'security.ima') continue;
      try {
        setExtendedAttributeBytes(at, name, this.#onHost(name, value));
      } catch (error) {
        if (!(error instanceof SystemCallError) || ![EPERM, EOPNOTSUPP, ENODATA].includes(error.errno)) throw error;
      }
    }
  }

  #time(entry: TarEntry): bigint {
    return entry.mtimeNs === 0n ? this.#now : entry.mtimeNs;
  }
}
