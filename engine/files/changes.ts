import { posix } from 'node:path';
import type { BigIntStats } from 'node:fs';
import { getExtendedAttribute } from '../../base/index.ts';
import { joined, look, namesIn, pathBytes } from './bytes.ts';
import type { TarWriter } from './tar-write.ts';
import { ADDED, CHANGED, DELETED, type BaseLayer, type ChangesJob, type FileChange } from './words.ts';

const NS_PER_S = 1_000_000_000n;

/** A directory of one layer that takes part in a merged directory. */
interface Part {
  path: string;
  layer: BaseLayer;
}

/** What a layer hides, made for look-up. */
interface Hidden {
  removed: Set<string>;
  opaque: Set<string>;
}

/** Archives cut times to seconds: then only seconds can be compared. */
function sameTime(a: bigint, b: bigint): boolean {
  if (a === b) return true;
  return a / NS_PER_S === b / NS_PER_S && (a % NS_PER_S === 0n || b % NS_PER_S === 0n);
}

function differs(before: BigIntStats, path: string, now: BigIntStats, basePath: string): boolean {
  if (before.mode !== now.mode || before.uid !== now.uid || before.gid !== now.gid || before.rdev !== now.rdev) {
    return true;
  }
  // Size and time of a directory tell nothing: its files do.
  if (now.isDirectory()) return false;
  if (before.size !== now.size || !sameTime(before.mtimeNs, now.mtimeNs)) return true;
  if (!now.isFile()) return false;
  const capability = (at: string): string =>
    getExtendedAttribute(pathBytes(at), 'security.capability')?.toString('hex') ?? '';
  return capability(path) !== capability(basePath);
}

/**
 * Compares a container's files with the layers below them. With overlayfs only what it has written is walked; else the
 * whole tree. The result has Docker's form: a directory stands before what changed in it, siblings in their order.
 */
export class ChangeWalk {
  readonly #job: ChangesJob;
  readonly #hidden = new Map<BaseLayer, Hidden>();
  readonly #ignored: ReadonlySet<string>;
  readonly #changes: FileChange[] = [];

  constructor(job: ChangesJob) {
    this.#job = job;
    this.#ignored = new Set(job.ignored);
    for (const layer of job.layers) {
      this.#hidden.set(layer, { removed: new Set(layer.removed), opaque: new Set(layer.opaque) });
    }
  }

  run(): FileChange[] {
    const parts = this.#job.layers.map((layer) => ({ path: layer.path, layer }));
    this.#directory('', this.#visible('', parts), this.#job.upper !== '', false);
    return this.#changes;
  }

  /** Parts of a directory down to the first that hides the rest. */
  #visible(path: string, parts: readonly Part[]): Part[] {
    const last = parts.findIndex(({ layer }) => this.#hidden.get(layer)?.opaque.has(path) === true);
    return last === -1 ? [...parts] : parts.slice(0, last + 1);
  }

  /** What the layers have under a name, and its parts when it is a directory. */
  #below(path: string, parts: readonly Part[]): { stats: BigIntStats; path: string; parts: Part[] } | undefined {
    const name = posix.basename(path);
    let top: { stats: BigIntStats; path: string } | undefined;
    const inside: Part[] = [];
    for (const { path: directory, layer } of parts) {
      const at = joined(directory, name);
      const stats = look(at);
      if (stats !== undefined) {
        if (stats.isCharacterDevice() && stats.rdev === 0n) break;
        if (top !== undefined && !stats.isDirectory()) break;
        top ??= { stats, path: at };
        if (!stats.isDirectory()) break;
        inside.push({ path: at, layer });
      }
      const hidden = this.#hidden.get(layer);
      if (hidden?.removed.has(path) === true || hidden?.opaque.has(path) === true) break;
    }
    return top === undefined ? undefined : { ...top, parts: this.#visible(path, inside) };
  }

  #namesBelow(path: string, parts: readonly Part[]): string[] {
    const names = new Set(parts.flatMap((part) => namesIn(part.path)));
    return [...names].filter((name) => this.#below(path === '' ? name : `${path}/${name}`, parts) !== undefined);
  }

