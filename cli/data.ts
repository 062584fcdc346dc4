import { readFileSync } from 'node:fs';
import { segment } from './client.ts';
import {
  atLeast,
  between,
  exactly,
  FILTER,
  FORMAT,
  INSPECT_FORMAT,
  option,
  QUIET,
  type CommandGroup,
} from './command.ts';
import { say, type Context } from './context.ts';
import { inspect } from './inspect.ts';
import { labelLine } from './network.ts';
import type { Flags } from './options.ts';
import { removeEach } from './remove.ts';
import { headers, renderListing } from './table.ts';
import { Row } from './template-values.ts';
import { goTime, humanDuration, naturalOrder } from './units.ts';
import { keyValues } from './words.ts';

interface DataObject {
  ID: string;
  CreatedAt: string;
  UpdatedAt: string;
  Spec: { Name: string; Labels?: Record<string, string> | null; Driver?: { Name: string } | null; Data?: string };
}

/** Longest data that is read from standard input, bytes; the daemon's own limits are lower. */
const DATA_MAX_BYTES = 16 * 1024 * 1024;

async function readAll(context: Context): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of context.input as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > DATA_MAX_BYTES) throw new Error(`standard input has more than ${DATA_MAX_BYTES} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

async function readData(context: Context, noun: string, file: string): Promise<Buffer> {
  try {
    return file === '-' ? await readAll(context) : readFileSync(file);
  } catch (error) {
    const missing = (error as NodeJS.ErrnoException).code === 'ENOENT';
    const reason = missing ? `open ${file}: no such file or directory` : (error as Error).message;
    const lead = noun === 'config' ? `Error reading content from ${JSON.stringify(file)}: ` : '';
    throw new Error(`${lead}error reading from ${file}: ${reason}`, {
      cause: error,
    });
  }
}

/** docker's templates show these times in this form. */
const shownTime = (text: string): string => goTime(text).replace(/ UTC$/, ' utc');

function pretty(noun: string, object: DataObject): string {
  const labels = Object.entries(object.Spec.Labels ?? {}).toSorted(([a], [b]) => (a < b ? -1 : 1));
  const gap = noun === 'secret';
  const lines = [
    gap ? `ID:              ${object.ID}` : `ID:\t\t\t${object.ID}`,
    gap ? `Name:              ${object.Spec.Name}` : `Name:\t\t\t${object.Spec.Name}`,
    ...(labels.length === 0
      ? []
      : ['Labels:', ...labels.map(([key, value]) => ` - ${key}${value === '' ? '' : `=${value}`}`)]),
    ...(gap ? [`Driver:            ${object.Spec.Driver?.Name ?? ''}`] : []),
    gap
      ? `Created at:        ${shownTime(object.CreatedAt)}`
      : `Created at:            \t${shownTime(object.CreatedAt)}`,
    gap
      ? `Updated at:        ${shownTime(object.UpdatedAt)}`
      : `Updated at:            \t${shownTime(object.UpdatedAt)}`,
    ...(gap ? [] : ['Data:', Buffer.from(object.Spec.Data ?? '', 'base64').toString('utf8')]),
  ];
  return `${lines.join('\n')}\n`;
}

type Noun = 'secret' | 'config';

const pathOf = (noun: Noun, name: string): string => `/${noun}s/${segment(name)}`;

async function list(noun: Noun, context: Context, flags: Flags): Promise<void> {
  const isSecret = noun === 'secret';
  const columns = isSecret
    ? '{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.CreatedAt}}\t{{.UpdatedAt}}'
    : '{{.ID}}\t{{.Name}}\t{{.CreatedAt}}\t{{.UpdatedAt}}';
  const objects = await context.client.get<DataObject[]>(`/${noun}s`, { filters: flags.filters });
  objects.sort((a, b) => naturalOrder(a.Spec.Name, b.Spec.Name));
  const ago = (time: string): string => `${humanDuration(context.clock.now() - Date.parse(time))} ago`;
  const rows = objects.map(
    ({ ID, Spec, CreatedAt, UpdatedAt }) =>
      new Row(`*${noun}.${noun}Context`, {
        ID,
        Name: Spec.Name,
        ...(isSecret ? { Driver: Spec.Driver?.Name ?? '' } : {}),
        CreatedAt: ago(CreatedAt),
        UpdatedAt: ago(UpdatedAt),
        Labels: labelLine(Spec.Labels),
        Label: (name: string) => Spec.Labels?.[name] ?? '',
      }),
  );
  const names = headers('ID', 'Name', 'Driver', 'CreatedAt=CREATED', 'UpdatedAt=UPDATED', 'Labels');
  const quiet = flags.bool('quiet') ? 'ID' : undefined;
  context.out.write(renderListing({ rows, columns, headers: names, format: flags.string('format'), quiet }));
}

async function create(noun: Noun, context: Context, flags: Flags, words: readonly string[]): Promise<void> {
  const [name = '', file] = words;
  const driver = flags.string('driver');
  if (file !== undefined && driver !== '') throw new Error('when using secret driver secret data must be empty');
  if (file === undefined && driver === '') throw new Error('either provide secret data or specify a secret driver');
  const template = flags.string('template-driver');
  const body = {
    Name: name,
    Labels: keyValues(flags.list('label')),
    ...(file === undefined ? {} : { Data: (await readData(context, noun, file)).toString('base64') }),
    ...(driver === '' ? {} : { Driver: { Name: driver } }),
    ...(template === '' ? {} : { Templating: { Name: template } }),
  };
  const answer = await context.client.post<{ ID: string }>(`/${noun}s/create`, body);
  say(context.out, answer.ID);
}

async function show(noun: Noun, context: Context, flags: Flags, words: readonly string[]): Promise<void> {
  const format = flags.string('format');
  if (flags.bool('pretty') && format !== '') throw new Error('--format is incompatible with human friendly format');
  if (flags.bool('pretty') || format === 'pretty') {
    for (const name of words) context.out.write(pretty(noun, await context.client.get<DataObject>(pathOf(noun, name))));
    return;
  }
  await inspect(context, words, format, (name) => context.client.text({ method: 'GET', path: pathOf(noun, name) }));
}

function dataCommands(noun: Noun): CommandGroup {
  const isSecret = noun === 'secret';
  const labels = [option('label,l', 'list', 'Labels'), option('template-driver', 'string', 'Template driver')];
  return {
    ls: {
      usage: '',
      arguments: exactly(0),
      options: [FILTER, FORMAT, QUIET],
      run: (context, flags) => list(noun, context, flags),
    },
    create: {
      usage: isSecret ? 'SECRET [file|-]' : 'CONFIG file|-',
      arguments: isSecret ? between(1, 2) : exactly(2),
      options: isSecret ? [...labels, option('driver,d', 'string', 'Driver that keeps the secret')] : labels,
      run: (context, flags, words) => create(noun, context, flags, words),
    },
    inspect: {
      usage: `${noun.toUpperCase()} [${noun.toUpperCase()}...]`,
      arguments: atLeast(1),
      options: [INSPECT_FORMAT, option('pretty', 'bool', 'Print it for people')],
      run: (context, flags, words) => show(noun, context, flags, words),
    },
    rm: {
      usage: `${noun.toUpperCase()} [${noun.toUpperCase()}...]`,
      arguments: atLeast(1),
      run: (context, _flags, words) =>
        removeEach(context, words, async (name) => {
          await context.client.delete(pathOf(noun, name));
          say(context.out, name);
        }),
    },
  };
}

export const secretCommands: CommandGroup = dataCommands('secret');
export const configCommands: CommandGroup = dataCommands('config');
