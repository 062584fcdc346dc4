import { errorMessage } from '../base/index.ts';
import { isNotFound, segment } from './client.ts';
import type { Command } from './command.ts';
import { say, type Context } from './context.ts';
import type { Flags } from './options.ts';
import { reportErrors } from './task-table.ts';

/** So many requests are under way at once. */
const PARALLEL_MAX = 50;

/** What an act gives when the container's name is not to be printed. */
const NOT_TOLD = Symbol('not told');

/**
 * Does one thing to each container, many at once, and tells of them in the order in which they were named.
 * @returns the exit code
 */
export async function eachContainer(
  context: Context,
  names: readonly string[],
  act: (name: string) => Promise<unknown>,
): Promise<number> {
  const waiting: Promise<unknown>[] = [];
  const errors: string[] = [];
  let told = 0;
  const tell = async (): Promise<void> => {
    const name = names[told] ?? '';
    try {
      if ((await waiting[told++]) !== NOT_TOLD) say(context.out, name);
    } catch (error) {
      errors.push(errorMessage(error));
    }
  };
  for (const name of names) {
    const done = act(name);
    // Told of in its turn.
    done.catch(() => undefined);
    waiting.push(done);
    if (waiting.length - told >= PARALLEL_MAX) await tell();
  }
  while (told < names.length) await tell();
  return reportErrors(context, errors);
}

/** Path of a container's route. */
export const containerPath = (name: string, verb = ''): string =>
  `/containers/${segment(name)}${verb === '' ? '' : `/${verb}`}`;

type Settings = Record<string, string | number | boolean | undefined>;

/** A command that posts a verb to each container and prints its name. */
export function postToEach(verb: string, settings: (flags: Flags) => Settings = () => ({})): Command['run'] {
  return (context, flags, names) => {
    const query = settings(flags);
    return eachContainer(context, names, (name) => context.client.post(containerPath(name, verb), undefined, query));
  };
}

/** Removes containers; with --force those that are missing are named, but are no failure. */
export async function removeContainers(context: Context, flags: Flags, names: readonly string[]): Promise<number> {
  const force = flags.bool('force');
  const query = { force, v: flags.bool('volumes'), link: flags.bool('link') };
  return eachContainer(context, names, async (name) => {
    const bare = name.replace(/^\/+|\/+$/g, '');
    if (bare === '') throw new Error('container name cannot be empty');
    try {
      return await context.client.delete(containerPath(bare), query);
    } catch (error) {
      if (!force || !isNotFound(error)) throw error;
      say(context.err, errorMessage(error));
      return NOT_TOLD;
    }
  });
}
