import { errorMessage } from '../base/index.ts';
import { API_VERSION, imageSegment, isNotFound, segment, type Client } from './client.ts';
import { atLeast, exactly, ExitError, FILTER, INSPECT_FORMAT, option, type CommandGroup } from './command.ts';
import { say, type Context } from './context.ts';
import { prettyInfo, type Info } from './info.ts';
import { inspect } from './inspect.ts';
import { jsonMessages } from './json-stream.ts';
import type { Flags } from './options.ts';
import { alignColumns } from './table.ts';
import { LooseMap } from './template-values.ts';
import { Template } from './template.ts';
import { timestamp } from './timestamp.ts';
import { VERSION } from './version.ts';

/** Exit code for a format that cannot be read, as docker's. */
const BAD_FORMAT_CODE = 64;

function formatOf(flags: Flags): Template | undefined {
  const format = flags.string('format');
  if (format === '') return undefined;
  try {
    return new Template(format === 'json' ? '{{json .}}' : format.replaceAll('\\t', '\t').replaceAll('\\n', '\n'));
  } catch (error) {
    throw new ExitError(`${errorMessage(error)}\n`, BAD_FORMAT_CODE);
  }
}

async function info(context: Context, flags: Flags): Promise<number> {
  const template = formatOf(flags);
  const client = { Version: VERSION, Context: 'default', Debug: false };
  let server: Info;
  try {
    server = await context.client.get<Info>('/info');
  } catch (error) {
    if (template === undefined) {
      context.out.write(`Client:\n Version:    ${VERSION}\n Context:    default\n Debug Mode: false\n\nServer:\n`);
      say(context.err, errorMessage(error));
      return 1;
    }
    throw error;
  }
  if (template === undefined) {
    context.out.write(
      `Client:\n Version:    ${VERSION}\n Context:    default\n Debug Mode: false\n\nServer:\n${prettyInfo(server)}\n`,
    );
    for (const warning of server.Warnings ?? []) say(context.err, warning);
  } else say(context.out, template.run({ ...server, ClientInfo: client }));
  return 0;
}

interface Component {
  Name: string;
  Version: string;
  Details?: Record<string, string>;
}

interface ServerVersion {
  Platform?: { Name: string };
  Components?: Component[];
  Version: string;
  [other: string]: unknown;
}

const arch: Readonly<Record<string, string>> = { x64: 'amd64', ia32: '386' };

async function clientVersion(context: Context): Promise<Record<string, string>> {
  const negotiated = await context.client.version().catch(() => API_VERSION);
  return {
    Version: VERSION,
    ApiVersion: negotiated,
    APIVersion: negotiated,
    DefaultAPIVersion: API_VERSION,
    NodeVersion: process.versions.node,
    Os: process.platform,
    Arch: arch[process.arch] ?? process.arch,
    Context: 'default',
  };
}

function componentLines(component: Component): string[] {
  const details = component.Details ?? {};
  const rows: [string, string][] =
    component.Name === 'Engine'
      ? [
          ['Version', component.Version],
          ['API version', `${details['ApiVersion']} (minimum version ${details['MinAPIVersion']})`],
          ['Go version', details['GoVersion'] ?? ''],
          ['Git commit', details['GitCommit'] ?? ''],
          ['Built', details['BuildTime'] ?? ''],
          ['OS/Arch', `${details['Os']}/${details['Arch']}`],
          ['Experimental', details['Experimental'] ?? 'false'],
        ]
      : [['Version', component.Version], ...Object.entries(details).toSorted(([a], [b]) => (a < b ? -1 : 1))];
  return [` ${component.Name}:`, ...rows.map(([name, value]) => `  ${name}:\t${value}`)];
}

async function version(context: Context, flags: Flags): Promise<number> {
  const template = formatOf(flags);
  const client = await clientVersion(context);
  let server: ServerVersion | null = null;
  let failure = '';
  try {
    server = await context.client.get<ServerVersion>('/version');
  } catch (error) {
    failure = errorMessage(error);
  }
  if (template === undefined) {
    const downgraded = client['APIVersion'] === API_VERSION ? '' : ` (downgraded from ${API_VERSION})`;
    const lines = [
      'Client:',
      ` Version:\t${VERSION}`,
      ` API version:\t${client['APIVersion']}${downgraded}`,
      ` Node version:\t${client['NodeVersion']}`,
      ` OS/Arch:\t${client['Os']}/${client['Arch']}`,
      ` Context:\tdefault`,
    ];
    if (server !== null) {
      const platform = server.Platform?.Name ?? '';
      lines.push(
        '',
        `Server:${platform === '' ? '' : ` ${platform}`}`,
        ...(server.Components ?? []).flatMap(componentLines),
      );
    }
    context.out.write(`${alignColumns(lines.join('\n'), 20, 1)}\n`);
  } else {
    // Docker's templates spell the field otherwise than its JSON does.
    const named = server === null ? null : { ...server, APIVersion: server.ApiVersion };
    say(context.out, template.run({ Client: client, Server: named }));
  }
  if (failure === '') return 0;
  say(context.err, failure);
  return 1;
}

interface Event {
  Type: string;
  Action: string;
  Actor: { ID: string; Attributes?: Record<string, string> | null };
  time?: number;
  timeNano?: number;
}

