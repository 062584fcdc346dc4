import { chmod, chown, mkdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { failedPrecondition, mount, MS } from '../../base/index.ts';
import { fileMount } from '../runtime/mounts.ts';
import type { OciMount } from '../runtime/oci.ts';
import type { IdMapping, InjectedFile } from '../types.ts';
import { hostOwner } from '../userns/ids.ts';

const mounting = new Map<string, Promise<void>>();

/** Makes `root` a tmpfs of root alone, once; what an earlier life of the daemon mounted there is kept. */
export function ensureMemoryDirectory(root: string): Promise<void> {
  const running = mounting.get(root);
  if (running !== undefined) return running;
  const work = (async () => {
    await mkdir(root, { recursive: true, mode: 0o700 });
    const mounted = (await readFile('/proc/self/mountinfo', 'utf8')).split('\n');
    if (mounted.some((line) => line.split(' ')[4] === root && line.includes(' - tmpfs '))) return;
    mount('tmpfs', root, 'tmpfs', MS.NOSUID | MS.NODEV | MS.NOEXEC, 'mode=0700');
  })();
  mounting.set(
    root,
    work.finally(() => mounting.delete(root)),
  );
  return mounting.get(root) as Promise<void>;
}

/**
 * Puts a container's files on the tmpfs, and gives the mounts that show them. Files that a former run left there serve
 * again, as the daemon forgets their bytes when it is started anew.
 * @throws ShoalError FailedPrecondition when bytes are needed that are gone.
 */
export async function placeFiles(
  root: string,
  id: string,
  files: readonly InjectedFile[],
  mapping?: IdMapping,
): Promise<OciMount[]> {
  if (files.length === 0) return [];
  await ensureMemoryDirectory(root);
  const directory = join(root, id);
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const mounts: OciMount[] = [];
  for (const [index, file] of files.entries()) {
    const path = join(directory, String(index));
    const present = await stat(path).then(
      () => true,
      () => false,
    );
    if (!present) {
      const beside = `${path}.new`;
      await writeFile(beside, file.data, { mode: 0o600 });
      const owner = hostOwner(mapping, file);
      await chown(beside, owner.uid, owner.gid);
      await chmod(beside, file.mode);
      await rename(beside, path);
    }
    mounts.push(fileMount(path, file.target, true));
  }
  return mounts;
}

/** Whether every file stands on the tmpfs already. @throws ShoalError FailedPrecondition naming the first that is gone. */
export async function requireFiles(root: string, id: string, files: readonly InjectedFile[]): Promise<void> {
  for (const [index, file] of files.entries()) {
    const present = await stat(join(root, id, String(index))).then(
      () => true,
      () => false,
    );
    if (!present) {
      throw failedPrecondition(
        `the content of ${file.target} was kept in memory only and is gone since the host was restarted; ` +
          'create the container again',
      );
    }
  }
}

export async function removeFiles(root: string, id: string): Promise<void> {
  await rm(join(root, id), { recursive: true, force: true });
}
