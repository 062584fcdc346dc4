import { exactly, FORMAT, option, type CommandGroup } from './command.ts';
import { containerRow, HEADERS as CONTAINER_HEADERS, type Container } from './container.ts';
import type { Context } from './context.ts';
import type { Flags } from './options.ts';
import { headers, renderListing } from './table.ts';
import { Row } from './template-values.ts';
import { humanDuration, humanSize, localTime, shortId } from './units.ts';
import { imageName } from './words.ts';

interface ImageUse {
  Id: string;
  Created: number;
  Size: number;
  SharedSize: number;
  Containers: number;
  RepoTags: string[] | null;
}

interface VolumeUse {
  Name: string;
  UsageData?: { Size: number; RefCount: number } | null;
}

interface CacheUse {
  ID: string;
  Type: string;
  Size: number;
  CreatedAt: string;
  LastUsedAt?: string | null;
  UsageCount: number;
  InUse: boolean;
  Shared: boolean;
}

/** The answer of `GET /system/df`. */
export interface DiskUse {
  LayersSize: number;
  Images: ImageUse[] | null;
  Containers: Container[] | null;
  Volumes: VolumeUse[] | null;
  BuildCache: CacheUse[] | null;
}

function sum<T>(list: readonly T[], bytes: (one: T) => number): number {
  return list.reduce((total, one) => total + bytes(one), 0);
}

/** A size, with its share of the whole where there is one. */
function share(bytes: number, total: number): string {
  return humanSize(bytes) + (total > 0 ? ` (${Math.trunc((bytes * 100) / total)}%)` : '');
}

const row = (Type: string, count: number, active: number, size: number, Reclaimable: string): Row =>
  new Row('*formatter.diskUsageContext', {
    ...{ Type, TotalCount: String(count), Active: String(active), Size: humanSize(size), Reclaimable },
  });

const isActive = ({ State }: Container): boolean => ['running', 'paused', 'restarting'].includes(State);

/** The four lines of `system df`. */
export function summary(use: DiskUse): Row[] {
  const { LayersSize: layers } = use;
  const [images, containers] = [use.Images ?? [], use.Containers ?? []];
  const own = images.filter((one) => one.Containers !== 0 && one.Size !== -1 && one.SharedSize !== -1);
  const free = layers - sum(own, (one) => one.Size - one.SharedSize);
  const written = sum(containers, (one) => one.SizeRw ?? 0);
  const idle = sum(
    containers.filter((one) => !isActive(one)),
    (one) => one.SizeRw ?? 0,
  );
  const volumes = (use.Volumes ?? []).map((one) => one.UsageData ?? { Size: -1, RefCount: -1 });
  const sized = volumes.filter((one) => one.Size !== -1);
  const stored = sum(sized, (one) => one.Size);
  const unused = sum(
    sized.filter((one) => one.RefCount === 0),
    (one) => one.Size,
  );
  const cache = (use.BuildCache ?? []).filter((one) => !one.Shared);
  const cached = sum(cache, (one) => one.Size);
  const busy = sum(
    cache.filter((one) => one.InUse),
    (one) => one.Size,
  );
  const active = <T>(list: readonly T[], test: (one: T) => boolean): number => list.filter(test).length;
  return [
    row(
      'Images',
      images.length,
      active(images, (one) => one.Containers > 0),
      layers,
      share(free, layers),
    ),
    row('Containers', containers.length, active(containers, isActive), written, share(idle, written)),
    row(
      'Local Volumes',
      volumes.length,
      active(volumes, (one) => one.RefCount > 0),
      stored,
      share(unused, stored),
    ),
    row(
      'Build Cache',
      (use.BuildCache ?? []).length,
      active(use.BuildCache ?? [], (one) => one.InUse),
      cached,
      humanSize(cached - busy),
    ),
  ];
}

const SUMMARY_COLUMNS = '{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}';
const SUMMARY_HEADERS = headers('Type', 'TotalCount=TOTAL', 'Active', 'Size', 'Reclaimable');

const IMAGE_COLUMNS =
  '{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}\t{{.SharedSize}}\t{{.UniqueSize}}\t{{.Containers}}';
const IMAGE_HEADERS = headers(
  'Repository',
  'Tag',
  'ID=IMAGE ID',
  'CreatedSince=CREATED',
  'Size',
  'SharedSize=SHARED SIZE',
  'UniqueSize=UNIQUE SIZE',
  'Containers',
);
const CONTAINER_COLUMNS =
  '{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.LocalVolumes}}\t{{.Size}}\t{{.RunningFor}}\t{{.Status}}\t{{.Names}}';
const VOLUME_COLUMNS = '{{.Name}}\t{{.Links}}\t{{.Size}}';
const VOLUME_HEADERS = headers('Name=VOLUME NAME', 'Links', 'Size');
const CACHE_COLUMNS =
  '{{.ID}}\t{{.CacheType}}\t{{.Size}}\t{{.CreatedSince}}\t{{.LastUsedSince}}\t{{.UsageCount}}\t{{.Shared}}';
