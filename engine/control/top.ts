import { conflict, failedPrecondition, invalidArgument, ShoalError, type Spawner } from '../../base/index.ts';
import { cgroupPathOf } from '../containers/bundle.ts';
import type { ContainerUnit } from '../containers/unit.ts';
import { findProgram } from '../runtime/probe.ts';
import type { ProcessTable } from '../types.ts';

const PS_TIMEOUT_MS = 10_000;
const DEFAULT_ARGS = '-ef';

/** White space as C sees it: a name of a process may hold other kinds. */
const fields = (line: string): string[] => line.split(/[ \t\n\v\f\r]+/).filter((field) => field !== '');

/** A column that is given the title PID would hide which process a line is of. @throws ShoalError InvalidArgument */
function checkArgs(psArgs: string): void {
  for (const [, key = '', value = ''] of psArgs.matchAll(/\s+([^\s=]*)=\s*(PID\S*)/g)) {
    if (key !== 'pid') throw invalidArgument(`specifying "${key}=${value}" is not allowed`);
  }
}

/** Reads what ps(1) printed and keeps the lines of `pids`, as dockerd does. @throws ShoalError Internal */
export function parsePs(output: string, pids: ReadonlySet<number>): ProcessTable {
  const [head = '', ...lines] = output.split('\n');
  const titles = fields(head);
  const at = titles.indexOf('PID');
  if (at === -1) throw new ShoalError('Internal', "Couldn't find PID field in ps output");
  const processes: string[][] = [];
  // A line whose PID is a dash is a thread of the process above it (ps -m).
  let belongs = false;
  for (const line of lines) {
    const words = fields(line);
    if (words.length === 0) continue;
    const pid = words[at] ?? '';
    if (pid !== '-') {
      if (!/^\d+$/.test(pid)) throw new ShoalError('Internal', `Unexpected pid '${pid}' in the output of ps`);
      belongs = pids.has(Number(pid));
    }
    if (!belongs) continue;
    const last = titles.length - 1;
    processes.push([...words.slice(0, last), words.slice(last).join(' ')]);
  }
  return { titles, processes };
}

/** Runs ps, if it can only for these processes: some of its options do not go with a choice. */
async function runPs(spawner: Spawner, file: string, args: string[], pids: readonly number[]): Promise<string> {
  const chosen = await spawner.run({ file, args: [...args, `-q${pids.join(',')}`], timeoutMs: PS_TIMEOUT_MS });
  if (chosen.code === 0) return chosen.stdout.toString('utf8');
  const all = await spawner.run({ file, args, timeoutMs: PS_TIMEOUT_MS });
  if (all.code === 0) return all.stdout.toString('utf8');
  const why = all.stderr.toString('utf8').split('\n')[0] ?? '';
  throw new ShoalError('Internal', why === '' ? `ps: exit status ${all.code ?? all.signal ?? 'unknown'}` : why);
}

/**
 * The processes of a running container as the host's ps(1) shows them.
 * @throws ShoalError Conflict when it does not run; FailedPrecondition when the host has no ps.
 */
export async function top(unit: ContainerUnit, psArgs: string): Promise<ProcessTable> {
  const wanted = psArgs === '' ? DEFAULT_ARGS : psArgs;
  checkArgs(wanted);
  const { parts, container } = unit.record;
  if (container.state === 'restarting') {
    throw conflict(`Container ${container.id} is restarting, wait until the container is running`);
  }
  if (!unit.running) throw conflict(`container ${container.id} is not running`);
  const file = await findProgram('ps');
  if (file === undefined) {
    throw failedPrecondition('docker top runs the program ps of the host, which is not there: install procps');
  }
  const pids = await parts.cgroups.processes(cgroupPathOf(parts, container.id));
  const args = wanted.split(' ').filter((arg) => arg !== '');
  const table = parsePs(await runPs(parts.spawner, file, args, pids), new Set(pids));
  unit.record.event('top');
  return table;
}
