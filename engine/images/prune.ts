import type { PruneImagesRequest } from '../types.ts';
import type { Catalogue } from './catalogue.ts';
import { removeImage, type ImageUsers, type Removed } from './removal.ts';

/** `docker image prune`: removes images that no container uses; one that was kept back by another goes with it. */
export async function pruneImages(
  catalogue: Catalogue,
  users: ImageUsers,
  request: PruneImagesRequest,
): Promise<Removed & { reclaimedBytes: number }> {
  const bytes = new Map(catalogue.layers.list().map(({ chainId, sizeBytes }) => [chainId, sizeBytes]));
  const all: Removed = { untagged: [], deleted: [] };
  for (const image of catalogue.list()) {
    const keys = catalogue.keysOf(image.id);
    const tags = keys.filter((key) => !key.includes('@'));
    if (request.danglingOnly && tags.length > 0) continue;
    // Gone with its child meanwhile, or what another image stands on.
    if (!catalogue.has(image.id) || catalogue.childrenOf(image.id).length > 0) continue;
    if (users.usedBy(image.id).length > 0 || !request.passes(image)) continue;
    const { untagged, deleted } = await removeImage(catalogue, users, image.id, { force: true });
    all.untagged.push(...untagged);
    all.deleted.push(...deleted);
  }
  const reclaimedBytes = all.deleted.reduce((sum, id) => sum + (bytes.get(id) ?? 0), 0);
  catalogue.event('prune', '', '', { reclaimed: String(reclaimedBytes) });
  return { ...all, reclaimedBytes };
}
