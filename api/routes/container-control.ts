import { invalidArgument, must } from '../../base/index.ts';
import { queryBool, queryInt, readJson } from '../body.ts';
import type { ControlPort } from '../control-port.ts';
import { Filters } from '../filters.ts';
import type { RequestContext, Route } from '../router.ts';
import { changeFromJson } from '../shapes/container-update.ts';
import { Fields } from '../shapes/fields.ts';
import { containerStatsToJson } from '../shapes/stats.ts';
import { sendEmpty, sendJson, write } from '../stream.ts';
import { pointInTimeMs } from '../times.ts';

/** Between the two readings of one answer: processor time needs both, ms. */
const SAMPLES_OF_ONE_ANSWER = 2;

const name = ({ params }: RequestContext): string => must(params['id'], 'id');
const control = ({ ports }: RequestContext): ControlPort => ports.engine.control;

/** Options of stop and restart. @throws ShoalError InvalidArgument */
export function stopOptions(query: URLSearchParams): { signal?: string; graceMs?: number } {
  const seconds = queryInt(query, 't');
  const signal = query.get('signal') ?? '';
  return {
    ...(seconds === undefined ? {} : { graceMs: seconds * 1000 }),
    ...(signal === '' ? {} : { signal }),
  };
}

async function update(context: RequestContext): Promise<void> {
  const change = changeFromJson(new Fields(await readJson(context)));
  const warnings = await control(context).update(name(context), change);
  sendJson(context.response, { Warnings: warnings.length === 0 ? null : warnings });
}

async function top(context: RequestContext): Promise<void> {
  const { titles, processes } = await control(context).top(name(context), context.query.get('ps_args') ?? '');
  sendJson(context.response, { Titles: titles, Processes: processes });
}

async function stats(context: RequestContext): Promise<void> {
  const { query, response, signal } = context;
  const stream = query.get('stream') === null || queryBool(query, 'stream');
  const once = queryBool(query, 'one-shot');
  if (stream && once) throw invalidArgument('cannot have stream=true and one-shot=true');
  // What is not there has an answer of its own, before the first byte.
  const now = control(context).statsOnce(name(context));
  if (!stream && (once || now.stats === undefined)) {
    sendJson(response, containerStatsToJson(now));
    return;
  }
  response.writeHead(200, { 'Content-Type': 'application/json' });
  response.flushHeaders();
  let count = 0;
  for await (const sample of control(context).stats(now.id, signal)) {
    count += 1;
    if (!stream && count < SAMPLES_OF_ONE_ANSWER) continue;
    await write(response, `${JSON.stringify(containerStatsToJson(sample))}\n`, signal);
    if (!stream) break;
  }
  response.end();
}

/** Whether labels are among those to be removed: with every `label`, and without all of `label!` at once. */
export function prunes(filters: Filters): (labels: Readonly<Record<string, string>>) => boolean {
  return (labels) =>
    filters.matchesLabels(labels) && !(filters.has('label!') && filters.matchesLabels(labels, 'label!'));
}

async function prune({ ports, query, response }: RequestContext): Promise<void> {
  const filters = Filters.parse(query, ['label', 'label!', 'until']);
  const untils = filters.get('until');
  if (untils.length > 1) throw invalidArgument('more than one until filter specified');
  const until = untils[0] === undefined ? {} : { untilMs: pointInTimeMs('until', untils[0], Date.now()) };
  const { removed, reclaimedBytes } = await ports.engine.control.prune({ ...until, wanted: prunes(filters) });
  sendJson(response, { ContainersDeleted: removed.length === 0 ? null : removed, SpaceReclaimed: reclaimedBytes });
}

/** A route that only does something. */
function verb(word: string, run: (context: RequestContext) => Promise<void>): Route {
  return {
    method: 'POST',
    path: `/containers/{id}/${word}`,
    handler: async (context) => {
      await run(context);
      sendEmpty(context.response, 204);
    },
  };
}

export const containerControlRoutes: readonly Route[] = [
  { method: 'POST', path: '/containers/prune', handler: prune },
  { method: 'GET', path: '/containers/{id}/stats', handler: stats },
  { method: 'GET', path: '/containers/{id}/top', handler: top },
  { method: 'POST', path: '/containers/{id}/update', handler: update },
  verb('pause', (context) => control(context).pause(name(context))),
  verb('unpause', (context) => control(context).unpause(name(context))),
  verb('restart', (context) => control(context).restart(name(context), stopOptions(context.query))),
  verb('rename', (context) => control(context).rename(name(context), context.query.get('name') ?? '')),
];
