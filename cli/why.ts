import { exactly, option, STALE, type CommandGroup } from './command.ts';
import { segment } from './client.ts';
import type { Context } from './context.ts';
import { wrap } from './help.ts';
import type { Flags } from './options.ts';
import { warnStale } from './service.ts';

/** Narrowest terminal that text is set for, characters. */
const WIDTH_MIN = 40;

interface Answer {
  Text: string;
}

/** Sets text for a terminal: lines that are too long go on below their own beginning. */
export function setText(text: string, columns: number): string {
  if (columns === 0) return text;
  const width = Math.max(WIDTH_MIN, columns);
  return text
    .split('\n')
    .map((line) => {
      const indent = /^ *(?:- )?/.exec(line)?.[0] ?? '';
      const rows = wrap(line.slice(indent.length), width - indent.length);
      return indent + rows.join(`\n${' '.repeat(indent.length)}`);
    })
    .join('\n');
}

async function why(context: Context, flags: Flags, words: readonly string[]): Promise<void> {
  const reference = words[0] ?? '';
  const kind = flags.string('type');
  const format = flags.string('format');
  if (format !== '' && format !== 'json') throw new Error(`invalid format "${format}": only json can be asked for`);
  const stale = flags.bool('stale');
  const path = kind === '' ? '/shoal/why' : `/shoal/why/${segment(kind)}/${segment(reference)}`;
  const query = { stale, ref: kind === '' ? reference : undefined };
  const text = await context.client.text({ method: 'GET', path, query });
  if (stale) await warnStale(context);
  context.out.write(format === 'json' ? text : setText((JSON.parse(text) as Answer).Text, context.out.columns));
}

export const whyCommands: CommandGroup = {
  why: {
    usage: 'TASK|SERVICE|NODE',
    arguments: exactly(1),
    options: [
      option('type', 'string', 'What the reference stands for ("task", "service", "node")'),
      option('format', 'string', "Format output: 'json'"),
      STALE,
    ],
    run: why,
  },
};
