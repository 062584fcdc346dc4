import { lstat, opendir } from 'node:fs/promises';
import { join } from 'node:path';

/** Bytes of the files below a directory, each counted once however many names it has; directories count nothing. */
export async function treeSize(directory: string): Promise<number> {
  const seen = new Set<string>();
  const pending = [directory];
  let bytes = 0;
  for (let path = pending.pop(); path !== undefined; path = pending.pop()) {
    // What vanishes while we look is not counted.
    const entries = await opendir(path).catch(() => undefined);
    if (entries === undefined) continue;
    for await (const entry of entries) {
      const at = join(path, entry.name);
      if (entry.isDirectory()) {
        pending.push(at);
        continue;
      }
      const info = await lstat(at).catch(() => undefined);
      if (info === undefined) continue;
      const identity = `${info.dev}:${info.ino}`;
      if (info.nlink > 1 && seen.has(identity)) continue;
      if (info.nlink > 1) seen.add(identity);
      bytes += info.size;
    }
  }
  return bytes;
}
