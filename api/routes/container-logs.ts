import { invalidArgument, must } from '../../base/index.ts';
import { queryBool, queryTime } from '../body.ts';
import type { LogLineFacts } from '../ports.ts';
import type { RequestContext, Route } from '../router.ts';
import { beginOutput, frame, write } from '../stream.ts';
import { tailCount } from './service-logs.ts';

/** What stands before a line: its time and the attributes of the container, as asked for. */
function prefixOf(line: LogLineFacts, withTime: boolean, details: string | undefined): string {
  // The rest of a line that was too long to be given out whole.
  if (line.continued === true) return '';
  return `${withTime ? `${line.time} ` : ''}${details === undefined ? '' : `${details} `}`;
}

async function logs(context: RequestContext): Promise<void> {
  const { ports, query, response, signal, params } = context;
  const container = ports.engine.containers.inspect(must(params['id'], 'id'));
  const [stdout, stderr] = [queryBool(query, 'stdout'), queryBool(query, 'stderr')];
  if (!stdout && !stderr) throw invalidArgument('Bad parameters: you must choose at least one stream');
  // As dockerd: what is no number asks for all.
  const tail = /^-?\d+$/.test(query.get('tail') ?? '') ? tailCount(query) : undefined;
  const since = queryTime(query, 'since');
  const until = queryTime(query, 'until');
  const blocks = ports.engine.containers.logBlocks(
    container.id,
    {
      stdout,
      stderr,
      follow: queryBool(query, 'follow'),
      ...(tail === undefined ? {} : { tail }),
      ...(since === undefined ? {} : { since }),
      ...(until === undefined ? {} : { until }),
    },
    signal,
  );
  const withTime = queryBool(query, 'timestamps');
  const details = queryBool(query, 'details') ? ports.engine.containers.logDetails(container.id) : undefined;
  const raw = container.config.tty;
  const piece = (line: LogLineFacts): Uint8Array => {
    const prefix = prefixOf(line, withTime, details);
    const data = prefix === '' ? line.data : Buffer.concat([Buffer.from(prefix), line.data]);
    return raw ? data : frame(line.stream, data);
  };
  beginOutput(context, raw);
  for await (const lines of blocks) await write(response, Buffer.concat(lines.map(piece)), signal);
  response.end();
}

export const containerLogRoutes: readonly Route[] = [{ method: 'GET', path: '/containers/{id}/logs', handler: logs }];
