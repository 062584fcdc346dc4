/** Containers with the client attached: `run`, `create`, `start`, `attach`. */
import { errorMessage } from '../base/index.ts';
import { startSession, type Session, type SessionOptions } from './attach-session.ts';
import { segment } from './client.ts';
import { atLeast, exactly, ExitError, option, type CommandGroup } from './command.ts';
import { bodyOf, createContainer, runFailure, startFailure } from './container-create.ts';
import { beginWait, type Wait, type WaitCondition } from './container-wait.ts';
import { say, type Context } from './context.ts';
import type { Flags } from './options.ts';
import { CREATE_OPTIONS, DETACH_KEYS, RUN_OPTIONS, SIG_PROXY } from './run-options.ts';
import type { CreateBody } from './run-body.ts';
import { proxySignals } from './signal-proxy.ts';
import { checkTerminal, followSize } from './terminal.ts';

/** Exit code when the end of a container could not be learnt. */
const UNKNOWN_CODE = 125;

const pathOf = (container: string): string => `/containers/${segment(container)}`;

/** Parts of a container that attaching looks at. */
interface ContainerFacts {
  Id: string;
  Config: { Tty: boolean; OpenStdin: boolean };
  HostConfig: { AutoRemove?: boolean };
  State: { Running: boolean; Paused: boolean; Restarting: boolean };
}

function detachKeysOf(context: Context, flags: Flags): Promise<string> {
  const given = flags.string('detach-keys');
  if (given !== '') return Promise.resolve(given);
  return import('./registry-auth.ts').then(({ configFile }) => configFile(context.configDir).detachKeys ?? '');
}

async function attach(context: Context, container: string, options: SessionOptions): Promise<Session> {
  const { stdin, stdout, stderr, detachKeys } = options;
  const socket = await context.client.hijack({
    path: `${pathOf(container)}/attach`,
    query: { detachKeys: detachKeys === '' ? undefined : detachKeys, stream: true, stdin, stdout, stderr },
  });
  return startSession(context, socket, options);
}

/** The exit code to come; when it cannot be learnt that is said, and the code is 125. */
async function exitCode(context: Context, wait: Wait): Promise<number> {
  try {
    return await wait.code;
  } catch (error) {
    say(context.err, `error waiting for container: ${errorMessage(error)}`);
    return UNKNOWN_CODE;
  }
}

async function create(context: Context, flags: Flags, words: readonly string[]): Promise<void> {
  const body = bodyOf(context, flags, words, 'create');
  say(context.out, await createContainer(context, flags, body));
}

function checkRun(context: Context, flags: Flags, body: CreateBody): void {
  if (!flags.bool('detach')) return checkTerminal(context, body.AttachStdin, body.Tty);
  if (flags.changed('attach')) throw new Error('conflicting options: cannot specify both --attach and --detach');
  body.AttachStdin = body.AttachStdout = body.AttachStderr = body.StdinOnce = false;
}

async function run(context: Context, flags: Flags, words: readonly string[]): Promise<number> {
  const body = bodyOf(context, flags, words, 'run');
  checkRun(context, flags, body);
  const id = await createContainer(context, flags, body).catch((error: unknown) => {
    throw runFailure(error, 'run');
  });
  const stopProxy = flags.bool('sig-proxy') ? proxySignals(context, id) : () => undefined;
  try {
    const attached = body.AttachStdin || body.AttachStdout || body.AttachStderr;
    if (!attached) return await runDetached(context, id);
    return await runAttached(context, flags, body, id);
  } finally {
    stopProxy();
  }
}

async function runDetached(context: Context, id: string): Promise<number> {
  say(context.out, id);
  await context.client.post(`${pathOf(id)}/start`, undefined).catch((error: unknown) => {
    throw startFailure(error);
  });
  return 0;
}

async function runAttached(context: Context, flags: Flags, body: CreateBody, id: string): Promise<number> {
  const session = await attach(context, id, {
    stdin: body.AttachStdin,
    stdout: body.AttachStdout,
    stderr: body.AttachStderr,
    tty: body.Tty,
    detachKeys: await detachKeysOf(context, flags),
  });
  let wait: Wait | undefined;
  try {
    const removed = body.HostConfig.AutoRemove;
    wait = await beginWait(context.client, id, removed ? 'removed' : 'next-exit');
    try {
      await context.client.post(`${pathOf(id)}/start`, undefined);
    } catch (error) {
      session.close();
      if (removed) await wait.code.catch(() => undefined);
      throw startFailure(error);
    }
    const stopResizing = body.Tty && context.out.isTerminal ? followSize(context, pathOf(id)) : () => undefined;
    try {
      return await endOf(context, session, wait, body.AttachStdout || body.AttachStderr);
    } finally {
      stopResizing();
    }
  } finally {
    session.close();
    wait?.stop();
  }
}

