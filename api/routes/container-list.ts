import { invalidArgument, isShoalError } from '../../base/index.ts';
import { queryBool, queryInt } from '../body.ts';
import { Filters } from '../filters.ts';
import type { ContainerFacts, Ports } from '../ports.ts';
import type { RequestContext, Route } from '../router.ts';
import { containerSummary, sizesToJson } from '../shapes/container.ts';
import { sendJson } from '../stream.ts';

const LIST_FILTERS =
  'ancestor before exited expose health id is-task isolation label name network publish since status volume'.split(' ');
const STATES = ['created', 'running', 'paused', 'restarting', 'removing', 'exited', 'dead'];
const HEALTH = ['none', 'starting', 'healthy', 'unhealthy'];
/** States of containers that `docker ps` lists without `--all`. */
const LIVE = ['running', 'paused', 'restarting'];
/** Ports that one range of a filter may have. */
const RANGE_MAX = 65_536;

/** Values that only certain words are good for. @throws ShoalError InvalidArgument in Docker's words */
function checkValues(filters: Filters): void {
  for (const status of filters.get('status')) {
    if (!STATES.includes(status)) throw invalidArgument(`Unrecognised filter value for status: ${status}`);
  }
  for (const health of filters.get('health')) {
    if (!HEALTH.includes(health)) throw invalidArgument(`Unrecognised filter value for health: ${health}`);
  }
  for (const code of filters.get('exited')) {
    if (!/^-?\d+$/.test(code)) throw invalidArgument(`invalid filter 'exited=${code}'`);
  }
  for (const word of filters.get('is-task')) {
    if (!['true', 'false', '1', '0'].includes(word)) throw invalidArgument(`invalid filter 'is-task=${word}'`);
  }
}

/** `80`, `80/udp` or `80-90/tcp` as a set of `port/protocol`. @throws ShoalError InvalidArgument in Docker's words */
function portSet(key: 'expose' | 'publish', values: readonly string[]): Set<string> {
  const ports = new Set<string>();
  for (const value of values) {
    if (value.includes(':')) throw invalidArgument(`filter for '${key}' should not contain ':': ${value}`);
    const [, from = '', to = from, protocol = 'tcp'] = /^(\d+)(?:-(\d+))?(?:\/(tcp|udp|sctp))?$/i.exec(value) ?? [];
    const [first, last] = [Number(from), Number(to)];
    if (from === '' || last < first || last >= RANGE_MAX) throw invalidArgument(`invalid filter '${key}=${value}'`);
    for (let port = first; port <= last; port++) ports.add(`${port}/${protocol.toLowerCase()}`);
  }
  return ports;
}

/** Whether a container comes from one of the images: its own, or one whose layers its image begins with. */
function ancestorTest(ports: Ports, wanted: readonly string[]): (container: ContainerFacts) => boolean {
  const image = (reference: string): { id: string; diffIds: readonly string[] } | undefined => {
    try {
      return ports.engine.images.get(reference);
    } catch (error) {
      // Containers of an image that is not there any more are of nobody.
      if (isShoalError(error)) return undefined;
      throw error;
    }
  };
  const ancestors = wanted.map(image).filter((found) => found !== undefined);
  const known = new Map<string, boolean>();
  const descends = (imageId: string): boolean => {
    if (ancestors.some(({ id }) => id === imageId)) return true;
    const layers = image(imageId)?.diffIds ?? [];
    return ancestors.some(({ diffIds }) => diffIds.length > 0 && diffIds.every((layer, i) => layers[i] === layer));
  };
  return ({ imageId }) => {
    const answer = known.get(imageId) ?? descends(imageId);
    known.set(imageId, answer);
    return answer;
  };
}

/** Names and ids of the networks that a container is on, or shall be on when it starts. */
function networksOf({ config, endpoints }: ContainerFacts): string[] {
  const wanted = (config.network.endpoints ?? []).map(({ networkId }) => networkId);
  const alone = config.network.mode === 'host' || config.network.mode === 'none' ? [config.network.mode] : [];
  return [...alone, ...wanted, ...endpoints.flatMap(({ networkId, networkName }) => [networkId, networkName])];
}

function passes(container: ContainerFacts, filters: Filters): boolean {
  const { config, state } = container;
  const isTask = 'com.docker.swarm.task.id' in config.labels;
  const ended = !LIVE.includes(state) && container.startedMs > 0;
  return (
    filters.found('id', container.id) &&
    // Docker knows containers by names with and without a slash.
    (filters.found('name', config.name) || filters.found('name', `/${config.name}`)) &&
    filters.matches('status', state) &&
    filters.some('isolation', (wanted) => wanted === '' || wanted === 'default') &&
    filters.some('exited', (wanted) => ended && container.exitCode === Number(wanted)) &&
    filters.matches('health', container.health ?? 'none') &&
    filters.some('is-task', (wanted) => (wanted === 'true' || wanted === '1') === isTask) &&
    filters.some('network', (wanted) => networksOf(container).includes(wanted)) &&
    filters.some('volume', (wanted) =>
      container.mounts.some((m) => (m.name || m.source) === wanted || m.destination === wanted),
    ) &&
    filters.matchesLabels(config.labels)
  );
}

/** Those after and before others in the list, which has the newest first. @throws ShoalError NotFound */
function between(ports: Ports, all: ContainerFacts[], filters: Filters): ContainerFacts[] {
  const at = (key: 'before' | 'since'): number | undefined => {
    const reference = filters.get(key).at(-1);
    if (reference === undefined) return undefined;
    const { id } = ports.engine.containers.inspect(reference);
    return all.findIndex((container) => container.id === id);
  };
  return all.slice((at('before') ?? -1) + 1, at('since'));
}

/** @throws ShoalError InvalidArgument for a filter's value, NotFound for a container that a filter names */
export function listContainers(ports: Ports, query: URLSearchParams): ContainerFacts[] {
  const filters = Filters.parse(query, LIST_FILTERS);
  checkValues(filters);
  const [exposed, published] = [portSet('expose', filters.get('expose')), portSet('publish', filters.get('publish'))];
  const limit = queryInt(query, 'limit') ?? 0;
  const all = queryBool(query, 'all') || limit > 0 || filters.has('status');
  const sorted = ports.engine.containers.list().sort((a, b) => b.createdMs - a.createdMs);
  const descends = filters.has('ancestor') ? ancestorTest(ports, filters.get('ancestor')) : undefined;
  const found = between(ports, sorted, filters)
    .filter((container) => all || LIVE.includes(container.state))
    .filter((container) => passes(container, filters))
    .filter((container) => descends?.(container) ?? true)
    .filter(({ config }) => exposed.size === 0 || (config.exposedPorts ?? []).some((port) => exposed.has(port)))
    .filter(({ config }) => {
      const bound = config.network.ports ?? [];
      return published.size === 0 || bound.some((port) => published.has(`${port.targetPort}/${port.protocol}`));
    });
  return limit > 0 ? found.slice(0, limit) : found;
}

async function list({ response, ports, query, signal }: RequestContext): Promise<void> {
  const now = Date.now();
  const found = listContainers(ports, query);
  const asked = queryBool(query, 'size');
  const ids = found.map(({ id }) => id);
  const sizes = asked ? await ports.engine.files.sizes(ids, signal) : undefined;
  sendJson(
    response,
    found.map((container) => ({ ...containerSummary(container, now), ...sizesToJson(sizes?.get(container.id), true) })),
  );
}

export const containerListRoutes: readonly Route[] = [{ method: 'GET', path: '/containers/json', handler: list }];
