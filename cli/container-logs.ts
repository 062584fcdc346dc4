import { segment } from './client.ts';
import { exactly, option, type CommandGroup } from './command.ts';
import type { Context } from './context.ts';
import { frames } from './frames.ts';
import type { Flags } from './options.ts';
import { timestamp } from './timestamp.ts';

async function logs(context: Context, flags: Flags, words: readonly string[]): Promise<void> {
  const { client, clock } = context;
  const path = `/containers/${segment(words[0] ?? '')}`;
  const container = await client.get<{ Config: { Tty: boolean } }>(`${path}/json`);
  const moment = (name: string): string | undefined =>
    flags.string(name) === '' ? undefined : timestamp(flags.string(name), clock.now());
  const body = await client.stream({
    method: 'GET',
    path: `${path}/logs`,
    query: {
      stdout: true,
      stderr: true,
      since: moment('since'),
      until: moment('until'),
      timestamps: flags.bool('timestamps'),
      follow: flags.bool('follow'),
      details: flags.bool('details'),
      tail: flags.string('tail'),
    },
  });
  if (container.Config.Tty) {
    for await (const chunk of body as AsyncIterable<Uint8Array>) context.out.write(chunk);
    return;
  }
  for await (const { stream, data } of frames(body)) (stream === 'stderr' ? context.err : context.out).write(data);
}

export const containerLogCommands: CommandGroup = {
  logs: {
    usage: 'CONTAINER',
    arguments: exactly(1),
    options: [
      option('details', 'bool', 'Show what the log driver knows besides'),
      option('follow,f', 'bool', 'Go on as lines are written'),
      option('since', 'string', 'Lines since a time (2013-01-02T13:23:37Z) or a span (42m)'),
      option('until', 'string', 'Lines before a time or a span'),
      option('tail,n', 'string', 'How many lines from the end', { initial: 'all', shown: '"all"' }),
      option('timestamps,t', 'bool', 'Show the time of each line'),
    ],
    run: logs,
  },
};
