import { DaemonError } from './client.ts';
import { exactly, ExitError, option, type CommandGroup } from './command.ts';
import { say, type Context } from './context.ts';
import type { Flags } from './options.ts';

/** The part of the daemon's answer that is shown here. */
interface DoctorAnswer {
  /** Nothing is wrong, or all of it was repaired. */
  OK: boolean;
  Lines: readonly string[];
}

const WITHOUT_DAEMON = 'A data root whose daemon does not run is checked with: shoal doctor --data-root DIR';

async function doctor(context: Context, flags: Flags): Promise<void> {
  const format = flags.string('format');
  if (format !== '' && format !== 'json') throw new Error(`invalid format "${format}": only json can be asked for`);
  const body = { Deep: flags.bool('deep'), Repair: flags.bool('repair') };
  const answer = await context.client.post<DoctorAnswer>('/shoal/doctor', body).catch((error: unknown) => {
    if (error instanceof DaemonError || !(error instanceof Error)) throw error;
    throw new Error(`${error.message}\n${WITHOUT_DAEMON}`, { cause: error });
  });
  if (format === 'json') say(context.out, JSON.stringify(answer));
  else say(context.out, answer.Lines.join('\n'));
  if (!answer.OK) throw new ExitError('', 1);
}

export const doctorCommands: CommandGroup = {
  doctor: {
    usage: '[OPTIONS]',
    arguments: exactly(0),
    options: [
      option('deep', 'bool', 'Read every blob and compare it with its digest'),
      option('format', 'string', "Format output: 'json'"),
      option('repair', 'bool', 'Repair what can be repaired without losing anything'),
      option('data-root', 'string', 'Check the data root of a daemon that does not run'),
      option('exec-root', 'string', 'Its directory of run-time state (with --data-root)', { shown: '/run/shoal' }),
      option('cgroup-parent', 'string', 'Its parent cgroup (with --data-root)', { shown: '/shoal and shoal.slice' }),
    ],
    run: doctor,
  },
};
