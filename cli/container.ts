import { segment } from './client.ts';
import { atLeast, exactly, FILTER, FORMAT, INSPECT_FORMAT, NO_TRUNC, option, type CommandGroup } from './command.ts';
import { beginWait } from './container-wait.ts';
import { say, type Context } from './context.ts';
import { inspect } from './inspect.ts';
import { labelLine } from './network.ts';
import type { Flags } from './options.ts';
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

interface Container {
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
const HEADERS = headers(
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

function containerRow(container: Container, nowMs: number, truncate: boolean): Row {
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
    CreatedAt: localTime(created),
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
    renderListing({ rows, columns, headers: HEADERS, format: quiet === undefined ? format : '', quiet }),
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

type Act = (context: Context, flags: Flags, name: string) => Promise<void>;

/** A command that does one thing to each container and prints its name. */
function perContainer(act: Act): CommandGroup[string]['run'] {
  return (context, flags, words) =>
    removeEach(context, words, async (name) => {
      await act(context, flags, name);
      say(context.out, name);
    });
}

const post = (
  context: Context,
  name: string,
  verb: string,
  query: Record<string, string | number | boolean | undefined> = {},
): Promise<unknown> => context.client.post(`/containers/${segment(name)}/${verb}`, undefined, query);

const signalOf = (flags: Flags): string | undefined =>
  flags.string('signal') === '' ? undefined : flags.string('signal');

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
  stop: {
    usage: USAGE,
    arguments: atLeast(1),
    options: [
      option('signal,s', 'string', 'Signal to send'),
      option('timeout,t', 'int', 'Seconds before it is killed'),
      option('time', 'int', 'Seconds before it is killed', { hidden: true }),
    ],
    run: perContainer(async (context, flags, name) => {
      await post(context, name, 'stop', {
        t: flags.number('timeout') ?? flags.number('time'),
        signal: signalOf(flags),
      });
    }),
  },
  kill: {
    usage: USAGE,
    arguments: atLeast(1),
    options: [option('signal,s', 'string', 'Signal to send')],
    run: perContainer(async (context, flags, name) => {
      await post(context, name, 'kill', { signal: signalOf(flags) });
    }),
  },
  rm: {
    usage: USAGE,
    arguments: atLeast(1),
    options: [
      option('force,f', 'bool', 'Remove it even if it runs (SIGKILL)'),
      option('link,l', 'bool', 'Remove the named link'),
      option('volumes,v', 'bool', 'Remove its volumes without a name, too'),
    ],
    run: perContainer(async (context, flags, name) => {
      const query = { force: flags.bool('force'), v: flags.bool('volumes'), link: flags.bool('link') };
      await context.client.delete(`/containers/${segment(name.replace(/^\//, ''))}`, query);
    }),
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
