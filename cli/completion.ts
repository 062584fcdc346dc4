/** Completion of command lines in bash, zsh and fish: the shells ask the client itself for what may come next. */
import type { Client } from './client.ts';
import { exactly, type Command, type CommandGroup, type OptionSpec } from './command.ts';
import type { Context } from './context.ts';

/** Where a command is found; the catalogue's own form. */
interface Entry {
  load: () => Promise<CommandGroup>;
  key: string;
  aliases?: readonly string[];
}

/** All commands. */
export interface CommandTree {
  groups: Readonly<Record<string, { commands: Readonly<Record<string, Entry>> }>>;
  top: Readonly<Record<string, Entry>>;
  /** Words of other programs. */
  programs: readonly string[];
}

const BASH = `_shoal() {
  local line words
  COMPREPLY=()
  words=("\${COMP_WORDS[@]:1:COMP_CWORD}")
  while IFS= read -r line; do COMPREPLY+=("$line"); done < <(shoal __complete "\${words[@]}" 2>/dev/null)
  [[ \${#COMPREPLY[@]} -gt 0 ]] || compopt -o default
}
complete -F _shoal shoal
`;
const ZSH = `#compdef shoal
_shoal() {
  local -a found
  found=("\${(@f)$(shoal __complete "\${(@)words[2,CURRENT]}" 2>/dev/null)}")
  [[ -n "$found" ]] && compadd -a found || _files
}
compdef _shoal shoal
`;
const FISH = `complete -c shoal -a '(shoal __complete (commandline -opc)[2..] (commandline -ct) 2>/dev/null)'
`;
const SCRIPTS: Readonly<Record<string, string>> = { bash: BASH, zsh: ZSH, fish: FISH };

/** Verbs that are for containers that run. */
const FOR_RUNNING = ['attach', 'exec', 'kill', 'pause', 'restart', 'stats', 'stop', 'top'];
const GLOBAL_WITH_VALUE = ['-H', '--host', '--config'];

interface Named {
  Names?: string[] | null;
  RepoTags?: string[] | null;
  Name?: string;
  Spec?: { Name?: string };
  Description?: { Hostname?: string };
}

/** Names of the things of one kind, as the daemon lists them. */
async function namesOf(client: Client, kind: string, all: boolean): Promise<string[]> {
  const list = async (path: string): Promise<Named[]> => client.get<Named[]>(path);
  switch (kind) {
    case 'CONTAINER': {
      const found = await client.get<Named[]>('/containers/json', { all });
      return found.flatMap((one) => one.Names ?? []).map((name) => name.slice(1));
    }
    case 'IMAGE':
    case 'SOURCE_IMAGE':
      return (await list('/images/json')).flatMap((one) => one.RepoTags ?? []);
    case 'NETWORK':
      return (await list('/networks')).map((one) => one.Name ?? '');
    case 'VOLUME':
      return ((await client.get<{ Volumes: Named[] | null }>('/volumes')).Volumes ?? []).map((one) => one.Name ?? '');
    case 'NODE':
      return (await list('/nodes')).map((one) => one.Description?.Hostname ?? '');
    case 'SERVICE':
    case 'SECRET':
    case 'CONFIG':
      return (await list(`/${kind.toLowerCase()}s`)).map((one) => one.Spec?.Name ?? '');
    default:
      return [];
  }
}

/** Kinds that a command's usage line names: `CONTAINER [CONTAINER...]` is a container at every place. */
function kindAt(usage: string, position: number): string {
  const words = usage.split('\n')[0]?.match(/[A-Z][A-Z_]*/g) ?? [];
  return words[Math.min(position, words.length - 1)] ?? '';
}

const VALUES: Readonly<Record<string, readonly string[]>> = {
  pull: ['always', 'missing', 'never'],
  restart: ['no', 'always', 'on-failure', 'unless-stopped'],
  'log-driver': ['json-file', 'local', 'journald', 'syslog', 'none'],
};
const VALUE_KINDS: Readonly<Record<string, string>> = {
  network: 'NETWORK',
  net: 'NETWORK',
  'volumes-from': 'CONTAINER',
  link: 'CONTAINER',
};

function optionFor(word: string, options: readonly OptionSpec[]): OptionSpec | undefined {
  const long = /^--([^=]+)$/.exec(word)?.[1];
  const short = /^-[^-]*([^-])$/.exec(word)?.[1];
  return options.find((one) => (long === undefined ? one.short === short : one.name === long));
}

/** What may stand in the place of the last of `words`, options and arguments of one command. */
async function ofCommand(context: Context, entry: Entry, words: readonly string[]): Promise<string[]> {
  const command = (await entry.load())[entry.key] as Command;
  const options = command.options ?? [];
  const before = words.slice(0, -1);
  const partial = words.at(-1) ?? '';
  let position = 0;
  let open: OptionSpec | undefined;
  for (const word of before) {
    if (open !== undefined) open = undefined;
    else if (word.startsWith('-') && (position === 0 || command.stopAtArgument !== true)) {
      const option = optionFor(word, options);
      open = option === undefined || option.kind === 'bool' ? undefined : option;
    } else position++;
  }
  if (open !== undefined) {
    return [...(VALUES[open.name] ?? []), ...(await namesOf(context.client, VALUE_KINDS[open.name] ?? '', true))];
  }
  if (partial.startsWith('-')) {
    return options.filter((one) => one.hidden !== true).map((one) => `--${one.name}`);
  }
  // What follows an image or a container belongs to the program in it.
  if (position > 0 && command.stopAtArgument === true) return [];
  return namesOf(context.client, kindAt(command.usage, position), !FOR_RUNNING.includes(entry.key));
}

async function candidates(context: Context, tree: CommandTree, given: readonly string[]): Promise<string[]> {
  let words = given;
  while (words.length > 1 && (words[0] ?? '').startsWith('-')) {
    words = words.slice(GLOBAL_WITH_VALUE.includes(words[0] ?? '') ? 2 : 1);
  }
  const [first = '', second = ''] = words;
  if (words.length <= 1) {
    return [...Object.keys(tree.top), ...Object.keys(tree.groups), ...tree.programs];
  }
  const group = Object.hasOwn(tree.groups, first) ? tree.groups[first] : undefined;
  if (group === undefined) {
    const entry = Object.hasOwn(tree.top, first) ? tree.top[first] : undefined;
    return entry === undefined ? [] : ofCommand(context, entry, words.slice(1));
  }
  if (words.length === 2) return Object.keys(group.commands);
  const entry = Object.entries(group.commands).find(
    ([name, one]) => name === second || one.aliases?.includes(second) === true,
  )?.[1];
  return entry === undefined ? [] : ofCommand(context, entry, words.slice(2));
}

/** Words that may stand in the place of the last one, in order. A daemon that is away offers no names. */
export async function complete(context: Context, tree: CommandTree, words: readonly string[]): Promise<string[]> {
  const partial = words.at(-1) ?? '';
  const found = await candidates(context, tree, words).catch(() => []);
  return [...new Set(found)].filter((word) => word !== '' && word.startsWith(partial)).toSorted();
}

export const completionCommands: CommandGroup = {
  completion: {
    usage: 'bash|zsh|fish',
    arguments: exactly(1),
    run: (context, _flags, words) => {
      const script = SCRIPTS[words[0] ?? ''];
      if (script === undefined) throw new Error(`unknown shell ${words[0] ?? ''}: bash, zsh or fish is expected`);
      context.out.write(script);
      return Promise.resolve();
    },
  },
};
