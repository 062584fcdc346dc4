import { segment } from './client.ts';
import {
  atLeast,
  exactly,
  FILTER,
  FORMAT,
  INSPECT_FORMAT,
  NO_TRUNC,
  option,
  type Command,
  type CommandGroup,
} from './command.ts';
import { beginWait } from './container-wait.ts';
import { say, type Context } from './context.ts';
import { inspect } from './inspect.ts';
import { labelLine } from './network.ts';
import type { Flags } from './options.ts';
import { postToEach, removeContainers } from './parallel.ts';
import { removeEach } from './remove.ts';
import { headers, renderListing } from './table.ts';
import { Row } from './template-values.ts';
import { ellipsis, humanDuration, humanSize, localTime, quote, shortId } from './units.ts';
import { imageName } from './words.ts';

interface Port {
  IP?: string;
  PrivatePort: number;
  PublicPort?: number;
  Type: string;
}

/** A container in a list. */
export interface Container {
  Id: string;
  Names: string[];
  Image: string;
  ImageID: string;
  Command: string;
  Created: number;
  State: string;
  Status: string;
  Ports?: Port[] | null;
  SizeRw?: number;
  SizeRootFs?: number;
  Labels?: Record<string, string> | null;
  Mounts?: { Name?: string; Source: string; Driver?: string }[] | null;
  NetworkSettings?: { Networks?: Record<string, unknown> };
}

const COLUMNS = '{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}';
/** Headers of a table of containers. */
export const HEADERS = headers(
  'ID=CONTAINER ID',
  'Names',
  'Image',
  'Command',
  'CreatedAt=CREATED AT',
  'RunningFor=CREATED',
  'Ports',
  'State',
  'Status',
  'Size',
  'Labels',
  'Mounts',
  'LocalVolumes=LOCAL VOLUMES',
  'Networks',
  'Platform',
);

/** The format `raw`: each field on a line of its own. */
const RAW = [
  ...['container_id: {{.ID}}', 'image: {{.Image}}', 'command: {{.Command}}', 'created_at: {{.CreatedAt}}'],
  ...['state: {{.State}}', 'status: {{.Status}}', 'names: {{.Names}}', 'labels: {{.Labels}}', 'ports: {{.Ports}}'],
];

const address = (ip: string): string => (ip.includes(':') ? `[${ip}]` : ip);

/** Ports of a container: those with the same number inside and out are joined to ranges. */
export function displayContainerPorts(ports: readonly Port[]): string {
  const sorted = [...ports].sort(
    (a, b) =>
      a.PrivatePort - b.PrivatePort ||
      ((a.IP ?? '') < (b.IP ?? '') ? -1 : (a.IP ?? '') > (b.IP ?? '') ? 1 : 0) ||
      (a.PublicPort ?? 0) - (b.PublicPort ?? 0) ||
      (a.Type < b.Type ? -1 : 1),
  );
  const groups = new Map<string, { first: number; last: number }>();
  const done: string[] = [];
  const mapped: string[] = [];
  const text = (key: string, first: number, last: number): string => {
    const slash = key.lastIndexOf('/');
    const span = first === last ? String(first) : `${first}-${last}`;
    return slash < 0 ? `${span}/${key}` : `${address(key.slice(0, slash))}:${span}->${span}/${key.slice(slash + 1)}`;
  };
  for (const { IP = '', PrivatePort, PublicPort = 0, Type } of sorted) {
    if (IP !== '' && PublicPort !== PrivatePort) {
      mapped.push(`${address(IP)}:${PublicPort}->${PrivatePort}/${Type}`);
      continue;
    }
    const key = IP === '' ? Type : `${IP}/${Type}`;
    const group = groups.get(key);
    if (group !== undefined && PrivatePort === group.last + 1) group.last = PrivatePort;
    else {
      if (group !== undefined) done.push(text(key, group.first, group.last));
      groups.set(key, { first: PrivatePort, last: PrivatePort });
    }
  }
  return [...done, ...[...groups].map(([key, { first, last }]) => text(key, first, last)), ...mapped].join(', ');
}

function shownImage(container: Container, truncate: boolean): string {
  if (container.Image === '') return '<no image>';
  if (!truncate) return container.Image;
  if (shortId(container.ImageID) === shortId(container.Image)) return shortId(container.ImageID);
  const { name, tag } = imageName(container.Image);
  return tag === undefined ? name : `${name}:${tag}`;
}

/** A container's line in a table. */
export function containerRow(container: Container, nowMs: number, truncate: boolean): Row {
  const names = container.Names.map((name) => name.slice(1));
  const own = names.find((name) => !name.includes('/'));
  const created = container.Created * 1000;
  const mounts = container.Mounts ?? [];
  const writable = humanSize(container.SizeRw ?? 0, 3);
  return new Row('*formatter.ContainerContext', {
    ID: truncate ? shortId(container.Id) : container.Id,
    Names: truncate && own !== undefined ? own : names.join(','),
    Image: shownImage(container, truncate),
    Command: quote(truncate ? ellipsis(container.Command, 20) : container.Command),
    // Asked for by few formats, and dear: names of time zones take 20 ms to load.
    get CreatedAt() {
      return localTime(created);
    },
    RunningFor: `${humanDuration(nowMs - created)} ago`,
    Platform: null,
    Ports: displayContainerPorts(container.Ports ?? []),
    State: container.State,
    Status: container.Status,
    Size:
      (container.SizeRootFs ?? 0) > 0 ? `${writable} (virtual ${humanSize(container.SizeRootFs ?? 0, 3)})` : writable,
    Labels: labelLine(container.Labels),
    Label: (name: string) => container.Labels?.[name] ?? '',
    Mounts: mounts.map((mount) => ellipsisIf(truncate, mount.Name ?? mount.Source)).join(','),
    LocalVolumes: String(mounts.filter((mount) => mount.Driver === 'local').length),
    Networks: Object.keys(container.NetworkSettings?.Networks ?? {}).join(','),
  });
}

