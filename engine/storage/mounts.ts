import { readFileSync } from 'node:fs';
import { SystemCallError, unmount } from '../../base/index.ts';

/** Mounts stacked on one path that unmounting takes off. */
const STACKED_MOUNTS_MAX = 64;
const EINVAL = 22;
const ENOENT = 2;

/** All mount points of this process, in the order of mounting (proc(5), mountinfo). */
export function mountPoints(): string[] {
  return readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => {
      const field = line.split(' ')[4] ?? '';
      return field.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
    });
}

/** Takes off every mount of a path; also of bind mounts, which look like plain directories. */
export function unmountEvery(path: string): void {
  for (let i = 0; i < STACKED_MOUNTS_MAX; i++) {
    try {
      unmount(path);
    } catch (error) {
      if (error instanceof SystemCallError && (error.errno === EINVAL || error.errno === ENOENT)) return;
      throw error;
    }
  }
}
