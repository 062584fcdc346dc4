import { invalidArgument, notFound } from '../../base/index.ts';
import { queryBool, queryInt, readJson } from '../body.ts';
import type { RequestContext, Route } from '../router.ts';
import { Fields } from '../shapes/fields.ts';
import { sendEmpty, sendJson, write } from '../stream.ts';

/** Header with the passphrase of a backup, base64 of its UTF-8. */
const PASSPHRASE_HEADER = 'shoal-passphrase';

/** Longest wait for former nodes, ms. */
const AWAIT_MAX_MS = 24 * 3_600_000;

/** @throws ShoalError InvalidArgument for an empty passphrase: it would protect nothing */
function passphraseOf({ request }: RequestContext): string | undefined {
  const header = request.headers[PASSPHRASE_HEADER];
  if (typeof header !== 'string') return undefined;
  const text = Buffer.from(header, 'base64').toString('utf8');
  if (text === '') throw invalidArgument('the passphrase is empty');
  return text;
}

async function backup(context: RequestContext): Promise<void> {
  const { response, ports, query, signal } = context;
  const options = { passphrase: passphraseOf(context), stale: queryBool(query, 'stale') };
  const bytes = await ports.swarm.backup(options);
  response.writeHead(200, { 'Content-Type': 'application/octet-stream', 'Cache-Control': 'no-store' });
  // A fault from here on cuts the answer, and with it the checksum at its end.
  for await (const chunk of bytes) await write(response, chunk, signal);
  response.end();
}

/**
 * Runs with the body of a request. When that is refused before its end, the rest is read all the same: many clients look
 * for the answer only when they have sent everything.
 */
async function withBody<T>(
  { request, signal }: RequestContext,
  run: (body: AsyncIterable<Uint8Array>) => Promise<T>,
): Promise<T> {
  const body = request.iterator({ destroyOnReturn: false }) as AsyncIterableIterator<Buffer>;
  try {
    return await run({ [Symbol.asyncIterator]: () => body });
  } catch (error) {
    while (!signal.aborted && (await body.next()).done !== true);
    throw error;
  }
}

async function inspect(context: RequestContext): Promise<void> {
  const { response, ports } = context;
  const passphrase = passphraseOf(context);
  sendJson(response, await withBody(context, (body) => ports.swarm.inspectBackup(body, passphrase)));
}

/** @throws ShoalError InvalidArgument */
function awaitMsOf(query: URLSearchParams): number {
  const ms = queryInt(query, 'awaitMs') ?? 0;
  if (ms >= 0 && ms <= AWAIT_MAX_MS) return ms;
  throw invalidArgument('former nodes can be awaited for 24 hours at the most');
}

async function restore(context: RequestContext): Promise<void> {
  const { response, ports, query } = context;
  const word = (name: string): string => query.get(name) ?? '';
  const how = {
    listenAddr: word('listenAddr'),
    advertiseAddr: word('advertiseAddr'),
    dataPathAddr: word('dataPathAddr'),
    availability: word('availability'),
    awaitMs: awaitMsOf(query),
    passphrase: passphraseOf(context),
  };
  sendJson(response, await withBody(context, (body) => ports.swarm.restore(body, how)));
}

async function report({ response, ports }: RequestContext): Promise<void> {
  const { recovery } = ports.swarm.state();
  if (recovery === undefined) {
    throw notFound('this swarm was neither forced to begin anew nor restored, or nothing of the former one is left');
  }
  sendJson(response, { ...recovery.report, lines: recovery.lines });
}

async function rejoin(context: RequestContext): Promise<void> {
  const addresses = new Fields(await readJson(context)).strings('RemoteAddrs');
  if (addresses.length === 0) throw invalidArgument('the address of a manager is needed: HOST:PORT');
  await context.ports.swarm.rejoin(addresses);
  sendEmpty(context.response);
}

/** Shoal's own routes for disaster recovery; they have no counterpart in the Docker API. */
export const recoveryRoutes: readonly Route[] = [
  { method: 'GET', path: '/shoal/swarm/backup', handler: backup },
  { method: 'POST', path: '/shoal/swarm/backup/inspect', handler: inspect },
  { method: 'POST', path: '/shoal/swarm/restore', handler: restore },
  { method: 'GET', path: '/shoal/swarm/recovery', handler: report },
  { method: 'POST', path: '/shoal/swarm/rejoin', handler: rejoin },
];
