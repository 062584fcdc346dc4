/** `cp`: files between a container and here, as tar archives that GNU tar makes and unpacks. */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { lstatSync } from 'node:fs';
import { isAbsolute, join, posix } from 'node:path';
import { PassThrough, type Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { HttpAnswer } from '../base/index.ts';
import { isNotFound } from './client.ts';
import { exactly, option, type CommandGroup } from './command.ts';
import { say, type Context } from './context.ts';
import {
  checkLocalDestination,
  localDestination,
  localPath,
  localSource,
  planCopy,
  renamedSource,
  splitArgument,
  splitEntry,
  type CopyPlan,
  type CopySide,
} from './copy-plan.ts';
import type { Flags } from './options.ts';
import { containerPath } from './parallel.ts';
import { humanSize } from './units.ts';

/** Bits of a file's mode as Go writes it. */
const GO_DIRECTORY = 2 ** 31;
const GO_SYMLINK = 2 ** 27;
const GO_DEVICE = 2 ** 26;
/** Time between two figures of progress, ms. */
const PROGRESS_MS = 75;

interface PathStat {
  name: string;
  size: number;
  mode: number;
  linkTarget: string;
}

const hasMode = (stat: PathStat | undefined, bit: number): boolean => Math.floor((stat?.mode ?? 0) / bit) % 2 === 1;

function statOf(answer: HttpAnswer): PathStat {
  const header = answer.headers['x-docker-container-path-stat'];
  return JSON.parse(Buffer.from(String(header ?? 'e30='), 'base64').toString('utf8')) as PathStat;
}

async function statPath(context: Context, container: string, path: string): Promise<PathStat | undefined> {
  try {
    const call = { method: 'HEAD', path: containerPath(container, 'archive'), query: { path } };
    const answer = await context.client.open(call);
    answer.body.resume();
    return statOf(answer);
  } catch (error) {
    // A path, or a container, that is not there is told when it is read or written.
    if (isNotFound(error)) return undefined;
    throw error;
  }
}

/** tar's option that gives the first path element another name, in the names of hard links too. */
function transform({ from, to }: CopyPlan): string[] {
  if (from === to) return [];
  const pattern = from === '/' ? '/*' : `${from.replace(/[\\^$.*[\]/,]/g, '\\$&')}\\(/\\|$\\)`;
  const name = to.replace(/[\\&,]/g, '\\$&');
  return ['--transform', `s,^${pattern},${name}${from === '/' ? '/' : '\\1'},rSh`];
}

/** How tar ended. @throws Error with what it said */
async function tarEnd(tar: ChildProcess): Promise<void> {
  let said = '';
  tar.stderr?.setEncoding('utf8').on('data', (text: string) => (said += text));
  const [code] = (await once(tar, 'close')) as [number | null];
  if (code !== 0) throw new Error(said.trim() || `tar ended with code ${code}`);
}

/** Counts what goes by and shows it on a terminal. */
function counted(context: Context, header: string, quiet: boolean): { meter: PassThrough; done: () => number } {
  let bytes = 0;
  let shownAtMs = -Infinity;
  const { err, clock } = context;
  const meter = new PassThrough();
  meter.on('data', (chunk: Buffer) => {
    bytes += chunk.length;
    if (quiet || !err.isTerminal || clock.monotonic() - shownAtMs < PROGRESS_MS) return;
    shownAtMs = clock.monotonic();
    err.write(`\r\u001b[2K${header}${humanSize(bytes, 3)}`);
  });
  meter.pause();
  return {
    meter,
    done: () => {
      if (!quiet && err.isTerminal && shownAtMs >= 0) err.write('\r\u001b[2K');
      return bytes;
    },
  };
}

function checkOverwrite(source: CopySide, plan: CopyPlan): void {
  if (plan.to === '.' || plan.to === '/') return;
  const target = join(plan.directory, plan.to);
  const there = lstatSync(target, { throwIfNoEntry: false });
  if (there === undefined || there.isDirectory() === source.isDirectory) return;
  const [old, fresh] = there.isDirectory() ? ['directory', 'non-directory'] : ['non-directory', 'directory'];
  throw new Error(`cannot overwrite ${old} ${JSON.stringify(target)} with ${fresh} ${JSON.stringify(plan.from)}`);
}

async function fromContainer(
  context: Context,
  flags: Flags,
  container: string,
  source: string,
  target: string,
): Promise<void> {
  const destination = target === '-' ? '-' : localPath(target);
  if (destination !== '-') checkLocalDestination(destination);
  let found = { path: source, rename: '' };
  if (flags.bool('follow-link')) {
    const stat = await statPath(context, container, source);
    if (stat !== undefined && hasMode(stat, GO_SYMLINK)) {
      const link = stat.linkTarget;
      found = renamedSource(source, isAbsolute(link) ? link : posix.join(splitEntry(source)[0], link));
    }
  }
  const call = { method: 'GET', path: containerPath(container, 'archive'), query: { path: found.path } };
  const answer = await context.client.open(call);
  if (destination === '-') {
    for await (const chunk of answer.body as AsyncIterable<Uint8Array>) {
      context.out.write(chunk);
      await context.out.drained?.();
    }
    return;
  }
  const side: CopySide = { ...found, exists: true, isDirectory: hasMode(statOf(answer), GO_DIRECTORY) };
  const quiet = isQuiet(context, flags);
  let bytes: number;
  try {
    const plan = planCopy(side, localDestination(destination));
    checkOverwrite(side, plan);
    bytes = await unpack(context, answer.body, plan, quiet);
  } finally {
    answer.body.destroy();
  }
  if (!quiet) say(context.err, `Successfully copied ${humanSize(bytes, 3)} to ${destination}`);
}

async function unpack(context: Context, body: Readable, plan: CopyPlan, quiet: boolean): Promise<number> {
  const args = ['-x', '-p', '--no-same-owner', '--delay-directory-restore', '-f', '-', '-C', plan.directory];
  const tar = spawn('tar', [...args, ...transform(plan)], { stdio: ['pipe', 'ignore', 'pipe'] });
  const { meter, done } = counted(context, 'Copying from container - ', quiet);
  const ended = tarEnd(tar);
  ended.catch(() => undefined);
  // tar's own words are better than those of a pipe that it closed.
  await pipeline(body, meter, tar.stdin).catch(() => undefined);
  const bytes = done();
  await ended;
  return bytes;
}

async function toContainer(
  context: Context,
  flags: Flags,
  source: string,
  container: string,
  target: string,
): Promise<void> {
  const from = source === '-' ? '-' : localPath(source);
  const destination: CopySide = { path: target, exists: false, isDirectory: false, rename: '' };
  let stat = await statPath(context, container, target);
  if (stat !== undefined && hasMode(stat, GO_SYMLINK)) {
    const link = stat.linkTarget;
    destination.path = isAbsolute(link) ? link : posix.join(splitEntry(target)[0], link);
    stat = await statPath(context, container, destination.path);
  }
  if (hasMode(stat, GO_DEVICE)) {
    throw new Error(`destination "${container}:${target}" must be a directory or a regular file: got a device`);
  }
  destination.exists = stat !== undefined;
  destination.isDirectory = hasMode(stat, GO_DIRECTORY);
  if (from === '-') {
    if (!destination.isDirectory) throw new Error(`destination "${container}:${target}" must be a directory`);
    await put(context, flags, container, destination.path, context.input);
    return;
  }
  const side = localSource(from, flags.bool('follow-link'));
  const plan = planCopy(side, destination);
  const [folder, base] = splitEntry(side.path);
  const args = [
    '-c',
    '--format=pax',
    '--numeric-owner',
    '-f',
    '-',
    '-C',
    folder,
    ...transform({ ...plan, from: base }),
  ];
  const tar = spawn('tar', [...args, '--', base === '/' ? '.' : base], { stdio: ['ignore', 'pipe', 'pipe'] });
  const quiet = isQuiet(context, flags);
  const { meter, done } = counted(context, 'Copying to container - ', quiet);
  const ended = tarEnd(tar);
  ended.catch(() => undefined);
  const piped = pipeline(tar.stdout, meter);
  piped.catch(() => undefined);
  try {
    await put(context, flags, container, plan.directory, meter);
  } catch (error) {
    tar.kill();
    throw error;
  }
  await ended;
  const bytes = done();
  if (!quiet) say(context.err, `Successfully copied ${humanSize(bytes, 3)} to ${container}:${destination.path}`);
}

async function put(context: Context, flags: Flags, container: string, path: string, body: Readable): Promise<void> {
  await context.client.json({
    method: 'PUT',
    path: containerPath(container, 'archive'),
    query: { path, noOverwriteDirNonDir: 'true', copyUIDGID: flags.bool('archive') ? 'true' : undefined },
    headers: { 'Content-Type': 'application/x-tar' },
    body,
  });
}

const isQuiet = (context: Context, flags: Flags): boolean =>
  flags.changed('quiet') ? flags.bool('quiet') : !context.out.isTerminal;

async function copy(context: Context, flags: Flags, words: readonly string[]): Promise<void> {
  const [source = '', target = ''] = words;
  if (source === '') throw new Error('source can not be empty');
  if (target === '') throw new Error('destination can not be empty');
  const [sourceContainer, sourcePath] = splitArgument(source);
  const [targetContainer, targetPath] = splitArgument(target);
  if (sourceContainer !== '' && targetContainer !== '') {
    throw new Error('copying between containers is not supported');
  }
  if (sourceContainer !== '') return fromContainer(context, flags, sourceContainer, sourcePath, targetPath);
  if (targetContainer !== '') return toContainer(context, flags, sourcePath, targetContainer, targetPath);
  throw new Error('must specify at least one container source');
}

export const containerCopyCommands: CommandGroup = {
  cp: {
    usage: 'CONTAINER:SRC_PATH DEST_PATH|-\n\tshoal cp [OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH',
    arguments: exactly(2),
    options: [
      option('archive,a', 'bool', 'Archive mode (copy all uid/gid information)'),
      option('follow-link,L', 'bool', 'Always follow symbol link in SRC_PATH'),
      option(
        'quiet,q',
        'bool',
        'Suppress progress output during copy. Progress output is automatically suppressed if no terminal is attached',
      ),
    ],
    run: copy,
  },
};