  /**
   * @param byUpper only what overlayfs keeps of this directory is looked at; what it does not name is unchanged
   * @param added the directory itself is new: nothing needs to be told of it for the sake of its content
   */
  #directory(path: string, parts: readonly Part[], byUpper: boolean, added: boolean): void {
    const start = this.#changes.length;
    const { upper, merged } = this.#job;
    const mode = byUpper ? this.#kindOf(joined(upper, path)) : 'whole';
    const source = mode === 'whole' ? merged : upper;
    const names = new Set(namesIn(joined(source, path)));
    const gone: string[] = [];
    for (const name of names) {
      const child = path === '' ? name : `${path}/${name}`;
      const now = look(joined(source, child));
      if (now === undefined) continue;
      const before = this.#below(child, parts);
      if (now.isCharacterDevice() && now.rdev === 0n) {
        if (before !== undefined) gone.push(child);
      } else this.#entry(child, now, before, mode !== 'whole');
    }
    if (mode !== 'part') {
      for (const name of this.#namesBelow(path, parts))
        if (!names.has(name)) gone.push(path === '' ? name : `${path}/${name}`);
    }
    for (const child of gone.sort()) this.#changes.push({ path: `/${child}`, kind: DELETED });
    if (this.#changes.length > start && !added && path !== '') {
      this.#changes.splice(start, 0, { path: `/${path}`, kind: CHANGED });
    }
  }

  /** How overlayfs keeps a directory: with lower ones below it, alone, or named after one that was renamed. */
  #kindOf(directory: string): 'part' | 'opaque' | 'whole' {
    const bytes = pathBytes(directory);
    if (getExtendedAttribute(bytes, 'trusted.overlay.redirect') !== undefined) return 'whole';
    return getExtendedAttribute(bytes, 'trusted.overlay.opaque')?.toString('latin1') === 'y' ? 'opaque' : 'part';
  }

  #entry(
    path: string,
    now: BigIntStats,
    before: { stats: BigIntStats; path: string; parts: Part[] } | undefined,
    byUpper: boolean,
  ): void {
    const at = this.#changes.length;
    const full = joined(this.#job.merged, path);
    if (before === undefined) this.#changes.push({ path: `/${path}`, kind: ADDED });
    else if (differs(before.stats, full, now, before.path)) this.#changes.push({ path: `/${path}`, kind: CHANGED });
    const told = this.#changes.length > at;
    if (now.isDirectory()) this.#directory(path, before?.parts ?? [], byUpper, told);
    // Made for the runtime, not by the container: an empty file, a link, or a directory with nothing in it.
    const made = before === undefined && this.#ignored.has(`/${path}`) && this.#changes.length === at + 1;
    if (made && (now.isDirectory() || now.isSymbolicLink() || now.size === 0n)) this.#changes.length = at;
  }
}

/** Archives changes as a layer: what is new or changed, and a whiteout for what is gone (OCI image specification). */
export function archiveChanges(writer: TarWriter, merged: string, changes: readonly FileChange[]): void {
  for (const { path, kind } of changes) {
    const name = path.slice(1);
    if (kind === DELETED) {
      const parent = posix.dirname(name);
      writer.addEmpty(`${parent === '.' ? '' : `${parent}/`}.wh.${posix.basename(name)}`);
      continue;
    }
    const stats = look(joined(merged, name));
    if (stats !== undefined) writer.add(joined(merged, name), name, stats);
  }
}

/** Bytes of a file that were not counted under another name of it. */
function ownBytes(stats: BigIntStats, seen: Set<string>): number {
  const key = `${stats.dev}:${stats.ino}`;
  if (stats.isDirectory() || (stats.nlink > 1n && seen.has(key))) return 0;
  if (stats.nlink > 1n) seen.add(key);
  return Number(stats.size);
}

/** Bytes of files that are new or changed; a file with several names counts once. */
export function changesSize(merged: string, changes: readonly FileChange[]): number {
  const seen = new Set<string>();
  let sum = 0;
  for (const { path, kind } of changes) {
    const stats = kind === DELETED ? undefined : look(joined(merged, path.slice(1)));
    if (stats !== undefined) sum += ownBytes(stats, seen);
  }
  return sum;
}

/** Bytes of files below a directory; a file with several names counts once, a link at an ignored path not. */
export function treeSize(path: string, ignored: ReadonlySet<string>, seen = new Set<string>()): number {
  let sum = 0;
  for (const name of namesIn(path)) {
    const at = joined(path, name);
    const stats = look(at);
    if (stats?.isDirectory() === true) sum += treeSize(at, ignored, seen);
    else if (stats !== undefined && !(stats.isSymbolicLink() && ignored.has(at))) sum += ownBytes(stats, seen);
  }
  return sum;
}
