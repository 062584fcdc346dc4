import { timestampToIso } from '../../proto/index.ts';
import type { ControlResponse } from '../ports.ts';
import type { RequestContext, Route } from '../router.ts';
import { textOrNothing } from '../shapes/fields.ts';
import { sendJson } from '../stream.ts';

function answerToJson(answer: ControlResponse<'Explain'>): object {
  const { kind, id, name, state, headline, causes, excluded, nearest, fix, history, text } = answer;
  return {
    Subject: { Kind: kind, ID: id, Name: name, State: state },
    Headline: headline,
    Causes: causes.map(({ what, since, at }) => ({
      What: what,
      Since: since === null ? undefined : timestampToIso(since),
      At: at === null ? undefined : timestampToIso(at),
    })),
    Excluded: excluded.map((one) => ({ Filter: one.filter, What: one.what, Nodes: one.count })),
    Nearest: textOrNothing(nearest),
    Fix: fix,
    History: history,
    Text: text,
  };
}

async function explain({ response, ports, params, query }: RequestContext): Promise<void> {
  const kind = params['kind'] ?? query.get('kind') ?? '';
  const reference = params['reference'] ?? query.get('ref') ?? '';
  sendJson(response, answerToJson(await ports.swarm.call('Explain', { kind, reference })));
}

/** Why a task, a service or a node is as it is; no counterpart in the Docker API. */
export const whyRoutes: readonly Route[] = [
  { method: 'GET', path: '/shoal/why', handler: explain },
  { method: 'GET', path: '/shoal/why/{kind}/{reference}', handler: explain },
];