/** Waits for the stream and the process, whichever ends first; output is read to its end. */
async function endOf(context: Context, session: Session, wait: Wait, hasOutput: boolean): Promise<number> {
  if (!hasOutput) {
    const close = (): void => session.close();
    void wait.code.then(close, close);
  }
  const end = await session.ended;
  return end === 'detached' ? 0 : exitCode(context, wait);
}

async function startAttached(context: Context, flags: Flags, name: string): Promise<number> {
  const container = await context.client.get<ContainerFacts>(`${pathOf(name)}/json`);
  const { Id: id, Config: config } = container;
  const stopProxy = config.Tty ? () => undefined : proxySignals(context, id);
  const session = await attach(context, id, {
    stdin: flags.bool('interactive') && config.OpenStdin,
    ...{ stdout: true, stderr: true, tty: config.Tty, detachKeys: await detachKeysOf(context, flags) },
  });
  let wait: Wait | undefined;
  try {
    const removed = container.HostConfig.AutoRemove === true;
    const condition: WaitCondition = removed ? 'removed' : 'next-exit';
    wait = await beginWait(context.client, id, condition);
    try {
      await context.client.post(`${pathOf(id)}/start`, undefined);
    } catch (error) {
      session.close();
      if (removed) await wait.code.catch(() => undefined);
      throw error;
    }
    const stopResizing = config.Tty && context.out.isTerminal ? followSize(context, pathOf(id)) : () => undefined;
    try {
      return await endOf(context, session, wait, true);
    } finally {
      stopResizing();
    }
  } finally {
    session.close();
    wait?.stop();
    stopProxy();
  }
}

async function start(context: Context, flags: Flags, words: readonly string[]): Promise<number> {
  if (flags.bool('attach') || flags.bool('interactive')) {
    if (words.length > 1) throw new Error('you cannot start and attach multiple containers at once');
    return startAttached(context, flags, words[0] ?? '');
  }
  const failed: string[] = [];
  for (const name of words) {
    try {
      await context.client.post(`${pathOf(name)}/start`, undefined);
      say(context.out, name);
    } catch (error) {
      say(context.err, errorMessage(error));
      failed.push(name);
    }
  }
  if (failed.length === 0) return 0;
  throw new Error(`Error: failed to start containers: ${failed.join(', ')}`);
}

function checkRunning({ State }: ContainerFacts): void {
  if (!State.Running) throw new Error('You cannot attach to a stopped container, start it first');
  if (State.Paused) throw new Error('You cannot attach to a paused container, unpause it first');
  if (State.Restarting) throw new Error('You cannot attach to a restarting container, wait until it is running');
}

async function attachTo(context: Context, flags: Flags, words: readonly string[]): Promise<number> {
  const name = words[0] ?? '';
  const { client } = context;
  const inspect = (): Promise<ContainerFacts> => client.get<ContainerFacts>(`${pathOf(name)}/json`);
  const container = await inspect();
  checkRunning(container);
  const { Tty: tty, OpenStdin: open } = container.Config;
  checkTerminal(context, !flags.bool('no-stdin'), tty);
  const wait = await beginWait(client, name);
  const stopProxy = !tty && flags.bool('sig-proxy') ? proxySignals(context, container.Id) : () => undefined;
  const stdin = !flags.bool('no-stdin') && open;
  const detachKeys = await detachKeysOf(context, flags);
  const session = await attach(context, name, { stdin, stdout: true, stderr: true, tty, detachKeys });
  let stopResizing = (): void => undefined;
  try {
    // It may have ended between the first look and the attach: then no stream would ever end.
    checkRunning(await inspect());
    if (tty && context.out.isTerminal) stopResizing = followSize(context, pathOf(name), true);
    if ((await session.ended) === 'detached') throw new ExitError('read escape sequence\n', 1);
    return await wait.code;
  } finally {
    stopResizing();
    session.close();
    wait.stop();
    stopProxy();
  }
}

const RUN_USAGE = 'IMAGE [COMMAND] [ARG...]';

export const containerRunCommands: CommandGroup = {
  run: { usage: RUN_USAGE, arguments: atLeast(1), options: RUN_OPTIONS, stopAtArgument: true, run },
  create: { usage: RUN_USAGE, arguments: atLeast(1), options: CREATE_OPTIONS, stopAtArgument: true, run: create },
  start: {
    usage: 'CONTAINER [CONTAINER...]',
    arguments: atLeast(1),
    options: [
      option('attach,a', 'bool', 'Attach STDOUT/STDERR and forward signals'),
      DETACH_KEYS,
      option('interactive,i', 'bool', "Attach container's STDIN"),
    ],
    run: start,
  },
  attach: {
    usage: 'CONTAINER',
    arguments: exactly(1),
    options: [DETACH_KEYS, option('no-stdin', 'bool', 'Do not attach STDIN'), SIG_PROXY],
    run: attachTo,
  },
};
