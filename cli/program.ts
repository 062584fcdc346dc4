import { join } from 'node:path';
import { errorMessage } from '../base/index.ts';
import { COMMON, GROUPS, PROGRAMS, SWARM_GROUPS, TOP, type Entry, type Group } from './catalog.ts';
import { Client } from './client.ts';
import { ExitError, option, UsageError, type Command } from './command.ts';
import type { Context } from './context.ts';
import { commandHelp, optionTable, usageLine, wordTable } from './help.ts';
import { checkArguments, readOptions, type Flags } from './options.ts';

const NAME = 'shoal';
/** What shells ask with: the words of a line, the last of them not whole yet. */
const COMPLETE = '__complete';
const HOST_DEFAULT = 'unix:///var/run/docker.sock';

const GLOBAL_OPTIONS = [
  option('config', 'string', 'Folder of client settings', { shown: '~/.docker' }),
  option('debug,D', 'bool', 'Show the stack of unexpected errors'),
  option('host,H', 'list', 'Address of the daemon: unix:///path or tcp://address:port'),
  option('version,v', 'bool', 'Print the version and quit'),
];

/** Everything of a context but what the command line decides. */
export type World = Omit<Context, 'client' | 'configDir'>;

const abouts = (entries: Readonly<Record<string, { about: string }>>, names: readonly string[]): [string, string][] =>
  names.map((name) => [name, entries[name]?.about ?? '']);

function overview(columns: number): string {
  const management = Object.keys(GROUPS).filter((name) => !SWARM_GROUPS.includes(name));
  const others = Object.keys(TOP).filter((name) => !COMMON.includes(name));
  return [
    `Usage:  ${NAME} [OPTIONS] COMMAND`,
    'Containers and services on one host or on a swarm of many',
    wordTable('Common Commands', abouts(TOP, COMMON)),
    wordTable('Shoal Commands', PROGRAMS),
    wordTable('Management Commands', abouts(GROUPS, management)),
    wordTable('Swarm Commands', abouts(GROUPS, SWARM_GROUPS)),
    wordTable('Commands', abouts(TOP, others)),
    `Global Options:\n${optionTable(GLOBAL_OPTIONS, columns)}`,
    `Run '${NAME} COMMAND --help' for more information on a command.`,
  ].join('\n\n');
}

function groupHelp(name: string, group: Group): string {
  const words = Object.keys(group.commands);
  return [
    `Usage:  ${NAME} ${name} COMMAND`,
    group.about,
    wordTable('Commands', abouts(group.commands, words)),
    `Run '${NAME} ${name} COMMAND --help' for more information on a command.\n`,
  ].join('\n\n');
}

interface Found {
  path: string;
  entry: Entry;
  words: readonly string[];
  aliases: readonly string[];
}

/** The command that the words name. @throws UsageError when there is none */
function find(words: readonly string[]): Found | { group: string } {
  const [first = '', second, ...rest] = words;
  const group = Object.hasOwn(GROUPS, first) ? GROUPS[first] : undefined;
  if (group === undefined) {
    const entry = Object.hasOwn(TOP, first) ? TOP[first] : undefined;
    if (entry === undefined) {
      throw new ExitError(
        `${NAME}: unknown command: ${NAME} ${first}\n\nRun '${NAME} --help' for more information\n`,
        1,
      );
    }
    return { path: `${NAME} ${first}`, entry, words: words.slice(1), aliases: [] };
  }
  if (second === undefined || ['--help', '-h', 'help'].includes(second)) return { group: first };
  for (const [name, entry] of Object.entries(group.commands)) {
    // A name may have two words ("plan service create").
    const [head, ...tail] = name.split(' ');
    if (tail.length > 0 && head === second && tail.every((word, i) => rest[i] === word)) {
      return { path: `${NAME} ${first} ${name}`, entry, words: rest.slice(tail.length), aliases: [] };
    }
    if (name !== second && entry.aliases?.includes(second) !== true) continue;
    const aliases = [name, ...(entry.aliases ?? [])].map((word) => `${NAME} ${first} ${word}`);
    return { path: `${NAME} ${first} ${name}`, entry, words: rest, aliases };
  }
  const path = `${NAME} ${first}`;
  if (second.startsWith('-')) {
    throw new ExitError(
      `unknown flag: ${second}\n\nUsage:  ${path} COMMAND\n\nRun '${path} --help' for more information\n`,
      125,
    );
  }
  throw new ExitError(
    `${NAME}: unknown command: ${path} ${second}\n\nUsage:  ${path}\n\nRun '${path} --help' for more information\n`,
    1,
  );
}

