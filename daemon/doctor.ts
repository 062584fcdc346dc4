import { directSpawner, invalidArgument, systemClock, systemRandom } from '../base/index.ts';
import { examineOffline } from '../engine/index.ts';

const EXIT_FAULTS = 1;

const HELP = `Usage:  shoal doctor --data-root DIR [OPTIONS]

Check the data root of a daemon that does not run, and what its containers left on this host.

Options:
      --cgroup-parent PATH   Parent cgroup of its containers (default "/shoal" and "shoal.slice")
      --data-root DIR        Directory of its persistent state
      --deep                 Read every blob and compare it with its digest
      --exec-root DIR        Directory of its run-time state (default "/run/shoal")
      --format json          Print JSON
      --repair               Repair what can be repaired without losing anything

Exits with ${EXIT_FAULTS} when there are faults that were not repaired.
`;

const BOOLS: readonly string[] = ['deep', 'repair', 'help'];
const STRINGS: readonly string[] = ['data-root', 'exec-root', 'cgroup-parent', 'format'];

function readFlags(words: readonly string[]): Map<string, string> {
  const flags = new Map<string, string>();
  for (let i = 0; i < words.length; i++) {
    const [, name = '', inline] = /^--([^=]+)(?:=(.*))?$/s.exec(words[i] as string) ?? [];
    if (BOOLS.includes(name)) flags.set(name, inline ?? 'true');
    else if (STRINGS.includes(name)) {
      const value = inline ?? words[++i];
      if (value === undefined) throw invalidArgument(`flag needs an argument: --${name}`);
      flags.set(name, value);
    } else throw invalidArgument(`unknown word ${words[i]}; see shoal doctor --data-root DIR --help`);
  }
  return flags;
}

/** `shoal doctor --data-root`. Returns the exit code. @throws ShoalError */
export async function runDoctor(argv: readonly string[], print: (text: string) => void): Promise<number> {
  const flags = readFlags(argv);
  if (flags.has('help')) {
    print(HELP);
    return 0;
  }
  const on = (name: string): boolean => flags.get(name) === 'true';
  const report = await examineOffline(
    {
      dataRoot: flags.get('data-root') ?? '/var/lib/shoal',
      execRoot: flags.get('exec-root') ?? '/run/shoal',
      cgroupParent: flags.get('cgroup-parent') ?? '',
      spawner: directSpawner,
      clock: systemClock,
      random: systemRandom,
    },
    { deep: on('deep'), repair: on('repair') },
  );
  print(flags.get('format') === 'json' ? `${JSON.stringify(report)}\n` : `${report.lines.join('\n')}\n`);
  return report.findings.every((finding) => finding.repaired) ? 0 : EXIT_FAULTS;
}
