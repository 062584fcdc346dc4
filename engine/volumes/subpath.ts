import { closeSync, constants, fstatSync, lstatSync, mkdirSync, openSync, readdirSync, readlinkSync } from 'node:fs';
import { rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { join, posix } from 'node:path';
import { invalidArgument, mount, MS } from '../../base/index.ts';
import { unmountEvery } from '../storage/index.ts';

/** Links followed in one path (the kernel's own limit). */
const LINKS_MAX = 40;
/** A path that changes under our feet is looked up again so often. */
const TRIES_MAX = 10;
/** open(2), not in node's constants: no content is opened. */
const O_PATH = 0o10000000;

/** Checks the form of a sub-path. @throws ShoalError InvalidArgument */
export function checkSubpath(subpath: string, what: 'volume' | 'image' = 'volume'): void {
  const clean = posix.normalize(subpath);
  if (subpath.includes('\0') || posix.isAbsolute(subpath) || clean === '..' || clean.startsWith('../')) {
    throw invalidArgument(`invalid mount config for type "${what}": Subpath ${subpath} must be a relative path inside`);
  }
}

/** The parts of a path with all links followed, none of which may lead out. */
function resolve(root: string, subpath: string, what: string): string[] {
  const pending = subpath.split('/').reverse();
  const done: string[] = [];
  let links = 0;
  for (let part = pending.pop(); part !== undefined; part = pending.pop()) {
    if (part === '' || part === '.') continue;
    if (part === '..') {
      if (done.pop() === undefined) throw invalidArgument(`subpath ${subpath} escapes the ${what}`);
      continue;
    }
    const at = join(root, ...done, part);
    const info = lstatSync(at, { throwIfNoEntry: false });
    if (info === undefined) throw invalidArgument(`cannot access path ${at}: no such file or directory`);
    if (!info.isSymbolicLink()) {
      done.push(part);
      continue;
    }
    const to = readlinkSync(at);
    if (to.startsWith('/')) throw invalidArgument(`subpath ${subpath} escapes the ${what}: ${part} leads to ${to}`);
    if (++links > LINKS_MAX) throw invalidArgument(`too many levels of symbolic links in ${subpath}`);
    pending.push(...to.split('/').reverse());
  }
  return done;
}

/** Opens a path part by part, each below the one before and none of them a link. @throws when one has become a link */
function openBelow(root: string, parts: readonly string[]): number {
  let fd = openSync(root, O_PATH | constants.O_DIRECTORY | constants.O_NOFOLLOW);
  for (const part of parts) {
    const parent = fd;
    try {
      fd = openSync(`/proc/self/fd/${parent}/${part}`, O_PATH | constants.O_NOFOLLOW);
    } finally {
      closeSync(parent);
    }
    if (fstatSync(fd).isSymbolicLink()) {
      closeSync(fd);
      throw new ChangedError();
    }
  }
  return fd;
}

class ChangedError extends Error {}

/**
 * Binds a part of a volume to a place of its own, which then leads there whatever becomes of the volume's names: other
 * containers that write the volume cannot lead the mount out of it, not even by swapping directories while we look.
 * @returns the path to mount @throws ShoalError InvalidArgument when the part is missing or leads out
 */
export function bindSubpath(
  volumePath: string,
  subpath: string,
  place: string,
  number: number,
  what: 'volume' | 'image' = 'volume',
): string {
  checkSubpath(subpath, what);
  for (let tries = 1; ; tries++) {
    try {
      const fd = openBelow(volumePath, resolve(volumePath, subpath, what));
      try {
        return bindTo(fd, place, number);
      } finally {
        closeSync(fd);
      }
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      const changed =
        error instanceof ChangedError ||
        code === 'ENOENT' ||
        code === 'ENOTDIR' ||
        code === 'ELOOP' ||
        code === 'EINVAL';
      if (!changed || tries >= TRIES_MAX) {
        if (changed) throw invalidArgument(`cannot access subpath ${subpath}: it changes while it is mounted`);
        throw error;
      }
    }
  }
}

function bindTo(fd: number, place: string, number: number): string {
  mkdirSync(place, { recursive: true, mode: 0o700 });
  const target = join(place, String(number));
  clear(target);
  if (fstatSync(fd).isDirectory()) mkdirSync(target);
  else writeFileSync(target, '');
  mount(`/proc/self/fd/${fd}`, target, null, MS.BIND | MS.REC, null);
  return target;
}

/** Undoes the bindings of a place. */
export function releaseSubpaths(place: string): void {
  let names: string[];
  try {
    names = readdirSync(place);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return;
    throw error;
  }
  for (const name of names) clear(join(place, name));
  rmdirSync(place);
}

/** Never deletes more than the empty name that was bound to: what may still be mounted must not be touched. */
function clear(target: string): void {
  unmountEvery(target);
  const info = lstatSync(target, { throwIfNoEntry: false });
  if (info?.isDirectory() === true) rmdirSync(target);
  else if (info !== undefined) rmSync(target);
}