function eventTime(text: string): string {
  // Nanoseconds do not fit a number: they are read from the message's own text.
  const nanos = /"timeNano":\s*(\d+)/.exec(text)?.[1] ?? '0';
  const seconds = Number(nanos.slice(0, -9) || '0');
  const date = new Date(seconds * 1000);
  const offset = -date.getTimezoneOffset();
  const two = (value: number): string => String(value).padStart(2, '0');
  const local = new Date(date.getTime() + offset * 60_000).toISOString().slice(0, 19);
  const sign = offset < 0 ? '-' : '+';
  const zone = offset === 0 ? 'Z' : `${sign}${two(Math.floor(Math.abs(offset) / 60))}:${two(Math.abs(offset) % 60)}`;
  return `${local}.${nanos.slice(-9).padStart(9, '0')}${zone}`;
}

/** An event for a template: attributes differ from event to event, so that none of them is missed. */
function loose(event: Event): object {
  const { Actor } = event;
  return { ...event, Actor: { ...Actor, Attributes: new LooseMap(Actor.Attributes ?? {}) } };
}

async function events(context: Context, flags: Flags): Promise<void> {
  const template = formatOf(flags);
  const moment = (name: string): string | undefined =>
    flags.string(name) === '' ? undefined : timestamp(flags.string(name), context.clock.now());
  const body = await context.client.stream({
    method: 'GET',
    path: '/events',
    query: { since: moment('since'), until: moment('until'), filters: flags.filters },
  });
  for await (const event of jsonMessages<Event & { raw?: string }>(body, (text) => ({
    ...(JSON.parse(text) as Event),
    raw: text,
  }))) {
    const { raw = '', ...plain } = event;
    if (template !== undefined) {
      say(context.out, flags.string('format') === 'json' ? raw.trim() : template.run(loose(plain)));
      continue;
    }
    const attributes = Object.entries(event.Actor.Attributes ?? {}).toSorted(([a], [b]) => (a < b ? -1 : 1));
    const words = attributes.map(([key, value]) => `${key}=${value}`).join(', ');
    say(
      context.out,
      `${eventTime(raw)} ${event.Type} ${event.Action} ${event.Actor.ID}${words === '' ? '' : ` (${words})`}`,
    );
  }
}

/** Where `inspect` looks, in docker's order. */
const PLACES: readonly {
  type: string;
  path: (name: string) => string;
  query?: Record<string, string>;
  swarm?: boolean;
}[] = [
  { type: 'container', path: (name) => `/containers/${segment(name)}/json` },
  { type: 'image', path: (name) => `/images/${imageSegment(name)}/json` },
  { type: 'network', path: (name) => `/networks/${segment(name)}` },
  { type: 'volume', path: (name) => `/volumes/${segment(name)}` },
  { type: 'service', path: (name) => `/services/${segment(name)}`, query: { insertDefaults: 'true' }, swarm: true },
  { type: 'task', path: (name) => `/tasks/${segment(name)}`, swarm: true },
  { type: 'node', path: (name) => `/nodes/${segment(name)}`, swarm: true },
  { type: 'secret', path: (name) => `/secrets/${segment(name)}`, swarm: true },
  { type: 'config', path: (name) => `/configs/${segment(name)}`, swarm: true },
];

async function findAny(
  client: Client,
  name: string,
  { type, size }: { type: string; size: boolean },
  isManager: () => Promise<boolean>,
): Promise<string> {
  for (const place of PLACES) {
    if (type !== '' && place.type !== type) continue;
    if (type === '' && place.swarm === true && !(await isManager())) break;
    const query = place.type === 'container' ? { size } : (place.query ?? {});
    try {
      return await client.text({ method: 'GET', path: place.path(name), query });
    } catch (error) {
      // Of one type the daemon's own words are told.
      if (!isNotFound(error) || type !== '') throw error;
    }
  }
  throw new Error(`Error: No such object: ${name}`);
}

async function inspectAny(context: Context, flags: Flags, words: readonly string[]): Promise<void> {
  const { client } = context;
  const type = flags.string('type');
  if (type !== '' && !PLACES.some((place) => place.type === type))
    throw new Error(`${JSON.stringify(type)} is not a valid value for --type`);
  let asked: Promise<boolean> | undefined;
  const isManager = (): Promise<boolean> =>
    (asked ??= client
      .get<{ Swarm: { ControlAvailable?: boolean } }>('/info')
      .then((one) => one.Swarm.ControlAvailable === true));
  await inspect(context, words, flags.string('format'), (name) =>
    findAny(client, name, { type, size: flags.bool('size') }, isManager),
  );
}

export const systemCommands: CommandGroup = {
  info: { usage: '', arguments: exactly(0), options: [INSPECT_FORMAT], run: info },
  version: { usage: '', arguments: exactly(0), options: [INSPECT_FORMAT], run: version },
  events: {
    usage: '',
    arguments: exactly(0),
    options: [
      FILTER,
      option('format', 'string', "Format output: 'json' or a Go template"),
      option('since', 'string', 'Events since a time or a span before now'),
      option('until', 'string', 'End at a time or a span before now'),
    ],
    run: events,
  },
  inspect: {
    usage: 'NAME|ID [NAME|ID...]',
    arguments: atLeast(1),
    options: [
      INSPECT_FORMAT,
      option('size,s', 'bool', 'Show sizes of containers'),
      option('type', 'string', `Look for one type only (${PLACES.map((place) => place.type).join(', ')})`),
    ],
    run: inspectAny,
  },
};
