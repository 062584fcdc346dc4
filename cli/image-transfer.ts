import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import type { Readable } from 'node:stream';
import { httpCall } from '../base/index.ts';
import { imageSegment, type Query } from './client.ts';
import { atLeast, between, exactly, option, type CommandGroup } from './command.ts';
import { say, type Context } from './context.ts';
import { showProgress, SILENT } from './json-stream.ts';
import type { Flags } from './options.ts';
import { registryAuth } from './registry-auth.ts';
import { checkImageName, fullImageName, imageName } from './words.ts';

async function showStream(context: Context, body: AsyncIterable<Uint8Array>, quiet: boolean): Promise<void> {
  await showProgress(body, quiet ? SILENT : context.out, context.clock);
}

async function openFile(path: string): Promise<Readable> {
  try {
    await stat(path);
  } catch (error) {
    const missing = (error as NodeJS.ErrnoException).code === 'ENOENT';
    throw new Error(missing ? `open ${path}: no such file or directory` : (error as Error).message, { cause: error });
  }
  return createReadStream(path);
}

async function pull(context: Context, flags: Flags, words: readonly string[]): Promise<void> {
  const wanted = words[0] ?? '';
  checkImageName(wanted);
  const name = imageName(wanted);
  const all = flags.bool('all-tags');
  const single = name.tag !== undefined || name.digest !== undefined;
  if (all && single) throw new Error("tag can't be used with --all-tags/-a");
  const tag = all ? undefined : (name.digest ?? name.tag ?? 'latest');
  const quiet = flags.bool('quiet');
  if (!single && !all && !quiet) say(context.out, 'Using default tag: latest');
  const full = fullImageName(name.name);
  const platform = flags.string('platform');
  const body = await context.client.stream({
    method: 'POST',
    path: '/images/create',
    query: { fromImage: full, tag, platform: platform === '' ? undefined : platform },
    headers: { 'X-Registry-Auth': registryAuth(context.configDir, wanted) },
  });
  await showStream(context, body, quiet);
  const shownTag = name.digest === undefined ? `:${tag ?? ''}` : `@${name.digest}`;
  say(context.out, all ? full : full + shownTag);
}

async function push(context: Context, flags: Flags, words: readonly string[]): Promise<void> {
  const wanted = words[0] ?? '';
  checkImageName(wanted);
  const name = imageName(wanted);
  const all = flags.bool('all-tags');
  if (all && name.tag !== undefined) throw new Error("tag can't be used with --all-tags/-a");
  const quiet = flags.bool('quiet');
  const tag = all ? undefined : (name.tag ?? 'latest');
  if (name.tag === undefined && !all && !quiet) say(context.out, 'Using default tag: latest');
  const full = fullImageName(name.name);
  const body = await context.client.stream({
    method: 'POST',
    path: `/images/${imageSegment(full)}/push`,
    query: { tag },
    headers: { 'X-Registry-Auth': registryAuth(context.configDir, wanted) },
  });
  await showStream(context, body, quiet);
  if (quiet) say(context.out, tag === undefined ? full : `${full}:${tag}`);
}

/** What `import` reads: a file, standard input, or a URL that the client fetches. */
async function importSource(context: Context, source: string): Promise<{ from: string; body?: Readable }> {
  if (source === '-') return { from: '-', body: context.input };
  if (source.startsWith('https://')) return { from: source };
  const url = /^http:\/\/([^/]+)(\/.*)?$/.exec(source);
  if (url === null) return { from: '-', body: await openFile(source) };
  const host = /:\d+$/.test(url[1] ?? '') ? (url[1] ?? '') : `${url[1]}:80`;
  const answer = await httpCall({ host: `tcp://${host}`, method: 'GET', path: url[2] ?? '/' });
  if (answer.status !== 200) throw new Error(`${source}: HTTP status ${answer.status}`);
  return { from: '-', body: answer.body };
}

