import { segment } from './client.ts';
import { atLeast, between, exactly, FILTER, FORMAT, INSPECT_FORMAT, option, type CommandGroup } from './command.ts';
import { say, type Context } from './context.ts';
import { inspect } from './inspect.ts';
import { labelLine } from './network.ts';
import type { Flags } from './options.ts';
import { confirmed, removeEach } from './remove.ts';
import { headers, renderListing } from './table.ts';
import { Row } from './template-values.ts';
import { humanSize, naturalOrder } from './units.ts';
import { keyValues } from './words.ts';

interface Volume {
  Name: string;
  Driver: string;
  Scope: string;
  Mountpoint: string;
  Labels: Record<string, string> | null;
  UsageData?: { Size: number; RefCount: number } | null;
}

const HEADERS = headers(
  'Name=VOLUME NAME',
  'Driver',
  'Scope',
  'Mountpoint',
  'Labels',
  'Links',
  'Size',
  'Availability',
  'Group',
  'Status',
);

async function list(context: Context, flags: Flags): Promise<void> {
  const answer = await context.client.get<{ Volumes: Volume[] | null }>('/volumes', { filters: flags.filters });
  const volumes = (answer.Volumes ?? []).toSorted((a, b) => naturalOrder(a.Name, b.Name));
  const rows = volumes.map(
    (volume) =>
      new Row('*formatter.volumeContext', {
        Name: volume.Name,
        Driver: volume.Driver,
        Scope: volume.Scope,
        Mountpoint: volume.Mountpoint,
        Labels: labelLine(volume.Labels),
        Links: volume.UsageData ? String(volume.UsageData.RefCount) : 'N/A',
        Size: volume.UsageData ? humanSize(volume.UsageData.Size) : 'N/A',
        // Cluster volumes have these; local ones do not.
        Availability: 'N/A',
        Group: 'N/A',
        Status: 'N/A',
        Label: (name: string) => volume.Labels?.[name] ?? '',
      }),
  );
  const quiet = flags.bool('quiet') ? 'Name' : undefined;
  const columns = '{{.Driver}}\t{{.Name}}';
  context.out.write(renderListing({ rows, columns, headers: HEADERS, format: flags.string('format'), quiet }));
}

async function create(context: Context, flags: Flags, words: readonly string[]): Promise<void> {
  const given = flags.string('name');
  if (words.length === 1 && given !== '' && given !== words[0]) {
    throw new Error('conflicting options: cannot specify a volume-name through both --name and as a positional arg');
  }
  const name = words[0] ?? given;
  const body = {
    Name: name,
    Driver: flags.string('driver'),
    ...(flags.changed('opt') ? { DriverOpts: keyValues(flags.list('opt')) } : {}),
    ...(flags.changed('label') ? { Labels: keyValues(flags.list('label')) } : {}),
  };
  const volume = await context.client.post<Volume>('/volumes/create', body);
  say(context.out, volume.Name);
}

function show(context: Context, flags: Flags, words: readonly string[]): Promise<void> {
  return inspect(context, words, flags.string('format'), (name) =>
    context.client.text({ method: 'GET', path: `/volumes/${segment(name)}` }),
  );
}

function remove(context: Context, flags: Flags, words: readonly string[]): Promise<number> {
  return removeEach(context, words, async (name) => {
    await context.client.delete(`/volumes/${segment(name)}`, { force: flags.bool('force') });
    say(context.out, name);
  });
}

async function prune(context: Context, flags: Flags): Promise<void> {
  const all = flags.bool('all');
  const what = all ? 'all' : 'anonymous';
  const question = `WARNING! This will remove ${what} local volumes not used by at least one container.\nAre you sure you want to continue?`;
  if (!flags.bool('force') && !(await confirmed(context, question))) return;
  const filters = { ...flags.filters, ...(all ? { all: ['true'] } : {}) };
  const answer = await context.client.post<{ VolumesDeleted: string[] | null; SpaceReclaimed: number }>(
    '/volumes/prune',
    undefined,
    { filters },
  );
  const names = answer.VolumesDeleted ?? [];
  if (names.length > 0) context.out.write(`Deleted Volumes:\n${names.map((name) => `${name}\n`).join('')}\n`);
  say(context.out, `Total reclaimed space: ${humanSize(answer.SpaceReclaimed)}`);
}

export const volumeCommands: CommandGroup = {
  create: {
    usage: '[VOLUME]',
    arguments: between(0, 1),
    options: [
      option('driver,d', 'string', 'Driver of the volume', { initial: 'local', shown: '"local"' }),
      option('name', 'string', 'Name of the volume', { hidden: true }),
      option('label', 'list', 'Labels of the volume'),
      option('opt,o', 'map', "The driver's own options", { shown: 'map[]' }),
    ],
    run: create,
  },
  inspect: { usage: 'VOLUME [VOLUME...]', arguments: atLeast(1), options: [INSPECT_FORMAT], run: show },
  ls: {
    usage: '',
    arguments: exactly(0),
    options: [FILTER, FORMAT, option('quiet,q', 'bool', 'Only display volume names')],
    run: list,
  },
  rm: {
    usage: 'VOLUME [VOLUME...]',
    arguments: atLeast(1),
    options: [option('force,f', 'bool', 'Remove volumes whatever their driver says')],
    run: remove,
  },
  prune: {
    usage: '',
    arguments: exactly(0),
    options: [
      option('all,a', 'bool', 'All unused volumes, not only those without a name'),
      option('filter', 'filter', 'Only volumes that fit (label=…)'),
      option('force,f', 'bool', 'Do not ask'),
    ],
    run: prune,
  },
};