const CACHE_HEADERS = headers(
  'ID=CACHE ID',
  'CacheType=CACHE TYPE',
  'Size',
  'CreatedSince=CREATED',
  'LastUsedSince=LAST USED',
  'UsageCount=USAGE',
  'Shared',
);

function imageRow(image: ImageUse, nowMs: number, truncate = true): Row {
  const [first = '<none>:<none>'] = image.RepoTags ?? [];
  const { name, tag = '<none>' } = imageName(first);
  const known = (bytes: number): string => (bytes === -1 ? 'N/A' : humanSize(bytes));
  return new Row('*formatter.imageContext', {
    Repository: name,
    Tag: tag,
    ID: truncate ? shortId(image.Id) : image.Id,
    CreatedSince: `${humanDuration(nowMs - image.Created * 1000)} ago`,
    get CreatedAt() {
      return localTime(image.Created * 1000);
    },
    Digest: '',
    VirtualSize: humanSize(image.Size),
    Size: humanSize(image.Size, 3),
    SharedSize: known(image.SharedSize),
    UniqueSize: image.Size === -1 || image.SharedSize === -1 ? 'N/A' : humanSize(image.Size - image.SharedSize),
    Containers: image.Containers === -1 ? 'N/A' : String(image.Containers),
  });
}

const volumeRow = ({ Name, UsageData }: VolumeUse): Row =>
  new Row('*formatter.volumeContext', {
    Name,
    Links: UsageData ? String(UsageData.RefCount) : 'N/A',
    Size: UsageData && UsageData.Size !== -1 ? humanSize(UsageData.Size) : 'N/A',
  });

function cacheRow(record: CacheUse, nowMs: number): Row {
  const since = (text: string | null | undefined): string =>
    (text ?? '') === '' ? '' : `${humanDuration(nowMs - Date.parse(text ?? ''))} ago`;
  return new Row('*formatter.buildCacheContext', {
    ID: record.ID.slice(0, 12) + (record.InUse ? '*' : ''),
    CacheType: record.Type,
    Size: humanSize(record.Size, 3),
    CreatedSince: since(record.CreatedAt),
    LastUsedSince: since(record.LastUsedAt),
    UsageCount: String(record.UsageCount),
    Shared: String(record.Shared),
  });
}

function details(use: DiskUse, nowMs: number): string {
  const table = (rows: readonly Row[], columns: string, names: Readonly<Record<string, string>>): string =>
    renderListing({ rows, columns, headers: names, format: '' });
  // Sizes of containers are what they wrote; the image beneath is told above.
  const containers = (use.Containers ?? []).map((one) => containerRow({ ...one, SizeRootFs: 0 }, nowMs, true));
  const images = (use.Images ?? []).map((one) => imageRow(one, nowMs));
  const cache = use.BuildCache ?? [];
  const cached = sum(
    cache.filter((one) => !one.Shared),
    (one) => one.Size,
  );
  return [
    `Images space usage:\n\n${table(images, IMAGE_COLUMNS, IMAGE_HEADERS)}`,
    `Containers space usage:\n\n${table(containers, CONTAINER_COLUMNS, CONTAINER_HEADERS)}`,
    `Local Volumes space usage:\n\n${table((use.Volumes ?? []).map(volumeRow), VOLUME_COLUMNS, VOLUME_HEADERS)}`,
    `Build cache usage: ${humanSize(cached)}\n\n${table(
      ...([cache.map((one) => cacheRow(one, nowMs)), CACHE_COLUMNS, CACHE_HEADERS] as const),
    )}`,
  ].join('\n');
}

/** All that is known, for a template of `-v --format`. */
function detailed(use: DiskUse, nowMs: number): Row {
  return new Row('*formatter.diskUsageContext', {
    Images: (use.Images ?? []).map((one) => imageRow(one, nowMs, false)),
    Containers: (use.Containers ?? []).map((one) => containerRow({ ...one, SizeRootFs: 0 }, nowMs, false)),
    Volumes: (use.Volumes ?? []).map(volumeRow),
    BuildCache: (use.BuildCache ?? []).map((one) => cacheRow(one, nowMs)),
  });
}

async function diskUse(context: Context, flags: Flags): Promise<void> {
  const use = await context.client.get<DiskUse>('/system/df');
  const format = flags.string('format');
  if (flags.bool('verbose') && (format === '' || format === 'table')) {
    context.out.write(details(use, context.clock.now()));
    return;
  }
  if (flags.bool('verbose')) {
    const rows = [detailed(use, context.clock.now())];
    context.out.write(renderListing({ rows, columns: '', headers: {}, format }));
    return;
  }
  context.out.write(renderListing({ rows: summary(use), columns: SUMMARY_COLUMNS, headers: SUMMARY_HEADERS, format }));
}

export const systemDfCommands: CommandGroup = {
  df: {
    usage: '',
    arguments: exactly(0),
    options: [FORMAT, option('verbose,v', 'bool', 'Show detailed information on space usage')],
    run: diskUse,
  },
};
