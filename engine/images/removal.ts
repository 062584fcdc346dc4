import { conflict } from '../../base/index.ts';
import { familiarKey, repositoryOfKey, type Catalogue } from './catalogue.ts';

/** Who uses an image: container ids, and whether one of them runs. */
export interface ImageUsers {
  usedBy: (imageId: string) => readonly string[];
  isRunning: (containerId: string) => boolean;
}

export interface Removed {
  untagged: string[];
  deleted: string[];
}

function short(id: string): string {
  return id.replace('sha256:', '').slice(0, 12);
}

/** All names of the image belong to one repository, with one tag at the most. */
function singleReference(keys: readonly string[]): boolean {
  const tags = keys.filter((key) => !key.includes('@'));
  return tags.length <= 1 && new Set(keys.map(repositoryOfKey)).size <= 1;
}

function refuseDeletion(catalogue: Catalogue, id: string, users: ImageUsers, force: boolean): void {
  if (catalogue.childrenOf(id).length > 0) {
    throw conflict(`conflict: unable to delete ${short(id)} (cannot be forced) - image has dependent child images`);
  }
  const containers = users.usedBy(id);
  const running = containers.find(users.isRunning);
  if (running !== undefined) {
    throw conflict(
      `conflict: unable to delete ${short(id)} (cannot be forced) - ` +
        `image is being used by running container ${short(running)}`,
    );
  }
  const stopped = containers[0];
  if (stopped !== undefined && !force) {
    throw conflict(
      `conflict: unable to delete ${short(id)} (must be forced) - ` +
        `image is being used by stopped container ${short(stopped)}`,
    );
  }
}

async function removeKeys(catalogue: Catalogue, id: string, keys: readonly string[], whole: boolean): Promise<Removed> {
  const layers = await catalogue.drop(keys, whole ? id : undefined);
  for (const _ of keys) catalogue.event('untag', id, id);
  if (whole) catalogue.event('delete', id, id);
  return { untagged: keys.map(familiarKey), deleted: whole ? [id, ...layers.reverse()] : [] };
}

/** Takes an image away, and its parents as far as nothing names or needs them. */
async function removeWhole(
  catalogue: Catalogue,
  users: ImageUsers,
  id: string,
  keys: readonly string[],
  keepParents: boolean,
): Promise<Removed> {
  let parent = catalogue.byId(id).parentId;
  const removed = await removeKeys(catalogue, id, keys, true);
  while (!keepParents && parent !== undefined && catalogue.has(parent)) {
    const [at, names, children] = [parent, catalogue.keysOf(parent), catalogue.childrenOf(parent)];
    if (names.length > 0 || children.length > 0 || users.usedBy(at).length > 0) break;
    parent = catalogue.byId(at).parentId;
    removed.deleted.push(...(await removeKeys(catalogue, at, [], true)).deleted);
  }
  return removed;
}

/**
 * `docker rmi`: a name takes this name away, and the image with its last name; an id takes the image with all names.
 * @throws ShoalError Conflict in Docker's words while containers use it. Containers keep their layers in any case.
 */
export async function removeImage(
  catalogue: Catalogue,
  users: ImageUsers,
  text: string,
  { force, keepParents = false }: { force: boolean; keepParents?: boolean },
): Promise<Removed> {
  const { id, key } = catalogue.resolve(text);
  const keys = catalogue.keysOf(id);
  if (key === undefined) {
    if (keys.length > 1 && !force && !singleReference(keys)) {
      throw conflict(
        `conflict: unable to delete ${short(id)} (must be forced) - image is referenced in multiple repositories`,
      );
    }
    refuseDeletion(catalogue, id, users, force);
    return await removeWhole(catalogue, users, id, keys, keepParents);
  }
  const repository = repositoryOfKey(key);
  const others = keys.filter((other) => other !== key);
  // With the last tag of a repository its digests go as well.
  const lastTag = !key.includes('@') && !others.some((k) => repositoryOfKey(k) === repository && !k.includes('@'));
  const leaving = [key, ...(lastTag ? others.filter((k) => repositoryOfKey(k) === repository) : [])];
  if (leaving.length < keys.length) return await removeKeys(catalogue, id, leaving, false);
  const user = users.usedBy(id)[0];
  if (user !== undefined && !force) {
    throw conflict(
      `conflict: unable to remove repository reference "${text}" (must force) - container ${short(user)} ` +
        `is using its referenced image ${short(id)}`,
    );
  }
  // Forced while in use, or with images that stand on it: only the names go.
  if (user !== undefined || catalogue.childrenOf(id).length > 0) {
    return await removeKeys(catalogue, id, leaving, false);
  }
  return await removeWhole(catalogue, users, id, leaving, keepParents);
}
