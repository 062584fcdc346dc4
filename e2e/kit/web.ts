import { get } from '../../lab/index.ts';

export { get };

/** Different bodies that a URL gives over `count` requests, each of which must succeed. */
export async function bodies(url: string, count: number): Promise<Set<string>> {
  const seen = new Set<string>();
  for (let i = 0; i < count; i++) seen.add(await get(url));
  return seen;
}
