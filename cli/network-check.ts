import { between, exactly, ExitError, option, UsageError, type CommandGroup } from './command.ts';
import { say, type Context } from './context.ts';
import type { Flags } from './options.ts';
import { alignColumns } from './table.ts';

interface Pair {
  /** Empty: virtual addresses of services. */
  Node: string;
  Asked: number;
  Answered: number;
  RttUs: number;
  Mtu: number;
  MtuRight: boolean;
}

interface NodeVerdict {
  Hostname: string;
  Error: string;
  Tasks: number;
  TasksLeftOut: number;
  Names: { Asked: number; Right: number };
  Entries: number;
  Pairs: Pair[];
  Faults: { Kind: string; Peer: string; What: string }[];
  FaultsLeftOut: number;
}

export interface CheckAnswer {
  OK: boolean;
  Networks: { Name: string; OK: boolean; Nodes: NodeVerdict[] }[];
}

export interface TraceAnswer {
  OK: boolean;
  Steps: { Node: string; Name: string; OK: boolean; What: string }[];
}

const HEADER = 'NETWORK\tFROM\tTO\tNAMES\tREACHED\tRTT\tMTU\tPATH';

function rtt(us: number): string {
  return us === 0 ? '-' : `${(us / 1000).toFixed(2)} ms`;
}

function mtu({ Mtu, MtuRight }: Pair): string {
  if (Mtu === 0) return '-';
  return MtuRight ? String(Mtu) : `${Mtu} BROKEN`;
}

function rowsOf(network: string, node: NodeVerdict): string[] {
  if (node.Error !== '') return [[network, node.Hostname, '-', '-', '-', '-', '-', 'no report'].join('\t')];
  const names = node.Names.Asked === 0 ? '-' : `${node.Names.Right}/${node.Names.Asked}`;
  const pathFaults = node.Faults.filter((fault) => fault.Kind === 'path').length;
  const path = pathFaults === 0 ? 'ok' : `${pathFaults} BROKEN`;
  const whole = [network, node.Hostname, '(all)', names, '-', '-', '-', path].join('\t');
  const pairs = node.Pairs.map((pair) => {
    const to = pair.Node === '' ? '(virtual)' : pair.Node;
    return [network, node.Hostname, to, '-', `${pair.Answered}/${pair.Asked}`, rtt(pair.RttUs), mtu(pair), '-'].join(
      '\t',
    );
  });
  return [whole, ...pairs];
}

const plural = (count: number, what: string): string => `${count} ${what}${count === 1 ? '' : 's'}`;

/** The table, what is broken and where, and the verdict in the last line. */
export function checkText(answer: CheckAnswer): string {
  if (answer.Networks.length === 0) return 'No network has running tasks: there is nothing to check.\n';
  const rows = answer.Networks.flatMap((network) => network.Nodes.flatMap((node) => rowsOf(network.Name, node)));
  const lines: string[] = [];
  let broken = 0;
  let leftOut = 0;
  for (const network of answer.Networks) {
    if (network.Nodes.length === 0) lines.push(`${network.Name}: no running tasks, nothing was tried`);
    for (const node of network.Nodes) {
      const where = `${network.Name}, on ${node.Hostname}`;
      if (node.Error !== '') {
        broken++;
        lines.push(`BROKEN ${where}: ${node.Error}`);
      }
      for (const { Kind, Peer, What } of node.Faults) {
        lines.push(`BROKEN ${where}${Peer === '' ? '' : ` towards ${Peer}`}: ${Kind}: ${What}`);
      }
      broken += node.Faults.length + node.FaultsLeftOut;
      if (node.FaultsLeftOut > 0) lines.push(`… and ${node.FaultsLeftOut} more in ${where}`);
      leftOut += node.TasksLeftOut;
    }
  }
  if (leftOut > 0) lines.push(`${plural(leftOut, 'task')} left out: each host tries from its first tasks only`);
  const networks = plural(answer.Networks.length, 'network');
  const verdict =
    broken === 0 ? `OK: ${networks} checked, nothing is broken` : `BROKEN: ${plural(broken, 'fault')} in ${networks}`;
  return [alignColumns([HEADER, ...rows].join('\n')), '', ...lines, verdict, ''].join('\n');
}

/** The steps in order, and the verdict in the last line. */
export function traceText(answer: TraceAnswer): string {
  const rows = answer.Steps.map((step) => [step.OK ? 'ok' : 'BROKEN', step.Node, step.Name, step.What].join('\t'));
  const first = answer.Steps.find((step) => !step.OK);
  const verdict =
    first === undefined ? 'OK: the whole way is open' : `BROKEN: ${first.Name} on ${first.Node}: ${first.What}`;
  return [alignColumns(['STATE\tHOST\tSTEP\tFOUND', ...rows].join('\n')), '', verdict, ''].join('\n');
}

function show<T extends { OK: boolean }>(context: Context, flags: Flags, answer: T, text: (answer: T) => string): void {
  const format = flags.string('format');
  if (format !== '' && format !== 'json') throw new Error(`invalid format "${format}": only json can be asked for`);
  if (format === 'json') say(context.out, JSON.stringify(answer));
  else context.out.write(text(answer));
  if (!answer.OK) throw new ExitError('', 1);
}

async function check(context: Context, flags: Flags, words: readonly string[]): Promise<void> {
  const answer = await context.client.post<CheckAnswer>('/shoal/network/check', { Network: words[0] ?? '' });
  show(context, flags, answer, checkText);
}

/** TASK:PORT or TASK:PORT/PROTOCOL. */
export function traceTarget(text: string): { To: string; Port: number; Protocol: string } {
  const form = /^(.+):(\d{1,5})(?:\/(tcp|udp))?$/.exec(text);
  if (form === null) throw new UsageError(`"${text}" is no TASK:PORT; for instance web.2:80 or dns.1:53/udp`, 125);
  return { To: form[1] ?? '', Port: Number(form[2]), Protocol: form[3] ?? 'tcp' };
}

async function trace(context: Context, flags: Flags, words: readonly string[]): Promise<void> {
  const [from = '', to = ''] = words;
  const body = { From: from, ...traceTarget(to) };
  show(context, flags, await context.client.post<TraceAnswer>('/shoal/network/trace', body), traceText);
}

const AS_JSON = option('format', 'string', "Format output: 'json'");

export const networkCheckCommands: CommandGroup = {
  check: { usage: '[NETWORK]', arguments: between(0, 1), options: [AS_JSON], run: check },
  trace: { usage: 'TASK TASK|SERVICE:PORT[/PROTOCOL]', arguments: exactly(2), options: [AS_JSON], run: trace },
};