async function importImage(context: Context, flags: Flags, words: readonly string[]): Promise<void> {
  const [source = '', reference = ''] = words;
  if (reference !== '') checkImageName(reference);
  const { from, body } = await importSource(context, source);
  const platform = flags.string('platform');
  const message = flags.string('message');
  const query: Query = {
    fromSrc: from,
    repo: reference === '' ? undefined : reference,
    message: message === '' ? undefined : message,
    platform: platform === '' ? undefined : platform,
  };
  // `changes` may be given several times, which a map of parameters cannot say.
  const changes = flags.list('change').map((change) => `changes=${encodeURIComponent(change)}`);
  const answer = await context.client.stream({
    method: 'POST',
    path: `/images/create${changes.length === 0 ? '' : `?${changes.join('&')}`}`,
    query,
    headers: { 'Content-Type': 'application/x-tar' },
    ...(body === undefined ? {} : { body }),
  });
  await showStream(context, answer, false);
}

async function load(context: Context, flags: Flags): Promise<void> {
  const file = flags.string('input');
  if (file === '' && context.input.isTTY) throw new Error('requested load from stdin, but stdin is empty');
  const body = file === '' ? context.input : await openFile(file);
  const answer = await context.client.open({
    method: 'POST',
    path: '/images/load',
    query: { quiet: flags.bool('quiet') || !context.out.isTerminal },
    headers: { 'Content-Type': 'application/x-tar' },
    body,
  });
  if (/json/.test(answer.headers['content-type'] ?? '')) await showStream(context, answer.body, false);
  else for await (const chunk of answer.body as AsyncIterable<Uint8Array>) context.out.write(chunk);
}

async function save(context: Context, flags: Flags, words: readonly string[]): Promise<void> {
  const names = words.map((word) => `names=${encodeURIComponent(word)}`).join('&');
  const platform = flags.string('platform');
  const [os = '', architecture, variant] = platform.split('/');
  const query = platform === '' ? {} : { platform: JSON.stringify({ os, architecture, variant }) };
  const { saveStream } = await import('./save-stream.ts');
  await saveStream(context, flags.string('output'), 'failed to save image', () =>
    context.client.stream({ method: 'GET', path: `/images/get?${names}`, query }),
  );
}

const PLATFORM = option('platform', 'string', 'Platform of the image, when it has several (os/architecture)');
const ALL_TAGS = option('all-tags,a', 'bool', 'Every tag of the repository');
const PULL_QUIET = option('quiet,q', 'bool', 'Show no progress');
// Images are not signed here, so there is nothing to skip; scripts give it.
const NO_TRUST = option('disable-content-trust', 'bool', 'Skip image verification', { initial: true, shown: 'true' });

export const imageTransferCommands: CommandGroup = {
  pull: {
    usage: 'NAME[:TAG|@DIGEST]',
    arguments: exactly(1),
    options: [ALL_TAGS, NO_TRUST, PLATFORM, PULL_QUIET],
    run: pull,
  },
  push: { usage: 'NAME[:TAG]', arguments: exactly(1), options: [ALL_TAGS, NO_TRUST, PULL_QUIET], run: push },
  import: {
    usage: 'file|URL|- [REPOSITORY[:TAG]]',
    arguments: between(1, 2),
    options: [
      option('change,c', 'list', 'Dockerfile instructions for the image (CMD, ENV, …)'),
      option('message,m', 'string', 'Words kept in the history of the image'),
      PLATFORM,
    ],
    run: importImage,
  },
  save: {
    usage: 'IMAGE [IMAGE...]',
    arguments: atLeast(1),
    options: [
      option('output,o', 'string', 'Write to a file, instead of STDOUT'),
      option('platform', 'string', 'Save only the given platform variant (os[/arch[/variant]])'),
    ],
    run: save,
  },
  load: {
    usage: '',
    arguments: exactly(0),
    options: [option('input,i', 'string', 'Archive to read, instead of standard input'), PULL_QUIET],
    run: load,
  },
};
