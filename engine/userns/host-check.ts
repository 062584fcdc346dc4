import { chmod, mkdir, stat } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { failedPrecondition } from '../../base/index.ts';
import { shiftedProblem } from '../storage/index.ts';
import type { IdMapping, Images } from '../types.ts';
import { hostRoot } from './ids.ts';
import type { UserNamespaces } from './namespaces.ts';

const SEARCH_ALL = 0o111;

/** Whether somebody may pass through a directory. */
async function passes(path: string, { uid, gid }: { uid: number; gid: number }): Promise<boolean> {
  const info = await stat(path);
  const bit = info.uid === uid ? 0o100 : info.gid === gid ? 0o010 : 0o001;
  return (info.mode & bit) !== 0;
}

/**
 * Makes sure that containers with these ids can be: a user namespace, the way to their roots, layers with other owners.
 * @throws ShoalError FailedPrecondition that names what is missing
 */
export async function checkRemap(
  dataRoot: string,
  mapping: IdMapping,
  images: Pick<Images, 'storageDriver'>,
  users: UserNamespaces,
): Promise<void> {
  const fail = (why: string): Error => failedPrecondition(`--userns-remap: ${why}`);
  if (images.storageDriver !== 'overlay2') {
    throw fail(`it needs the storage driver overlay2, and this daemon uses ${images.storageDriver}`);
  }
  const root = hostRoot(mapping);
  const directory = join(resolve(dataRoot), 'overlay2');
  await mkdir(directory, { recursive: true, mode: 0o711 });
  // The daemon's own directories are for nobody to list, but root of a container passes on to its files.
  for (const own of [dirname(directory), directory]) await chmod(own, ((await stat(own)).mode & 0o777) | SEARCH_ALL);
  for (let path = dirname(dirname(directory)); path !== dirname(path); path = dirname(path)) {
    if (await passes(path, root)) continue;
    throw fail(`user ${root.uid} cannot reach the data root through ${path}: chmod o+x ${path}, or use --data-root`);
  }
  const namespace = await users.shared(mapping);
  const problem = shiftedProblem(directory, { ...root, namespace });
  if (problem === undefined) return;
  throw fail(
    'layers cannot be shown with other owners: that needs Linux 5.19 and a file system with idmapped mounts below the ' +
      `data root, as ext4, xfs and btrfs are (${problem})`,
  );
}
