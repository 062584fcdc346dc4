import { invalidArgument, isShoalError, must } from '../../base/index.ts';
import { queryBool, queryInt } from '../body.ts';
import { Filters } from '../filters.ts';
import type { ImageFacts, Ports } from '../ports.ts';
import type { RequestContext, Route } from '../router.ts';
import { historyToJson, imageSummary, imageToJson } from '../shapes/image.ts';
import { sendJson } from '../stream.ts';
import { pointInTimeMs } from '../times.ts';
import { prunes } from './container-control.ts';
import { authOf } from './images.ts';

const LIST_FILTERS = ['dangling', 'label', 'before', 'since', 'reference', 'until'];

/** A true or false word of a filter. @throws ShoalError InvalidArgument in Docker's words */
function filterBool(filters: Filters, key: string, otherwise: boolean): boolean {
  const values = filters.get(key);
  if (values.length === 0) return otherwise;
  const isTrue = values.includes('1') || values.includes('true');
  const isFalse = values.includes('0') || values.includes('false');
  if (isTrue === isFalse) throw invalidArgument(`invalid filter '${key}=[${values.join(' ')}]'`);
  return isTrue;
}

/** A shell pattern (`*`, `?`, `[a-z]`; none of them matches a slash) as an expression. */
function shellPattern(pattern: string): RegExp {
  const source = pattern.replace(/\[[^\]/]+\]|[.+^${}()|\\[\]]|\*|\?/g, (part) => {
    if (part === '*') return '[^/]*';
    if (part === '?') return '[^/]';
    return part.length > 1 ? part.replaceAll('\\', '\\\\') : `\\${part}`;
  });
  try {
    return new RegExp(`^${source}$`);
  } catch {
    throw invalidArgument(`invalid filter 'reference=${pattern}'`);
  }
}

/** Names that one of the patterns fits, with their tag or without. */
function fitting(names: readonly string[], patterns: readonly RegExp[]): string[] {
  const bare = (name: string): string => name.replace(/@.*$/, '').replace(/:[^:/]+$/, '');
  return names.filter((name) => patterns.some((pattern) => pattern.test(name) || pattern.test(bare(name))));
}

function labelsOf(image: ImageFacts): Record<string, string> {
  return (image.config as { Labels?: Record<string, string> | null }).Labels ?? {};
}

/** When the image that a filter names was made. @throws ShoalError NotFound */
function createdOf(ports: Ports, filters: Filters, key: 'before' | 'since', otherwise: number): number {
  const times = filters.get(key).map((reference) => ports.engine.images.get(reference).createdMs);
  if (times.length === 0) return otherwise;
  return key === 'before' ? Math.min(...times) : Math.max(...times);
}

/** @throws ShoalError InvalidArgument for a filter's value, NotFound for an image that a filter names */
export function listImages(ports: Ports, query: URLSearchParams, nowMs: number): ImageFacts[] {
  const filters = Filters.parse(query, LIST_FILTERS);
  const untils = filters.get('until').map((text) => pointInTimeMs('until', text, nowMs));
  const before = Math.min(createdOf(ports, filters, 'before', Infinity), ...untils);
  const since = createdOf(ports, filters, 'since', -Infinity);
  const dangling = filters.has('dangling') ? filterBool(filters, 'dangling', false) : undefined;
  const patterns = filters.get('reference').map(shellPattern);
  const images = ports.engine.images.list();
  const parents = new Set(images.map(({ parentId }) => parentId));
  return images
    .filter((image) => {
      const nameless = image.repoTags.length === 0 && image.repoDigests.length === 0;
      // What only other images stand on is shown when asked for.
      if (nameless && parents.has(image.id) && (dangling === true || !queryBool(query, 'all'))) return false;
      if (dangling !== undefined && dangling !== (image.repoTags.length === 0)) return false;
      return image.createdMs < before && image.createdMs > since && filters.matchesLabels(labelsOf(image));
    })
    .map((image) =>
      patterns.length === 0
        ? image
        : {
            ...image,
            repoTags: fitting(image.repoTags, patterns),
            repoDigests: fitting(image.repoDigests, patterns),
          },
    )
    .filter((image) => patterns.length === 0 || image.repoTags.length > 0 || image.repoDigests.length > 0)
    .sort((a, b) => b.createdMs - a.createdMs);
}

