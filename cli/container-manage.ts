/** Containers looked at and changed one by one: update, rename, port, top, diff, export, commit. */
import { isIP } from 'node:net';
import { errorMessage } from '../base/index.ts';
import { atLeast, between, exactly, option, type CommandGroup } from './command.ts';
import { say, type Context } from './context.ts';
import type { Flags } from './options.ts';
import { containerPath } from './parallel.ts';
import { saveStream } from './save-stream.ts';
import { restartPolicy } from './run-body.ts';
import { BODY_OPTIONS } from './run-options.ts';
import { reportErrors } from './task-table.ts';
import { alignColumns } from './table.ts';
import { naturalOrder } from './units.ts';
import { checkImageName, cut, fullImageName, imageName } from './words.ts';

const UPDATE_NAMES = [
  ...['blkio-weight', 'cpu-period', 'cpu-quota', 'cpu-rt-period', 'cpu-rt-runtime', 'cpuset-cpus', 'cpuset-mems'],
  ...['cpu-shares', 'memory', 'memory-reservation', 'memory-swap', 'pids-limit', 'cpus'],
];
const UPDATE_FIELDS = BODY_OPTIONS.filter((one) => UPDATE_NAMES.includes(one.name));

/** Resources that docker's client always sends; zero says nothing. */
const UPDATE_EMPTY = {
  ...{ CpuShares: 0, Memory: 0, NanoCpus: 0, CgroupParent: '', BlkioWeight: 0, BlkioWeightDevice: null },
  ...{ BlkioDeviceReadBps: null, BlkioDeviceWriteBps: null, BlkioDeviceReadIOps: null, BlkioDeviceWriteIOps: null },
  ...{ CpuPeriod: 0, CpuQuota: 0, CpuRealtimePeriod: 0, CpuRealtimeRuntime: 0, CpusetCpus: '', CpusetMems: '' },
  ...{ Devices: null, DeviceCgroupRules: null, DeviceRequests: null, MemoryReservation: 0, MemorySwap: 0 },
  ...{ MemorySwappiness: null, OomKillDisable: null, PidsLimit: null, Ulimits: null, CpuCount: 0, CpuPercent: 0 },
  ...{ IOMaximumIOps: 0, IOMaximumBandwidth: 0 },
};

/** Body of an update. */
export function updateBody(flags: Flags): Record<string, unknown> {
  const set = UPDATE_FIELDS.filter(({ name }) => flags.changed(name)).map(
    ({ name, to = '' }) => [to.slice('HostConfig.'.length), flags.value(name)] as const,
  );
  const given = Object.fromEntries(set.filter(([field, value]) => field !== 'PidsLimit' || value !== 0));
  const policy = flags.string('restart');
  const RestartPolicy = policy === '' ? { Name: '', MaximumRetryCount: 0 } : restartPolicy(policy);
  return { ...UPDATE_EMPTY, ...given, RestartPolicy };
}

async function update(context: Context, flags: Flags, names: readonly string[]): Promise<number> {
  if (flags.given.length === 0) throw new Error('you must provide one or more flags when using this command');
  const body = updateBody(flags);
  const errors: string[] = [];
  const warnings: string[] = [];
  for (const name of names) {
    try {
      const answer = await context.client.post<{ Warnings?: string[] | null }>(containerPath(name, 'update'), body);
      say(context.out, name);
      warnings.push(...(answer.Warnings ?? []));
    } catch (error) {
      errors.push(errorMessage(error));
    }
  }
  for (const warning of warnings) say(context.out, warning);
  return reportErrors(context, errors);
}

async function rename(context: Context, _flags: Flags, words: readonly string[]): Promise<void> {
  const [from = '', to = ''] = words.map((word) => word.trim());
  if (from === '' || to === '') throw new Error('Error: Neither old nor new names may be empty');
  try {
    await context.client.post(containerPath(from, 'rename'), undefined, { name: to });
  } catch (error) {
    say(context.err, errorMessage(error));
    throw new Error(`Error: failed to rename container named ${from}`, { cause: error });
  }
}

interface Binding {
  HostIp: string;
  HostPort: string;
}

const joined = ({ HostIp, HostPort }: Binding): string => `${isIP(HostIp) === 6 ? `[${HostIp}]` : HostIp}:${HostPort}`;
const PORT_MAX = 65_535;

