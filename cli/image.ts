import { errorMessage } from '../base/index.ts';
import { imageSegment, isNotFound } from './client.ts';
import {
  atLeast,
  between,
  exactly,
  FILTER,
  FORMAT,
  INSPECT_FORMAT,
  NO_TRUNC,
  option,
  type CommandGroup,
} from './command.ts';
import { say, type Context } from './context.ts';
import { inspect } from './inspect.ts';
import type { Flags } from './options.ts';
import { headers, renderListing } from './table.ts';
import { reportErrors } from './task-table.ts';
import { Row } from './template-values.ts';
import { ellipsis, humanDuration, humanSize, localTime, shortId } from './units.ts';
import { checkImageName, cut, imageName } from './words.ts';

interface Image {
  Id: string;
  Created: number;
  Size: number;
  SharedSize: number;
  Containers: number;
  RepoTags: string[] | null;
  RepoDigests: string[] | null;
}

interface Layer {
  Id: string;
  Created: number;
  CreatedBy: string;
  Size: number;
  Comment: string;
}

const HEADERS = headers(
  'ID=IMAGE ID',
  'Repository',
  'Tag',
  'Digest',
  'CreatedSince=CREATED',
  'CreatedAt=CREATED AT',
  'Size',
  'Containers',
  'VirtualSize=SIZE',
  'SharedSize=SHARED SIZE',
  'UniqueSize=UNIQUE SIZE',
);
const NONE = '<none>';
/** Creation times up to here are not real ones: such images show no age (1 January 2000, s). */
const EPOCH_S = 946_684_800;

interface Name {
  repository: string;
  tag: string;
  digest: string;
}

/** One line for each tag of an image (and each digest, when digests are shown). */
function imageNames(image: Image, digestsShown: boolean, digestColumn: boolean): Name[] {
  const tags = (image.RepoTags ?? []).filter((tag) => tag !== `${NONE}:${NONE}`);
  const digests = new Map<string, string[]>();
  for (const text of image.RepoDigests ?? []) {
    const { name, digest } = imageName(text);
    if (digest !== undefined && name !== NONE) digests.set(name, [...(digests.get(name) ?? []), digest]);
  }
  if (tags.length === 0 && digests.size === 0) return [{ repository: NONE, tag: NONE, digest: NONE }];
  const names: Name[] = [];
  const seen = new Set<string>();
  for (const text of tags) {
    const { name, tag = '' } = imageName(text);
    seen.add(name);
    const own = digestsShown ? (digests.get(name) ?? []) : [];
    for (const digest of own.length === 0 ? [NONE] : own) names.push({ repository: name, tag, digest });
  }
  for (const [repository, list] of digests) {
    if (seen.has(repository)) continue;
    for (const digest of digestColumn ? list : ['']) names.push({ repository, tag: NONE, digest });
  }
  return names;
}

function imageRow(image: Image, name: Name, nowMs: number, truncate: boolean): Row {
  const created = image.Created * 1000;
  const unknown = (size: number): boolean => size === -1;
  return new Row('*formatter.imageContext', {
    ID: truncate ? shortId(image.Id) : image.Id,
    Repository: name.repository,
    Tag: name.tag,
    Digest: name.digest,
    CreatedSince: `${humanDuration(nowMs - created)} ago`,
    // Asked for by few formats, and dear: names of time zones take 20 ms to load.
    get CreatedAt() {
      return localTime(created);
    },
    Size: humanSize(image.Size, 3),
    Containers: unknown(image.Containers) ? 'N/A' : String(image.Containers),
    VirtualSize: humanSize(image.Size),
    SharedSize: unknown(image.SharedSize) ? 'N/A' : humanSize(image.SharedSize),
    UniqueSize: unknown(image.Size) || unknown(image.SharedSize) ? 'N/A' : humanSize(image.Size - image.SharedSize),
  });
}

async function list(context: Context, flags: Flags, words: readonly string[]): Promise<void> {
  const filters = flags.filters;
  if (words[0] !== undefined) filters['reference'] = [...(filters['reference'] ?? []), words[0]];
  const images = await context.client.get<Image[]>('/images/json', { all: flags.bool('all'), filters });
  const digestColumn = flags.bool('digests');
  const format = flags.string('format');
  const digestsShown = digestColumn || format.includes('{{.Digest}}');
  const truncate = !flags.bool('no-trunc');
  const rows = images.flatMap((image) =>
    imageNames(image, digestsShown, digestColumn).map((name) => imageRow(image, name, context.clock.now(), truncate)),
  );
  const start = '{{.Repository}}\t{{.Tag}}\t';
  const end = '{{.ID}}\t{{if .CreatedSince }}{{.CreatedSince}}{{else}}N/A{{end}}\t{{.Size}}';
  const columns = start + (digestColumn ? '{{.Digest}}\t' : '') + end;
  const quiet = flags.bool('quiet') ? 'ID' : undefined;
  context.out.write(renderListing({ rows, columns, headers: HEADERS, format, quiet }));
}

