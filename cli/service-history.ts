import { segment } from './client.ts';
import { between, exactly, FORMAT, option, QUIET, type CommandGroup } from './command.ts';
import { say, type Context } from './context.ts';
import { waitOnService } from './converge.ts';
import type { Service, ServiceSpec } from './objects.ts';
import type { Flags } from './options.ts';
import { changedFields, diffLines, shortened, specLines, type DiffLine } from './spec-diff.ts';
import { headers, renderListing } from './table.ts';
import { Row } from './template-values.ts';
import { ellipsis, humanDuration } from './units.ts';
import { displayImage } from './words.ts';

const COLUMNS = '{{.Revision}}\t{{.CreatedAt}}\t{{.Why}}\t{{.Image}}\t{{.Changes}}';
const HEADERS = headers('Revision', 'CreatedAt=CREATED', 'Why', 'Image', 'Changes');
const WHY_WIDTH_MAX = 50;
const COLOURS: Readonly<Record<DiffLine[0], string>> = { ' ': '', '-': '\u001b[31m', '+': '\u001b[32m' };
const COLOUR_END = '\u001b[0m';

interface Revision {
  Number: number;
  CreatedAt: string;
  Reason: string;
  Current: boolean;
  Spec: ServiceSpec;
}

async function revisionsOf({ client }: Context, name: string): Promise<Revision[]> {
  return await client.get<Revision[]>(`/shoal/services/${segment(name)}/history`);
}

async function history(context: Context, flags: Flags, words: readonly string[]): Promise<void> {
  const revisions = await revisionsOf(context, words[0] ?? '');
  const now = context.clock.now();
  const truncate = !flags.bool('no-trunc');
  const rows = revisions.map((revision, index) => {
    const before = revisions[index - 1];
    const image = revision.Spec.TaskTemplate.ContainerSpec.Image;
    return new Row('*service.revisionContext', {
      Revision: `${revision.Number}${revision.Current ? ' *' : ''}`,
      CreatedAt: `${humanDuration(now - Date.parse(revision.CreatedAt))} ago`,
      Why: truncate ? ellipsis(revision.Reason, WHY_WIDTH_MAX) : revision.Reason,
      Image: truncate ? displayImage(image) : image,
      Changes: before === undefined ? '' : changedFields(before.Spec, revision.Spec),
    });
  });
  const quiet = flags.bool('quiet') ? 'Revision' : undefined;
  const newestFirst = rows.toReversed();
  const listing = { rows: newestFirst, columns: COLUMNS, headers: HEADERS, format: flags.string('format'), quiet };
  context.out.write(renderListing(listing));
}

/** @throws Error that names the revisions that there are */
function pick(revisions: readonly Revision[], name: string, text: string): Revision {
  const found = revisions.find((revision) => String(revision.Number) === text);
  if (found !== undefined) return found;
  const numbers = revisions.map((revision) => revision.Number).join(', ');
  throw new Error(`service ${name} has no revision ${text}: there are ${numbers === '' ? 'none yet' : numbers}`);
}

async function diff(context: Context, _flags: Flags, words: readonly string[]): Promise<void> {
  const [name = '', from = '', to] = words;
  const revisions = await revisionsOf(context, name);
  const a = pick(revisions, name, from);
  const b = to === undefined ? (revisions.find((one) => one.Current) ?? a) : pick(revisions, name, to);
  const lines = shortened(diffLines(specLines(a.Spec), specLines(b.Spec)));
  if (lines.length === 0) {
    say(context.err, `Revisions ${a.Number} and ${b.Number} of service ${name} are the same.`);
    return;
  }
  const titles: DiffLine[] = [
    ['-', `-- ${name} revision ${a.Number} (${a.Reason})`],
    ['+', `++ ${name} revision ${b.Number} (${b.Reason})`],
  ];
  for (const [sign, text] of [...titles, ...lines]) {
    const line = titles.some((title) => title[1] === text) ? `${sign}${text}` : `${sign} ${text}`;
    const colour = context.out.isTerminal ? COLOURS[sign] : '';
    say(context.out, colour === '' ? line : `${colour}${line}${COLOUR_END}`);
  }
}

async function promote(context: Context, flags: Flags, words: readonly string[]): Promise<void> {
  const name = words[0] ?? '';
  await context.client.post(`/shoal/services/${segment(name)}/promote`, {});
  say(context.out, name);
  if (!flags.bool('detach')) await waitOnService(context, name, flags.bool('quiet'));
}

/** A line about a service whose update waits for a promotion; undefined for others. */
export function canaryLine({ Spec, Canary, UpdateStatus }: Service): string | undefined {
  if (Canary?.WaitingSince === undefined || Canary.PromotedAt !== undefined) return undefined;
  if (UpdateStatus?.State !== 'updating') return undefined;
  return `${Spec.Name}: ${UpdateStatus.Message ?? ''}; go on with "shoal service promote ${Spec.Name}"`;
}

export const serviceHistoryCommands: CommandGroup = {
  history: {
    usage: 'SERVICE',
    arguments: exactly(1),
    options: [FORMAT, QUIET, option('no-trunc', 'bool', "Don't truncate output")],
    run: history,
  },
  diff: { usage: 'SERVICE REVISION [REVISION]', arguments: between(2, 3), run: diff },
  promote: {
    usage: 'SERVICE',
    arguments: exactly(1),
    options: [
      option('detach,d', 'bool', 'Return at once, do not wait until the service has converged'),
      option('quiet,q', 'bool', 'Show no progress'),
    ],
    run: promote,
  },
};
