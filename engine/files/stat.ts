import { readlinkSync, realpathSync, type BigIntStats } from 'node:fs';
import { posix } from 'node:path';
import { invalidArgument } from '../../base/index.ts';
import { joined, look, pathBytes, pathText } from './bytes.ts';
import type { PathStat } from './words.ts';

const S_IFMT = 0o170000;
/** Bits of Go's io/fs.FileMode for the kinds of stat(2). */
const GO_KIND: Readonly<Record<number, number>> = {
  0o040000: 2 ** 31,
  0o120000: 2 ** 27,
  0o060000: 2 ** 26,
  0o010000: 2 ** 25,
  0o140000: 2 ** 24,
  0o020000: 2 ** 26 + 2 ** 21,
};
const GO_SETUID = 2 ** 23;
const GO_SETGID = 2 ** 22;
const GO_STICKY = 2 ** 20;
/** Symbolic links followed on one path (the kernel's own limit). */
const LINKS_MAX = 40;

/** A mode of stat(2) as Go's io/fs.FileMode. */
export function goFileMode(mode: number): number {
  let bits = (mode & 0o777) + (GO_KIND[mode & S_IFMT] ?? 0);
  if ((mode & 0o4000) !== 0) bits += GO_SETUID;
  if ((mode & 0o2000) !== 0) bits += GO_SETGID;
  if ((mode & 0o1000) !== 0) bits += GO_STICKY;
  return bits;
}

/** RFC 3339 in UTC with as many digits of the second as are not zero. */
function rfc3339(ns: bigint): string {
  const seconds = ns >= 0n ? ns / 1_000_000_000n : (ns - 999_999_999n) / 1_000_000_000n;
  const rest = String(ns - seconds * 1_000_000_000n)
    .padStart(9, '0')
    .replace(/0+$/, '');
  const whole = new Date(Number(seconds) * 1000).toISOString().replace(/\.000Z$/, '');
  return `${whole}${rest === '' ? '' : `.${rest}`}Z`;
}

/** An absolute path from what a user wrote; a trailing slash or `/.` stays, for it asks for a directory. */
export function absolutePath(path: string): string {
  const clean = posix.join('/', path).replace(/(.)\/+$/, '$1');
  if (/(?:^|\/)\.$/.test(path)) return joined(clean, '.');
  return path.endsWith('/') && clean !== '/' ? `${clean}/` : clean;
}

/** Where a link leads in the end; parts that do not exist are taken as written. */
function followed(path: string): string {
  const pending = path.split('/').reverse();
  const done: string[] = [];
  let links = 0;
  for (let part = pending.pop(); part !== undefined; part = pending.pop()) {
    if (part === '' || part === '.') continue;
    if (part === '..') {
      done.pop();
      continue;
    }
    const at = `/${[...done, part].join('/')}`;
    if (look(at)?.isSymbolicLink() !== true) {
      done.push(part);
      continue;
    }
    if (++links > LINKS_MAX) throw invalidArgument(`too many levels of symbolic links in ${pathText(path)}`);
    const to = readlinkSync(pathBytes(at), { encoding: 'buffer' }).toString('latin1');
    if (to.startsWith('/')) done.length = 0;
    pending.push(...to.split('/').reverse());
  }
  return `/${done.join('/')}`;
}

/** The path with every link on it followed. @throws an ENOENT error when it leads nowhere */
export function realPath(path: string): string {
  return realpathSync.native(pathBytes(path), { encoding: 'buffer' }).toString('latin1');
}

/** Facts of what an absolute path names; a link is not followed unless a slash ends the path. */
export function pathStat(path: string, stats: BigIntStats): PathStat {
  return {
    name: pathText(posix.basename(path) || '/'),
    size: Number(stats.size),
    mode: goFileMode(Number(stats.mode)),
    mtime: rfc3339(stats.mtimeNs),
    linkTarget: stats.isSymbolicLink() ? pathText(followed(path)) : '',
  };
}