function hostOf(flags: Flags, env: World['env']): string {
  const hosts = flags.list('host');
  if (hosts.length > 1) throw new ExitError('Specify only one -H\n', 1);
  const host = hosts[0] ?? env['DOCKER_HOST'] ?? '';
  if (host === '') return HOST_DEFAULT;
  return host.includes('://') ? host : host.startsWith('/') ? `unix://${host}` : `tcp://${host}`;
}

async function runCommand(found: Found, command: Command, context: Context): Promise<number> {
  const { path, entry, words, aliases } = found;
  const hint = (verb: string): string =>
    `\n\n${usageLine(path, command)}\n\n${verb} '${path} --help' for more information\n`;
  try {
    const read = readOptions(command.options ?? [], words, command.stopAtArgument ?? false);
    if (read.help) {
      context.out.write(commandHelp(path, command, entry.about, aliases, context.out.columns));
      return 0;
    }
    checkArguments(path, command, read.words);
    return (await command.run(context, read.flags, read.words)) ?? 0;
  } catch (error) {
    if (error instanceof UsageError) {
      context.err.write((error.exitCode === 1 ? `${NAME}: ` : '') + error.message + hint(error.see ? 'See' : 'Run'));
      return error.exitCode;
    }
    throw error;
  }
}

async function dispatch(argv: readonly string[], world: World): Promise<number> {
  const globals = readOptions(GLOBAL_OPTIONS, argv, true);
  if (globals.flags.bool('version')) {
    const { VERSION } = await import('./version.ts');
    world.out.write(`Shoal version ${VERSION}\n`);
    return 0;
  }
  let words = globals.words;
  if (globals.help || words.length === 0) {
    world.out.write(`${overview(world.out.columns)}\n`);
    return 0;
  }
  if (words[0] === 'help') words = [...words.slice(1), '--help'];
  if (words[0] === '--help') {
    world.out.write(`${overview(world.out.columns)}\n`);
    return 0;
  }
  const asked = words[0] === COMPLETE;
  const found = asked ? undefined : find(words);
  if (found !== undefined && 'group' in found) {
    world.out.write(groupHelp(found.group, GROUPS[found.group] as Group));
    return 0;
  }
  const { flags } = globals;
  const home = world.env['DOCKER_CONFIG'] ?? join(world.env['HOME'] ?? '/root', '.docker');
  const context: Context = {
    ...world,
    client: new Client(hostOf(flags, world.env)),
    configDir: flags.changed('config') ? flags.string('config') : home,
  };
  if (found === undefined) {
    const { complete } = await import('./completion.ts');
    const tree = { groups: GROUPS, top: TOP, programs: PROGRAMS.map(([name]) => name) };
    world.out.write((await complete(context, tree, words.slice(1))).map((word) => `${word}\n`).join(''));
    return 0;
  }
  const group = await found.entry.load();
  return runCommand(found, group[found.entry.key] as Command, context);
}

/** Runs one command line. Resolves to the exit code; errors have been written to standard error. */
export async function runProgram(argv: readonly string[], world: World): Promise<number> {
  try {
    return await dispatch(argv, world);
  } catch (error) {
    if (error instanceof ExitError) {
      world.err.write(error.message);
      return error.exitCode;
    }
    if (error instanceof UsageError) {
      world.err.write(
        `${error.message}\n\nUsage:  ${NAME} [OPTIONS] COMMAND [ARG...]\n\nRun '${NAME} --help' for more information\n`,
      );
      return error.exitCode;
    }
    const debug = argv.includes('-D') || argv.includes('--debug');
    world.err.write(`${debug && error instanceof Error ? (error.stack ?? error.message) : errorMessage(error)}\n`);
    return 1;
  }
}
