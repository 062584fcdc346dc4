import { segment, type Client } from './client.ts';
import { atLeast, FORMAT, NO_TRUNC, option, type CommandGroup } from './command.ts';
import { say, type Context } from './context.ts';
import type { AutoscaleStatus, ServiceStats } from './objects.ts';
import type { Flags } from './options.ts';
import { NameResolver } from './resolve.ts';
import { headers, renderListing } from './table.ts';
import { Row } from './template-values.ts';
import { binarySize, humanDuration, shortId } from './units.ts';

const COLUMNS = '{{.Name}}\t{{.Node}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}';
const HEADERS = headers(
  'ID',
  'Name=TASK',
  'Node',
  'CPUPerc=CPU %',
  'MemUsage=MEM USAGE / LIMIT',
  'MemPerc=MEM %',
  'Age',
);
/** Docker's sign for what is not known. */
const UNKNOWN = '--';

const percent = (value: number): string => `${value.toFixed(2)}%`;

function rowOf(task: ServiceStats['Tasks'][number], name: string, node: string, truncate: boolean): Row {
  const { CPUPercent, MemoryBytes = 0, MemoryLimitBytes: limit = 0, AgeMs } = task;
  // 0 bytes: its host does not count memory.
  const known = MemoryBytes > 0;
  return new Row('*service.statsContext', {
    ID: truncate ? shortId(task.ID) : task.ID,
    Name: name,
    Node: node,
    CPUPerc: CPUPercent === undefined ? UNKNOWN : percent(CPUPercent),
    MemUsage: `${known ? binarySize(MemoryBytes) : UNKNOWN} / ${limit > 0 ? binarySize(limit) : UNKNOWN}`,
    MemPerc: known && limit > 0 ? percent((MemoryBytes / limit) * 100) : UNKNOWN,
    Age: AgeMs === undefined ? UNKNOWN : humanDuration(AgeMs).toLowerCase(),
  });
}

const lastChange = (last: AutoscaleStatus | undefined, nowMs: number): string =>
  last === undefined
    ? 'not changed yet'
    : `last change ${humanDuration(nowMs - Date.parse(last.ChangedAt)).toLowerCase()} ago: ${last.Message}`;

/** `web: 4 replicas (2..8), CPU 61 % of 50 %, …`: what the autoscaler of a service aims at, sees and has done. */
export function autoscaleLine(stats: ServiceStats, nowMs: number): string | undefined {
  const { Autoscale: scale, Fresh, Running } = stats;
  if (scale === undefined) return undefined;
  const seen = (word: string, target: number | undefined, value: number): string[] =>
    target === undefined ? [] : [`${word} ${Fresh === 0 ? UNKNOWN : Math.round(value)} % of ${target} %`];
  return [
    `autoscale: ${stats.Name}: ${scale.Replicas} replicas (${scale.Min}..${scale.Max})`,
    ...seen('CPU', scale.CPUTarget, stats.CPUPercent),
    ...seen('memory', scale.MemoryTarget, stats.MemoryPercent),
    ...(Fresh < Running ? [`${Fresh} of ${Running} tasks tell their use`] : []),
    lastChange(scale.Last, nowMs),
  ].join(', ');
}

export const statsOfService = (client: Client, name: string): Promise<ServiceStats> =>
  client.get<ServiceStats>(`/shoal/services/${segment(name)}/stats`);

async function stats(context: Context, flags: Flags, words: readonly string[]): Promise<void> {
  const { client, out, err, clock } = context;
  const names = new NameResolver(client, flags.bool('no-resolve'));
  const rows: Row[] = [];
  const lines: string[] = [];
  for (const word of words) {
    const found = await statsOfService(client, word);
    for (const task of found.Tasks) {
      const name = `${found.Name}.${task.Slot ?? task.NodeID}`;
      rows.push(rowOf(task, name, await names.node(task.NodeID), !flags.bool('no-trunc')));
    }
    const line = autoscaleLine(found, clock.now());
    if (line !== undefined) lines.push(line);
  }
  const format = flags.string('format');
  out.write(renderListing({ rows, columns: COLUMNS, headers: HEADERS, format }));
  if (format === '') for (const line of lines) say(err, line);
}

export const serviceStatsCommands: CommandGroup = {
  stats: {
    usage: 'SERVICE [SERVICE...]',
    arguments: atLeast(1),
    options: [FORMAT, NO_TRUNC, option('no-resolve', 'bool', 'Show ids in the place of names')],
    run: stats,
  },
};
