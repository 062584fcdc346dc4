import { invalidArgument, must } from '../../base/index.ts';
import { queryBool } from '../body.ts';
import type { PathStatFacts } from '../file-port.ts';
import type { RequestContext, Route } from '../router.ts';
import { sendEmpty, sendJson, write } from '../stream.ts';

const name = ({ params }: RequestContext): string => must(params['id'], 'id');

function pathOf({ query }: RequestContext): string {
  const path = query.get('path') ?? '';
  if (path === '') throw invalidArgument('bad parameter: path cannot be empty');
  return path;
}

/** Facts of the path, for clients that must know what they copy before they see it. */
function statHeader(stat: PathStatFacts): Record<string, string> {
  return { 'X-Docker-Container-Path-Stat': Buffer.from(JSON.stringify(stat)).toString('base64') };
}

async function head(context: RequestContext): Promise<void> {
  const stat = await context.ports.engine.files.stat(name(context), pathOf(context), context.signal);
  context.response.writeHead(200, statHeader(stat)).end();
}

async function sendArchive({ response, signal }: RequestContext, archive: AsyncIterable<Uint8Array>): Promise<void> {
  for await (const chunk of archive) await write(response, chunk, signal);
  response.end();
}

async function get(context: RequestContext): Promise<void> {
  const { ports, response, signal } = context;
  const { stat, archive } = await ports.engine.files.read(name(context), pathOf(context), signal);
  response.writeHead(200, { 'Content-Type': 'application/x-tar', ...statHeader(stat) });
  await sendArchive(context, archive);
}

async function put(context: RequestContext): Promise<void> {
  const { ports, query, request, response, signal } = context;
  const options = {
    noOverwriteDirNonDir: queryBool(query, 'noOverwriteDirNonDir'),
    copyUidGid: queryBool(query, 'copyUIDGID'),
  };
  await ports.engine.files.write(name(context), pathOf(context), request, options, signal);
  sendEmpty(response);
}

async function changes({ ports, params, response, signal }: RequestContext): Promise<void> {
  const found = await ports.engine.files.changes(must(params['id'], 'id'), signal);
  sendJson(response, found.length === 0 ? null : found.map(({ path, kind }) => ({ Path: path, Kind: kind })));
}

async function exportAll(context: RequestContext): Promise<void> {
  const archive = await context.ports.engine.files.export(name(context), context.signal);
  context.response.writeHead(200, { 'Content-Type': 'application/octet-stream' });
  await sendArchive(context, archive);
}

export const archiveRoutes: readonly Route[] = [
  { method: 'HEAD', path: '/containers/{id}/archive', handler: head },
  { method: 'GET', path: '/containers/{id}/archive', handler: get },
  { method: 'PUT', path: '/containers/{id}/archive', handler: put },
  { method: 'GET', path: '/containers/{id}/changes', handler: changes },
  { method: 'GET', path: '/containers/{id}/export', handler: exportAll },
];
