import { invalidArgument, must } from '../../base/index.ts';
import { queryBool } from '../body.ts';
import type { AttachedFacts, TerminalSizeFacts } from '../ports.ts';
import type { RequestContext, Route } from '../router.ts';
import { sendEmpty } from '../stream.ts';
import { olderThan } from '../versions.ts';

const SIZE_MAX = 65_535;

/** Content-Type of a process' streams: terminals are raw, the rest is framed (said so from API 1.42 on). */
export function streamType(attached: AttachedFacts, version: string): string {
  const framed = !attached.tty && !olderThan(version, '1.42');
  return framed ? 'application/vnd.docker.multiplexed-stream' : 'application/vnd.docker.raw-stream';
}

/** Size of a terminal: ?h= and ?w=. @throws ShoalError InvalidArgument */
export function querySize(query: URLSearchParams): TerminalSizeFacts {
  const read = (name: string, what: string): number => {
    const text = query.get(name) ?? '';
    const value = Number(text);
    if (!/^\d+$/.test(text) || value > SIZE_MAX) throw invalidArgument(`invalid resize ${what} "${text}"`);
    return value;
  };
  return { height: read('h', 'height'), width: read('w', 'width') };
}

async function attach(context: RequestContext): Promise<void> {
  const { ports, query, params, signal, version } = context;
  const hijack = must(context.hijack, 'a connection to take over');
  await hijack.body();
  const attached = await ports.engine.terminals.attach(
    must(params['id'], 'id'),
    {
      stdin: queryBool(query, 'stdin'),
      stdout: queryBool(query, 'stdout'),
      stderr: queryBool(query, 'stderr'),
      logs: queryBool(query, 'logs'),
      stream: queryBool(query, 'stream'),
      detachKeys: query.get('detachKeys') ?? '',
    },
    signal,
  );
  await hijack.carry(attached, streamType(attached, version));
}

/** From API 1.42 on a client says which streams it wants; before, it has all three. */
async function attachWebSocket(context: RequestContext): Promise<void> {
  const { ports, query, params, signal, version } = context;
  const hijack = must(context.hijack, 'a connection to take over');
  const wants = (name: string): boolean => olderThan(version, '1.42') || queryBool(query, name);
  const attach = (): ReturnType<typeof ports.engine.terminals.attach> =>
    ports.engine.terminals.attach(
      must(params['id'], 'id'),
      {
        stdin: wants('stdin'),
        stdout: wants('stdout'),
        stderr: wants('stderr'),
        logs: queryBool(query, 'logs'),
        stream: queryBool(query, 'stream'),
        detachKeys: query.get('detachKeys') ?? '',
      },
      signal,
    );
  await hijack.carryWebSocket(attach, !olderThan(version, '1.28'));
}

export const attachRoutes: readonly Route[] = [
  { method: 'GET', path: '/containers/{id}/attach/ws', handler: attachWebSocket },
  { method: 'POST', path: '/containers/{id}/attach', handler: attach },
  {
    method: 'POST',
    path: '/containers/{id}/resize',
    handler: async ({ ports, params, query, response }) => {
      await ports.engine.terminals.resize(must(params['id'], 'id'), querySize(query));
      sendEmpty(response);
    },
  },
];
