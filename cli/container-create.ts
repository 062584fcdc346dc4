import { existsSync, rmSync, writeFileSync } from 'node:fs';
import { errorMessage } from '../base/index.ts';
import { isNotFound } from './client.ts';
import { ExitError } from './command.ts';
import { say, type Context } from './context.ts';
import type { Flags } from './options.ts';
import { createBody, type CreateBody } from './run-body.ts';
import { consoleSize } from './terminal.ts';
import { checkImageName, fullImageName, imageName } from './words.ts';

/** Exit code for a container that could not be made or started. */
const FAILED_CODE = 125;
const NOT_EXECUTABLE_CODE = 126;
const NOT_FOUND_CODE = 127;
const PULL_WORDS = ['', 'always', 'missing', 'never'];
const IMAGE_ID = /^(sha256:)?[\da-f]{64}$/;

/** Text and code of an error of `run`, with the hint that docker adds. */
export function runFailure(error: unknown, verb: string, code = FAILED_CODE): ExitError {
  return new ExitError(`shoal: ${errorMessage(error)}\n\nRun 'shoal ${verb} --help' for more information\n`, code);
}

/** The failure of a start: its code tells whether the program was missing, not executable, or something else. */
export function startFailure(error: unknown): ExitError {
  if (error instanceof ExitError) return error;
  const text = errorMessage(error);
  const has = (...words: string[]): boolean => words.some((word) => text.includes(word));
  if (has('executable file not found', 'no such file or directory', 'system cannot find the file specified')) {
    return runFailure(error, 'run', NOT_FOUND_CODE);
  }
  return runFailure(error, 'run', has('permission denied', 'is a directory') ? NOT_EXECUTABLE_CODE : FAILED_CODE);
}

/** The body that a command line asks for. @throws ExitError 125 when the line is wrong */
export function bodyOf(context: Context, flags: Flags, words: readonly string[], verb: string): CreateBody {
  try {
    const pull = flags.string('pull');
    if (!PULL_WORDS.includes(pull)) {
      throw new Error(`invalid pull option: '${pull}': must be one of "always", "missing" or "never"`);
    }
    return createBody(flags, words, context.env);
  } catch (error) {
    throw runFailure(error, verb);
  }
}

async function pull(context: Context, flags: Flags, image: string): Promise<void> {
  const [{ registryAuth }, { showProgress, SILENT }] = await Promise.all([
    import('./registry-auth.ts'),
    import('./json-stream.ts'),
  ]);
  const name = imageName(image);
  const platform = flags.string('platform');
  const body = await context.client.stream({
    method: 'POST',
    path: '/images/create',
    query: {
      fromImage: fullImageName(name.name),
      tag: name.digest ?? name.tag ?? 'latest',
      platform: platform === '' ? undefined : platform,
    },
    headers: { 'X-Registry-Auth': registryAuth(context.configDir, image) },
  });
  // Standard output carries the container's id alone.
  await showProgress(body, flags.bool('quiet') ? SILENT : context.err, context.clock);
}

interface Created {
  Id: string;
  Warnings: string[] | null;
}

async function post(context: Context, flags: Flags, body: CreateBody): Promise<Created> {
  const { client, err } = context;
  const query = { name: flags.string('name') || undefined, platform: flags.string('platform') || undefined };
  const wanted = flags.string('pull');
  const isName = !IMAGE_ID.test(body.Image);
  if (isName) checkImageName(body.Image);
  if (wanted === 'always') await pull(context, flags, body.Image);
  try {
    return await client.post<Created>('/containers/create', body, query);
  } catch (error) {
    if (!isNotFound(error) || wanted !== 'missing' || !isName) throw error;
    const { name, tag, digest } = imageName(body.Image);
    const shown = digest === undefined ? `${name}:${tag ?? 'latest'}` : `${name}@${digest}`;
    if (!flags.bool('quiet')) say(err, `Unable to find image '${shown}' locally`);
    await pull(context, flags, body.Image);
    return client.post<Created>('/containers/create', body, query);
  }
}

const LOOPBACK = /^(127(\.\d+){3}|(0*:)+0*1)$/;

/** Creates a container, pulling its image when it is missing. Gives the id. */
export async function createContainer(context: Context, flags: Flags, body: CreateBody): Promise<string> {
  const file = body.HostConfig.ContainerIDFile;
  if (file !== '') {
    if (existsSync(file)) {
      const way = `make sure the other container isn't running or delete ${file}`;
      throw new Error(`container ID file found, ${way}`);
    }
    try {
      writeFileSync(file, '', { flag: 'wx' });
    } catch (error) {
      throw new Error(`failed to create the container ID file: ${errorMessage(error)}`, { cause: error });
    }
  }
  let id = '';
  try {
    body.HostConfig['ConsoleSize'] = consoleSize(context);
    const created = await post(context, flags, body);
    const local = body.HostConfig.Dns.filter((address) => LOOPBACK.test(address));
    const warnings = local.slice(0, 1).map((address) => `Localhost DNS (${address}) may fail in containers.`);
    for (const warning of [...(created.Warnings ?? []), ...warnings]) say(context.err, `WARNING: ${warning}`);
    id = created.Id;
    if (file !== '') writeFileSync(file, id);
    return id;
  } finally {
    if (file !== '' && id === '') rmSync(file, { force: true });
  }
}
