import { segment } from './client.ts';
import { exactly, FORMAT, option, type CommandGroup } from './command.ts';
import { say, type Context } from './context.ts';
import { waitOnService } from './converge.ts';
import type { CronRun, CronState } from './objects.ts';
import type { Flags } from './options.ts';
import { headers, renderListing } from './table.ts';
import { Row } from './template-values.ts';
import { humanDuration } from './units.ts';

const COLUMNS = '{{.Run}}\t{{.Scheduled}}\t{{.Duration}}\t{{.Outcome}}\t{{.Message}}';
const HEADERS = headers('Run', 'Scheduled', 'Duration', 'Outcome', 'Message');

function rowOf(run: CronRun, nowMs: number): Row {
  const begun = Date.parse(run.Scheduled ?? '');
  const ended = run.Finished === undefined ? nowMs : Date.parse(run.Finished);
  const isSkipped = run.Outcome === 'skipped';
  return new Row('*service.runContext', {
    Run: isSkipped ? '' : String(run.JobIteration.Index),
    Scheduled: run.Scheduled ?? '',
    Duration: isSkipped ? '' : humanDuration(Math.max(0, ended - begun)).toLowerCase(),
    Outcome: run.Outcome,
    Message: run.Message,
  });
}

async function runs(context: Context, flags: Flags, words: readonly string[]): Promise<void> {
  const { client, clock, out } = context;
  const state = await client.get<CronState>(`/shoal/services/${segment(words[0] ?? '')}/runs`);
  const rows = state.Runs.toReversed().map((run) => rowOf(run, clock.now()));
  const format = flags.string('format');
  out.write(renderListing({ rows, columns: COLUMNS, headers: HEADERS, format, quiet: undefined }));
  if (format !== '') return;
  say(out, `next: ${state.NextScheduled ?? 'never'} (${state.Schedule})`);
  if (state.Message !== '') say(out, state.Message);
}

async function run(context: Context, flags: Flags, words: readonly string[]): Promise<void> {
  const { client, out } = context;
  const name = words[0] ?? '';
  const { ID } = await client.post<{ ID: string }>(`/shoal/services/${segment(name)}/run`, undefined);
  say(out, name);
  if (!flags.bool('detach')) await waitOnService(context, ID, flags.bool('quiet'));
}

export const serviceRunCommands: CommandGroup = {
  run: {
    usage: 'SERVICE',
    arguments: exactly(1),
    options: [
      option('detach,d', 'bool', 'Return at once, do not wait for the end of the run'),
      option('quiet,q', 'bool', 'Show no progress'),
    ],
    run,
  },
  runs: { usage: 'SERVICE', arguments: exactly(1), options: [FORMAT], run: runs },
};