async function port(context: Context, _flags: Flags, words: readonly string[]): Promise<void> {
  const [name = '', wanted = ''] = words;
  const container = await context.client.get<{ NetworkSettings: { Ports?: Record<string, Binding[] | null> | null } }>(
    containerPath(name, 'json'),
  );
  const ports = container.NetworkSettings.Ports ?? {};
  let lines: string[];
  if (wanted !== '') {
    const [number, protocol] = cut(wanted, '/');
    if (!/^\d+$/.test(number) || Number(number) > PORT_MAX) {
      const reason = /^\d+$/.test(number) ? 'value out of range' : 'invalid syntax';
      throw new Error(
        `Error: invalid port (${number}): strconv.ParseUint: parsing ${JSON.stringify(number)}: ${reason}`,
      );
    }
    const found = ports[`${number}/${protocol || 'tcp'}`] ?? [];
    if (found.length === 0) throw new Error(`Error: No public port '${wanted}' published for ${name}`);
    lines = found.map(joined);
  } else {
    lines = Object.entries(ports).flatMap(([inside, list]) => (list ?? []).map((one) => `${inside} -> ${joined(one)}`));
  }
  for (const line of lines.toSorted(naturalOrder)) say(context.out, line);
}

/** Columns of `top` and of docker's other plain tables: least width and gap. */
const TOP_WIDTH_MIN = 20;
const TOP_GAP = 3;

async function top(context: Context, _flags: Flags, words: readonly string[]): Promise<void> {
  const [name = '', ...args] = words;
  const { Titles, Processes } = await context.client.get<{ Titles: string[]; Processes: string[][] | null }>(
    containerPath(name, 'top'),
    { ps_args: args.length === 0 ? undefined : args.join(' ') },
  );
  const lines = [Titles, ...(Processes ?? [])].map((cells) => cells.join('\t'));
  say(context.out, alignColumns(lines.join('\n'), TOP_WIDTH_MIN, TOP_GAP));
}

const KINDS = ['C', 'A', 'D'];

async function diff(context: Context, _flags: Flags, words: readonly string[]): Promise<void> {
  const name = words[0] ?? '';
  if (name === '') throw new Error('Container name cannot be empty');
  const changes = await context.client.get<{ Path: string; Kind: number }[] | null>(containerPath(name, 'changes'));
  context.out.write((changes ?? []).map(({ Path, Kind }) => `${KINDS[Kind] ?? ''} ${Path}\n`).join(''));
}

async function exportFiles(context: Context, flags: Flags, words: readonly string[]): Promise<void> {
  const path = containerPath(words[0] ?? '', 'export');
  await saveStream(context, flags.string('output'), 'failed to export container', () =>
    context.client.stream({ method: 'GET', path }),
  );
}

async function commit(context: Context, flags: Flags, words: readonly string[]): Promise<void> {
  const [container = '', reference = ''] = words;
  const name = reference === '' ? undefined : imageName(reference);
  if (name !== undefined) checkImageName(reference);
  if (name?.digest !== undefined) throw new Error('refusing to create a tag with a digest reference');
  const changes = flags.list('change').map((change) => `changes=${encodeURIComponent(change)}`);
  const answer = await context.client.post<{ Id: string }>(
    `/commit${changes.length === 0 ? '' : `?${changes.join('&')}`}`,
    undefined,
    {
      container,
      repo: name === undefined ? undefined : fullImageName(name.name),
      tag: name === undefined ? undefined : (name.tag ?? 'latest'),
      comment: flags.string('message') || undefined,
      author: flags.string('author') || undefined,
      pause: flags.bool('pause') ? undefined : '0',
    },
  );
  say(context.out, answer.Id);
}

const MANY = 'CONTAINER [CONTAINER...]';

export const containerManageCommands: CommandGroup = {
  update: {
    usage: MANY,
    arguments: atLeast(1),
    options: [...UPDATE_FIELDS, option('restart', 'string', 'Restart policy to apply when a container exits')],
    run: update,
  },
  rename: { usage: 'CONTAINER NEW_NAME', arguments: exactly(2), run: rename },
  port: { usage: 'CONTAINER [PRIVATE_PORT[/PROTO]]', arguments: between(1, 2), run: port },
  top: { usage: 'CONTAINER [ps OPTIONS]', arguments: atLeast(1), stopAtArgument: true, run: top },
  diff: { usage: 'CONTAINER', arguments: exactly(1), run: diff },
  export: {
    usage: 'CONTAINER',
    arguments: exactly(1),
    options: [option('output,o', 'string', 'Write to a file, instead of STDOUT')],
    run: exportFiles,
  },
  commit: {
    usage: 'CONTAINER [REPOSITORY[:TAG]]',
    arguments: between(1, 2),
    stopAtArgument: true,
    options: [
      option('author,a', 'string', 'Author (e.g., "John Hannibal Smith <hannibal@a-team.com>")'),
      option('change,c', 'list', 'Apply Dockerfile instruction to the created image'),
      option('message,m', 'string', 'Commit message'),
      option('pause,p', 'bool', 'Pause container during commit', { initial: true, shown: 'true' }),
    ],
    run: commit,
  },
};
