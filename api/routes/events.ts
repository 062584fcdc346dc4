import { Filters } from '../filters.ts';
import type { EventFacts, JsonObject } from '../ports.ts';
import type { RequestContext, Route } from '../router.ts';
import { write } from '../stream.ts';
import { pointInTimeMs } from '../times.ts';

const EVENT_FILTERS =
  'config container daemon event image label network node plugin scope secret service type volume'.split(' ');
/** Filters by id or name of what an event is about, each of one type. */
const SUBJECTS = 'config container daemon network node plugin secret service volume'.split(' ');
/** Actions that have more behind a colon: as a filter they mean all of them. */
const OPEN_ACTIONS = ['health_status', 'exec_create', 'exec_start'];

/** An image's name without its tag. */
const untagged = (reference: string): string => reference.replace(/(@.*|:[^/:]*)$/, '');

/** Container events are also about their image. */
function isAboutImage({ type, actorId, attributes }: EventFacts, filters: Filters): boolean {
  if (!filters.has('image')) return true;
  const image = (type === 'image' ? attributes['name'] : attributes['image']) ?? '';
  return [actorId, untagged(actorId), image, untagged(image)].some(
    (name) => name !== '' && filters.matches('image', name),
  );
}

export function eventPasses(event: EventFacts, filters: Filters): boolean {
  const { name = '' } = event.attributes;
  const open = filters.get('event').some((wanted) => OPEN_ACTIONS.includes(wanted));
  return (
    filters.matches('type', event.type) &&
    filters.matches('scope', event.scope) &&
    filters.some('event', (wanted) => event.action === wanted || (open && event.action.startsWith(wanted))) &&
    filters.matchesLabels(event.attributes) &&
    isAboutImage(event, filters) &&
    SUBJECTS.every((subject) =>
      filters.some(
        subject,
        (wanted) => event.type === subject && (event.actorId.startsWith(wanted) || name.startsWith(wanted)),
      ),
    )
  );
}

export function eventToJson(event: EventFacts): JsonObject {
  const legacy =
    event.type === 'container' || event.type === 'image'
      ? { status: event.action, id: event.actorId, from: event.attributes['image'] }
      : {};
  return {
    ...legacy,
    Type: event.type,
    Action: event.action,
    Actor: { ID: event.actorId, Attributes: event.attributes },
    scope: event.scope,
    time: Math.floor(event.timeMs / 1000),
    timeNano: Math.round(event.timeMs * 1e6),
  };
}

async function events({ response, ports, query, signal }: RequestContext): Promise<void> {
  const filters = Filters.parse(query, EVENT_FILTERS);
  const time = (name: string): number | undefined => {
    const text = query.get(name) ?? '';
    return text === '' ? undefined : pointInTimeMs(name, text, Date.now());
  };
  const [sinceMs, untilMs] = [time('since'), time('until')];
  response.writeHead(200, { 'Content-Type': 'application/json' });
  response.flushHeaders();
  const range = { ...(sinceMs === undefined ? {} : { sinceMs }), ...(untilMs === undefined ? {} : { untilMs }) };
  for await (const event of ports.system.events(range, signal)) {
    if (eventPasses(event, filters)) await write(response, `${JSON.stringify(eventToJson(event))}\n`, signal);
  }
  response.end();
}

export const eventRoutes: readonly Route[] = [{ method: 'GET', path: '/events', handler: events }];
