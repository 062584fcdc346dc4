import type { ImageDiskUse } from '../types.ts';
import type { Catalogue } from './catalogue.ts';

/** What layers take on disk; each counts once, however many images have it. */
export function diskUse(catalogue: Catalogue): ImageDiskUse {
  const sizes = new Map<string, number>();
  const images = new Map<string, string[]>();
  const users = new Map<string, number>();
  for (const { id } of catalogue.list()) {
    const chain = catalogue.layersOf(id);
    images.set(id, [...new Set(chain.map(({ chainId }) => chainId))]);
    for (const { chainId, sizeBytes } of chain) sizes.set(chainId, sizeBytes);
    for (const chainId of images.get(id) ?? []) users.set(chainId, (users.get(chainId) ?? 0) + 1);
  }
  const sum = (chain: readonly string[]): number => chain.reduce((bytes, key) => bytes + (sizes.get(key) ?? 0), 0);
  const shared = [...images].map(([id, chain]) => {
    return [id, sum(chain.filter((key) => (users.get(key) ?? 0) > 1))] as const;
  });
  return { layersBytes: sum([...sizes.keys()]), sharedBytes: new Map(shared) };
}
