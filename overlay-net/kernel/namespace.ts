import { closeSync, mkdirSync, openSync, statfsSync, unlinkSync } from 'node:fs';
import { dirname } from 'node:path';
import { createNetworkNamespace, mount, MS, unmount } from '../../base/index.ts';

const NSFS_MAGIC = 0x6e736673;

/** Whether `path` is a bound namespace (after a host's restart only an empty file is left). */
export function isNamespace(path: string): boolean {
  try {
    return statfsSync(path).type === NSFS_MAGIC;
  } catch {
    return false;
  }
}

/** Makes a namespace at `path` unless there is one. @param existing path of one that is bound there instead */
export function makeNamespace(path: string, existing?: string): void {
  if (isNamespace(path)) return;
  mkdirSync(dirname(path), { recursive: true, mode: 0o755 });
  closeSync(openSync(path, 'w', 0o644));
  if (existing === undefined) createNetworkNamespace(path);
  else mount(existing, path, null, MS.BIND, null);
}

/** Unbinds and removes `path`; the kernel ends the namespace's links by itself, aside from this thread. */
export function dropNamespace(path: string): void {
  while (isNamespace(path)) unmount(path);
  try {
    unlinkSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
}