/** How many containers each image has. */
export function containersByImage(ports: Ports): Map<string, number> {
  const counts = new Map<string, number>();
  for (const { imageId } of ports.engine.containers.list()) counts.set(imageId, (counts.get(imageId) ?? 0) + 1);
  return counts;
}

async function list({ response, ports, query, version }: RequestContext): Promise<void> {
  const shared = queryBool(query, 'shared-size') ? ports.engine.images.diskUse().sharedBytes : undefined;
  const counts = queryBool(query, 'manifests') ? containersByImage(ports) : undefined;
  sendJson(
    response,
    listImages(ports, query, Date.now()).map((image) =>
      imageSummary(image, version, {
        containers: counts === undefined ? -1 : (counts.get(image.id) ?? 0),
        sharedBytes: shared?.get(image.id) ?? -1,
      }),
    ),
  );
}

async function inspect({ response, ports, params, version }: RequestContext): Promise<void> {
  const image = ports.engine.images.get(must(params['name'], 'name'));
  const graph = ports.engine.files.imageGraph(image.id) ?? null;
  sendJson(response, imageToJson(image, version, ports.system.storageDriver, graph));
}

async function history({ response, ports, params }: RequestContext): Promise<void> {
  const image = ports.engine.images.get(must(params['name'], 'name'));
  const parents = [image];
  for (let at = image; at.parentId !== undefined && parents.length <= image.history.length;) {
    try {
      at = ports.engine.images.get(at.parentId);
    } catch (error) {
      if (isShoalError(error, 'NotFound')) break;
      throw error;
    }
    parents.push(at);
  }
  sendJson(response, historyToJson(image, parents));
}

async function prune({ response, ports, query }: RequestContext): Promise<void> {
  const filters = Filters.parse(query, ['dangling', 'label', 'label!', 'until']);
  const danglingOnly = filterBool(filters, 'dangling', true);
  const untils = filters.get('until');
  if (untils.length > 1) throw invalidArgument('more than one until filter specified');
  const untilMs = untils[0] === undefined ? Infinity : pointInTimeMs('until', untils[0], Date.now());
  const wanted = prunes(filters);
  const passes = (image: ImageFacts): boolean => image.createdMs < untilMs && wanted(labelsOf(image));
  const { untagged, deleted, reclaimedBytes } = await ports.engine.images.prune({ danglingOnly, passes });
  const gone = [...untagged.map((Untagged) => ({ Untagged })), ...deleted.map((Deleted) => ({ Deleted }))];
  sendJson(response, { ImagesDeleted: gone.length === 0 ? null : gone, SpaceReclaimed: reclaimedBytes });
}

async function search(context: RequestContext): Promise<void> {
  const { ports, query, response, signal } = context;
  const filters = Filters.parse(query, ['is-automated', 'is-official', 'stars']);
  const stars = Math.max(0, ...filters.get('stars').map(Number));
  if (Number.isNaN(stars)) throw invalidArgument(`invalid filter 'stars=[${filters.get('stars').join(' ')}]'`);
  const official = filters.has('is-official') ? filterBool(filters, 'is-official', false) : undefined;
  const automated = filters.has('is-automated') ? filterBool(filters, 'is-automated', false) : undefined;
  const limit = queryInt(query, 'limit') ?? 0;
  const found = await ports.engine.images.search(query.get('term') ?? '', limit, authOf(context), signal);
  const passing = found.filter(
    (image) =>
      image.stars >= stars &&
      (official ?? image.official) === image.official &&
      (automated ?? image.automated) === image.automated,
  );
  sendJson(
    response,
    passing.map((image) => ({
      ...{ name: image.name, description: image.description, star_count: image.stars },
      ...{ is_official: image.official, is_automated: image.automated },
    })),
  );
}

export const imageListRoutes: readonly Route[] = [
  { method: 'GET', path: '/images/json', handler: list },
  { method: 'GET', path: '/images/search', handler: search },
  { method: 'POST', path: '/images/prune', handler: prune },
  { method: 'GET', path: '/images/{name*}/json', handler: inspect },
  { method: 'GET', path: '/images/{name*}/history', handler: history },
];
