/**
 * How `cp` copies: where an archive is unpacked, and what its first path element is called there. The rules are docker's
 * (those of `cp -a`): an existing directory takes the source into itself, a missing one becomes the source's copy, a
 * source that ends in `/.` stands for what is in it.
 */
import { lstatSync, readlinkSync, realpathSync, statSync } from 'node:fs';
import { dirname, isAbsolute, join, posix, resolve } from 'node:path';

/** One side of a copy. */
export interface CopySide {
  path: string;
  exists: boolean;
  isDirectory: boolean;
  /** What the source is to be called when it was reached by another name. */
  rename: string;
}

/** Where the archive goes; `from` and `to` are the first path element before and after, alike when it stays. */
export interface CopyPlan {
  directory: string;
  from: string;
  to: string;
}

/** Links that are followed one after the other. */
const LINKS_MAX = 10;

const endsInSlash = (path: string): boolean => path.endsWith('/');
const isCurrent = (path: string): boolean => posix.basename(path) === '.';
const clean = (path: string): string => posix.normalize(path).replace(/(.)\/+$/, '$1');

/** Folder and last element of a path; a last `.` stays one. */
export function splitEntry(path: string): [directory: string, base: string] {
  if (isCurrent(path)) return [clean(path), '.'];
  const cleaned = clean(path);
  return [posix.dirname(cleaned), posix.basename(cleaned) || '/'];
}

/** A local path made absolute, whose last `/` or `/.` stays: it says that a directory is meant. */
export function localPath(path: string): string {
  const whole = resolve(path);
  const slash = endsInSlash(whole) ? '' : '/';
  if (isCurrent(path)) return `${whole}${slash}.`;
  return endsInSlash(path) ? whole + slash : whole;
}

/** Container and path of an argument of `cp`; the container is empty when the path is local. */
export function splitArgument(text: string): [container: string, path: string] {
  const colon = text.indexOf(':');
  if (isAbsolute(text) || colon < 0 || text.startsWith('.')) return ['', text];
  return [text.slice(0, colon), text.slice(colon + 1)];
}

/** The source behind a link, and the name that the copy keeps. */
export function renamedSource(path: string, target: string): { path: string; rename: string } {
  let whole = target;
  if (isCurrent(path) && !isCurrent(whole)) whole += '/.';
  if (endsInSlash(path) && !endsInSlash(whole)) whole += '/';
  const base = posix.basename(path);
  return { path: whole, rename: base === posix.basename(whole) ? '' : base };
}

function system<T>(act: () => T, verb: string, path: string): T {
  try {
    return act();
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    const reasons: Record<string, string> = { ENOENT: 'no such file or directory', ENOTDIR: 'not a directory' };
    const reason = reasons[code ?? ''];
    const { path: failed = path } = error as NodeJS.ErrnoException;
    throw reason === undefined ? error : new Error(`${verb} ${failed}: ${reason}`, { cause: error });
  }
}

/** What a local source is. @throws Error when it does not exist */
export function localSource(path: string, followLink: boolean): CopySide {
  let found: { path: string; rename: string };
  if (followLink) {
    found = renamedSource(
      path,
      system(() => realpathSync(path), 'lstat', path),
    );
  } else {
    const at = path.lastIndexOf('/');
    const [folder, base] = [path.slice(0, at + 1), path.slice(at + 1)];
    const parent = system(() => realpathSync(folder), 'lstat', clean(folder));
    const whole = `${parent === '/' ? '' : parent}/${base}`;
    const another = endsInSlash(path) && posix.basename(path) !== posix.basename(whole);
    found = { path: whole, rename: another ? posix.basename(path) : '' };
  }
  const stat = system(() => lstatSync(found.path), 'lstat', found.path);
  return { ...found, exists: true, isDirectory: stat.isDirectory() };
}

/** What a local destination is; links are followed, also to what does not exist yet. */
export function localDestination(path: string): CopySide {
  let at = path;
  for (let links = 0; ; links++) {
    const stat = lstatSync(at, { throwIfNoEntry: false });
    if (stat === undefined) break;
    if (!stat.isSymbolicLink()) return { path: at, exists: true, isDirectory: stat.isDirectory(), rename: '' };
    if (links > LINKS_MAX) throw new Error(`too many symlinks in ${path}`);
    const target = readlinkSync(at);
    at = isAbsolute(target) ? target : join(splitEntry(at)[0], target);
  }
  const [parent] = splitEntry(at);
  const folder = system(() => statSync(parent), 'stat', parent);
  if (!folder.isDirectory()) throw new Error('not a directory');
  return { path: at, exists: false, isDirectory: false, rename: '' };
}

/** Refuses a local destination whose folder is missing, or that is a device. @throws Error in docker's words */
export function checkLocalDestination(path: string): void {
  const folder = dirname(clean(path));
  if (statSync(folder, { throwIfNoEntry: false }) === undefined) {
    throw new Error(`invalid output path: directory ${JSON.stringify(folder)} does not exist`);
  }
  const stat = statSync(path, { throwIfNoEntry: false });
  if (stat?.isCharacterDevice() === true || stat?.isBlockDevice() === true) {
    throw new Error(`invalid output path: ${JSON.stringify(path)} must be a directory or a regular file: got a device`);
  }
}

/** Where a source goes. @throws Error when source and destination do not fit */
export function planCopy(source: CopySide, destination: CopySide): CopyPlan {
  const [, from] = splitEntry(source.path);
  const own = source.rename || from;
  if (destination.exists && destination.isDirectory) return { directory: destination.path, from, to: own };
  if (destination.exists && source.isDirectory) throw new Error('cannot copy directory');
  const assertsDirectory = endsInSlash(destination.path) || isCurrent(destination.path);
  if (!destination.exists && !source.isDirectory && assertsDirectory) throw new Error('no such directory');
  const [directory, to] = splitEntry(destination.path);
  return { directory, from, to };
}