async function history(context: Context, flags: Flags, words: readonly string[]): Promise<void> {
  const layers = await context.client.get<Layer[]>(`/images/${imageSegment(words[0] ?? '')}/history`);
  const human = flags.bool('human');
  const truncate = !flags.bool('no-trunc');
  const now = context.clock.now();
  const rows = layers.map((layer) => {
    const at = new Date(layer.Created * 1000).toISOString().replace('.000Z', 'Z');
    const since = layer.Created <= EPOCH_S ? 'N/A' : `${humanDuration(now - layer.Created * 1000)} ago`;
    const by = layer.CreatedBy.replaceAll('\t', ' ');
    return new Row('*image.historyContext', {
      ID: truncate ? shortId(layer.Id) : layer.Id,
      CreatedAt: at,
      CreatedSince: human ? since : at,
      CreatedBy: truncate ? ellipsis(by, 45) : by,
      Size: human ? humanSize(layer.Size, 3) : String(layer.Size),
      Comment: layer.Comment,
    });
  });
  const names = headers(
    'ID=IMAGE',
    'CreatedSince=CREATED',
    'CreatedAt=CREATED AT',
    'CreatedBy=CREATED BY',
    'Size',
    'Comment',
  );
  const columns = `{{.ID}}\t{{.${human ? 'CreatedSince' : 'CreatedAt'}}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}`;
  const quiet = flags.bool('quiet') ? 'ID' : undefined;
  context.out.write(renderListing({ rows, columns, headers: names, format: flags.string('format'), quiet }));
}

function show(context: Context, flags: Flags, words: readonly string[]): Promise<void> {
  return inspect(context, words, flags.string('format'), (name) =>
    context.client.text({ method: 'GET', path: `/images/${imageSegment(name)}/json` }),
  );
}

async function remove(context: Context, flags: Flags, words: readonly string[]): Promise<number> {
  const force = flags.bool('force');
  const errors: string[] = [];
  let serious = false;
  for (const name of words) {
    try {
      const removed = await context.client.delete<{ Untagged?: string; Deleted?: string }[]>(
        `/images/${imageSegment(name)}`,
        { force, noprune: flags.bool('no-prune') },
      );
      for (const { Untagged, Deleted } of removed) {
        say(
          context.out,
          Deleted === undefined || Deleted === '' ? `Untagged: ${Untagged ?? ''}` : `Deleted: ${Deleted}`,
        );
      }
    } catch (error) {
      serious ||= !isNotFound(error);
      errors.push(errorMessage(error));
    }
  }
  const code = reportErrors(context, errors);
  return force && !serious ? 0 : code;
}

async function tag(context: Context, _flags: Flags, words: readonly string[]): Promise<void> {
  const [source = '', target = ''] = words;
  try {
    checkImageName(target);
  } catch (error) {
    const reason = errorMessage(error);
    throw new Error(`Error parsing reference: ${JSON.stringify(target)} is not a valid repository/tag: ${reason}`, {
      cause: error,
    });
  }
  const named = imageName(target);
  const [repo] = cut(target, '@');
  const bare = named.tag === undefined ? repo : repo.slice(0, repo.length - named.tag.length - 1);
  await context.client.post(`/images/${imageSegment(source)}/tag`, undefined, {
    repo: bare,
    tag: named.tag ?? 'latest',
  });
}

export const imageCommands: CommandGroup = {
  ls: {
    usage: '[REPOSITORY[:TAG]]',
    arguments: between(0, 1),
    options: [
      option('all,a', 'bool', 'Show images between, too'),
      option('digests', 'bool', 'Show digests'),
      FILTER,
      FORMAT,
      NO_TRUNC,
      option('quiet,q', 'bool', 'Only display image IDs'),
    ],
    run: list,
  },
  history: {
    usage: 'IMAGE',
    arguments: exactly(1),
    options: [
      FORMAT,
      option('human,H', 'bool', 'Sizes and dates for people', { initial: true, shown: 'true' }),
      NO_TRUNC,
      option('quiet,q', 'bool', 'Only display image IDs'),
    ],
    run: history,
  },
  inspect: { usage: 'IMAGE [IMAGE...]', arguments: atLeast(1), options: [INSPECT_FORMAT], run: show },
  rm: {
    usage: 'IMAGE [IMAGE...]',
    arguments: atLeast(1),
    options: [
      option('force,f', 'bool', 'Remove it whatever uses its names'),
      option('no-prune', 'bool', 'Keep parents without a name'),
    ],
    run: remove,
  },
  tag: { usage: 'SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]', arguments: exactly(2), run: tag },
};
