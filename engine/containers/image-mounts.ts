import { createHash } from 'node:crypto';
import { dirname, join, posix } from 'node:path';
import type { Roots } from '../files/roots.ts';
import type { Container, IdMapping } from '../types.ts';
import { bindSubpath } from '../volumes/index.ts';
import type { Parts } from './parts.ts';
import type { StoredContainer, StoredMount } from './store.ts';

/** Digits of a target's digest in the name of its root. */
const TARGET_DIGITS = 12;

/**
 * An image that a container mounts is a root of its own, which stands on the image's layers as the container's root does:
 * they stay as long as the container. Its name begins with the container's id, so that the doctor knows whose it is.
 */
export function imageRootId(containerId: string, target: string): string {
  const digest = createHash('sha256').update(posix.normalize(target)).digest('hex');
  return `${containerId}-${digest.slice(0, TARGET_DIGITS)}`;
}

/** Roots of the images that a container mounts. */
export function imageRoots({ container, mounts }: StoredContainer): string[] {
  return mounts.filter(({ type }) => type === 'image').map(({ target }) => imageRootId(container.id, target));
}

/** Where the parts of volumes and images are bound that a container mounts. */
export const subpathPlace = (parts: Parts, id: string): string => join(dirname(parts.filesRoot), 'subpaths', id);

/** Mounts the files of an image, or a part of them. @throws ShoalError NotFound for an image that is gone */
export async function imageSource(parts: Parts, id: string, mount: StoredMount, number: number): Promise<string> {
  const mapping = parts.find(id)?.config.idMapping;
  const path = await parts.roots.mount(imageRootId(id, mount.target), mount.imageId ?? mount.source, mapping);
  if (!mount.imageSubpath) return path;
  return bindSubpath(path, mount.imageSubpath, subpathPlace(parts, id), number, 'image');
}

/** The same for someone who looks at the files of a container that does not run. */
export async function holdImage(
  roots: Roots,
  id: string,
  mount: StoredMount,
  mapping: IdMapping | undefined,
): Promise<{ path: string; release: () => Promise<void> }> {
  return await roots.hold(imageRootId(id, mount.target), mount.imageId ?? mount.source, false, mapping);
}

/** The container has ended. Idempotent. */
export async function releaseImages(parts: Parts, stored: StoredContainer): Promise<void> {
  for (const root of imageRoots(stored)) await parts.roots.unmount(root);
}

/** The container is removed. Idempotent. */
export async function removeImages(parts: Parts, stored: StoredContainer): Promise<void> {
  for (const root of imageRoots(stored)) await parts.roots.remove(root);
}

/** Ids of the containers that were made from an image or mount it. */
export function imageUsers(containers: readonly Container[], imageId: string): string[] {
  return containers
    .filter((one) => one.imageId === imageId || one.mounts.some((mount) => mount.imageId === imageId))
    .map(({ id }) => id);
}