const ellipsisIf = (truncate: boolean, text: string): string => (truncate ? ellipsis(text, 15) : text);

async function list(context: Context, flags: Flags): Promise<void> {
  const format = flags.string('format');
  if (format !== '' && flags.bool('quiet')) {
    say(context.err, 'WARNING: Ignoring custom format, because both --format and --quiet are set.');
  }
  const last = flags.number('last') ?? -1;
  const limit = flags.bool('latest') && last === -1 ? 1 : last;
  const sizes = flags.bool('size') || (!flags.changed('size') && !flags.bool('quiet') && /\.Size\b/.test(format));
  const containers = await context.client.get<Container[]>('/containers/json', {
    all: flags.bool('all'),
    limit: limit > 0 ? limit : undefined,
    size: sizes,
    filters: flags.filters,
  });
  const truncate = !flags.bool('no-trunc');
  const rows = containers.map((container) => containerRow(container, context.clock.now(), truncate));
  const columns = flags.bool('size') ? `${COLUMNS}\t{{.Size}}` : COLUMNS;
  const quiet = flags.bool('quiet') ? 'ID' : undefined;
  context.out.write(
    renderListing({
      ...{ rows, columns, headers: HEADERS, format: quiet === undefined ? format : '', quiet },
      raw: [...RAW, ...(flags.bool('size') ? ['size: {{.Size}}'] : []), ''].join('\n'),
    }),
  );
}

function show(context: Context, flags: Flags, words: readonly string[]): Promise<void> {
  return inspect(context, words, flags.string('format'), (name) =>
    context.client.text({
      method: 'GET',
      path: `/containers/${segment(name)}/json`,
      query: { size: flags.bool('size') },
    }),
  );
}

const signalOf = (flags: Flags): string | undefined =>
  flags.string('signal') === '' ? undefined : flags.string('signal');

const SIGNAL = option('signal,s', 'string', 'Signal to send');
const STOP_OPTIONS = [
  SIGNAL,
  option('timeout,t', 'int', 'Seconds before it is killed'),
  option('time', 'int', 'Seconds before it is killed', { hidden: true }),
];

/** Posts a verb that stops containers within a time. */
function stopping(verb: string): Command['run'] {
  const post = postToEach(verb, (flags) => ({
    t: flags.number('timeout') ?? flags.number('time'),
    signal: signalOf(flags),
  }));
  return (context, flags, names) => {
    if (flags.changed('time')) {
      say(context.err, 'Flag --time has been deprecated, use --timeout instead');
      if (flags.changed('timeout')) {
        throw new Error('conflicting options: cannot specify both --timeout and --time');
      }
    }
    return post(context, flags, names);
  };
}

const USAGE = 'CONTAINER [CONTAINER...]';

export const containerCommands: CommandGroup = {
  ls: {
    usage: '',
    arguments: exactly(0),
    options: [
      option('all,a', 'bool', 'All containers, not only those that run'),
      FILTER,
      FORMAT,
      option('last,n', 'int', 'The newest n containers, in any state', { initial: -1, shown: '-1' }),
      option('latest,l', 'bool', 'The newest container, in any state'),
      NO_TRUNC,
      option('quiet,q', 'bool', 'Only display container IDs'),
      option('size,s', 'bool', 'Show sizes'),
    ],
    run: list,
  },
  inspect: {
    usage: USAGE,
    arguments: atLeast(1),
    options: [INSPECT_FORMAT, option('size,s', 'bool', 'Show sizes')],
    run: show,
  },
  stop: { usage: USAGE, arguments: atLeast(1), options: STOP_OPTIONS, run: stopping('stop') },
  restart: { usage: USAGE, arguments: atLeast(1), options: STOP_OPTIONS, run: stopping('restart') },
  kill: {
    usage: USAGE,
    arguments: atLeast(1),
    options: [SIGNAL],
    run: postToEach('kill', (flags) => ({ signal: signalOf(flags) })),
  },
  pause: { usage: USAGE, arguments: atLeast(1), run: postToEach('pause') },
  unpause: { usage: USAGE, arguments: atLeast(1), run: postToEach('unpause') },
  rm: {
    usage: USAGE,
    arguments: atLeast(1),
    options: [
      option('force,f', 'bool', 'Remove it even if it runs (SIGKILL)'),
      option('link,l', 'bool', 'Remove the named link'),
      option('volumes,v', 'bool', 'Remove its volumes without a name, too'),
    ],
    run: removeContainers,
  },
  wait: {
    usage: USAGE,
    arguments: atLeast(1),
    run: (context, _flags, words) =>
      removeEach(context, words, async (name) => {
        const wait = await beginWait(context.client, name);
        say(context.out, String(await wait.code));
      }),
  },
};
