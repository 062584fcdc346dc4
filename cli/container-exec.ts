import { startSession } from './attach-session.ts';
import { segment } from './client.ts';
import { atLeast, ExitError, option, type CommandGroup } from './command.ts';
import type { Context } from './context.ts';
import { keyValueFile } from './key-value-file.ts';
import type { Flags } from './options.ts';
import { configFile } from './registry-auth.ts';
import { DETACH_KEYS } from './run-options.ts';
import { environmentWord } from './run-values.ts';
import { checkTerminal, consoleSize, followSize } from './terminal.ts';
import { cut } from './words.ts';

interface ExecFacts {
  Running: boolean;
  ExitCode: number | null;
}

function variables(context: Context, flags: Flags): string[] | null {
  const { env } = context;
  const given = flags.list('env').map((word) => {
    const [name, value] = cut(word, '=');
    const own = value ?? env[name];
    return own === undefined ? name : `${name}=${own}`;
  });
  const all = [...flags.list('env-file').flatMap((file) => keyValueFile(file, env)), ...given];
  return all.length === 0 ? null : all;
}

async function exec(context: Context, flags: Flags, words: readonly string[]): Promise<number> {
  const { client } = context;
  const [container = '', ...command] = words;
  const tty = flags.bool('tty');
  const detach = flags.bool('detach');
  const stdin = !detach && flags.bool('interactive');
  const detachKeys = flags.string('detach-keys') || (configFile(context.configDir).detachKeys ?? '');
  const Env = variables(context, flags);
  const size = tty ? { ConsoleSize: consoleSize(context) } : {};
  // Asked first, so that an unknown container is told before anything about the terminal.
  await client.get(`/containers/${segment(container)}/json`);
  checkTerminal(context, stdin, tty);
  const { Id: id } = await client.post<{ Id: string }>(`/containers/${segment(container)}/exec`, {
    ...{ User: flags.string('user'), Privileged: flags.bool('privileged'), Tty: tty, ...size },
    ...{ AttachStdin: stdin, AttachStderr: !detach, AttachStdout: !detach },
    ...{ DetachKeys: detachKeys, Env, WorkingDir: flags.string('workdir'), Cmd: command },
  });
  const path = `/exec/${segment(id)}`;
  if (detach) {
    await client.post(`${path}/start`, { Detach: true, Tty: tty, ...size });
    return 0;
  }
  const socket = await client.hijack({ path: `${path}/start`, body: { Detach: false, Tty: tty, ...size } });
  const session = startSession(context, socket, { stdin, stdout: true, stderr: true, tty, detachKeys });
  const stopResizing = tty && context.input.isTTY ? followSize(context, path) : () => undefined;
  try {
    if ((await session.ended) === 'detached') throw new ExitError('read escape sequence\n', 1);
    return (await client.get<ExecFacts>(`${path}/json`)).ExitCode ?? 0;
  } finally {
    stopResizing();
    session.close();
  }
}

export const containerExecCommands: CommandGroup = {
  exec: {
    usage: 'CONTAINER COMMAND [ARG...]',
    arguments: atLeast(2),
    stopAtArgument: true,
    options: [
      option('detach,d', 'bool', 'Detached mode: run command in the background'),
      DETACH_KEYS,
      option('env,e', 'list', 'Set environment variables', { parse: environmentWord }),
      option('env-file', 'list', 'Read in a file of environment variables'),
      option('interactive,i', 'bool', 'Keep STDIN open even if not attached'),
      option('privileged', 'bool', 'Give extended privileges to the command'),
      option('tty,t', 'bool', 'Allocate a pseudo-TTY'),
      option('user,u', 'string', 'Username or UID (format: "<name|uid>[:<group|gid>]")'),
      option('workdir,w', 'string', 'Working directory inside the container'),
    ],
    run: exec,
  },
};
