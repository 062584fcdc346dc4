import { errorMessage, invalidArgument } from '../../base/index.ts';
import { LogStream, timestampFromMs, timestampToIso, type LogMessage, type LogSelector } from '../../proto/index.ts';
import { queryBool, queryInt, queryTimeMs } from '../body.ts';
import type { RequestContext } from '../router.ts';
import { beginOutput, frame, write } from '../stream.ts';

/** `?tail=` as a count; undefined means all. */
export function tailCount(query: URLSearchParams): number | undefined {
  const text = query.get('tail');
  return text === null || text === '' || text === 'all' ? undefined : queryInt(query, 'tail');
}

/** The wire's form of a tail: 0 is all, -(n+1) is the last n lines (LogSubscriptionOptions.tail). */
export function wireTail(count: number | undefined): number {
  return count === undefined ? 0 : -(count + 1);
}

/** A line's details in the form the docker client parses: sorted `k=v`, query-escaped, joined by commas. */
function details(message: LogMessage): string {
  const { context } = message;
  const facts: Record<string, string> = {
    'com.docker.swarm.node.id': context?.node_id ?? '',
    'com.docker.swarm.service.id': context?.service_id ?? '',
    'com.docker.swarm.task.id': context?.task_id ?? '',
    ...Object.fromEntries(message.attrs.map((attribute) => [attribute.key, attribute.value])),
  };
  return Object.keys(facts)
    .sort()
    .map((key) => `${encodeURIComponent(key)}=${encodeURIComponent(facts[key] ?? '')}`)
    .join(',');
}

/** Streams the lines of tasks, framed (or raw for terminals), each with its details when asked for. */
export async function streamServiceLogs(context: RequestContext, selector: LogSelector, tty: boolean): Promise<void> {
  const { query, ports, response, signal } = context;
  const streams: LogStream[] = [];
  if (queryBool(query, 'stdout')) streams.push(LogStream.LOG_STREAM_STDOUT);
  if (queryBool(query, 'stderr')) streams.push(LogStream.LOG_STREAM_STDERR);
  if (streams.length === 0) throw invalidArgument('Bad parameters: you must choose at least one stream');
  const sinceMs = queryTimeMs(query, 'since');
  const options = {
    streams,
    follow: queryBool(query, 'follow'),
    tail: wireTail(tailCount(query)),
    since: sinceMs === undefined ? null : timestampFromMs(sinceMs),
  };
  const withTime = queryBool(query, 'timestamps');
  const withDetails = queryBool(query, 'details');
  beginOutput(context, tty);
  try {
    for await (const { messages } of ports.swarm.subscribeLogs({ selector, options }, signal)) {
      for (const message of messages) {
        const prefix =
          (withTime ? `${timestampToIso(message.timestamp)} ` : '') + (withDetails ? `${details(message)} ` : '');
        const line = Buffer.concat([Buffer.from(prefix), message.data]);
        const stream = message.stream === LogStream.LOG_STREAM_STDERR ? 'stderr' : 'stdout';
        await write(response, tty ? line : frame(stream, line), signal);
      }
    }
  } catch (error) {
    // The answer has begun: clients take the reason from a frame of its own kind and end with it.
    if (signal.aborted || tty) throw error;
    await write(response, frame('systemerr', Buffer.from(errorMessage(error))), signal);
  }
  response.end();
}
