/** What `prune` removes, of each kind and of all. */
import type { Query } from './client.ts';
import { DaemonError } from './client.ts';
import { exactly, option, type Command, type CommandGroup } from './command.ts';
import { say, type Context } from './context.ts';
import type { Flags } from './options.ts';
import { confirmed } from './remove.ts';
import { humanSize, naturalOrder } from './units.ts';

type Filters = Record<string, string[]>;

/** What was removed: a text that names it (empty for nothing), and the room that it gave back, bytes. */
interface Pruned {
  text: string;
  bytes: number;
}

const QUESTION = 'Are you sure you want to continue?';

const ask = <T>(context: Context, path: string, filters: Filters): Promise<T> =>
  context.client.post<T>(path, undefined, { filters } satisfies Query);

const listed = (title: string, names: readonly string[] | null | undefined): string =>
  (names ?? []).length === 0 ? '' : `${title}:\n${(names ?? []).map((name) => `${name}\n`).join('')}`;

async function containers(context: Context, filters: Filters): Promise<Pruned> {
  const answer = await ask<{ ContainersDeleted: string[] | null; SpaceReclaimed: number }>(
    ...([context, '/containers/prune', filters] as const),
  );
  return { text: listed('Deleted Containers', answer.ContainersDeleted), bytes: answer.SpaceReclaimed };
}

async function networks(context: Context, filters: Filters): Promise<Pruned> {
  const answer = await ask<{ NetworksDeleted: string[] | null }>(context, '/networks/prune', filters);
  return { text: listed('Deleted Networks', answer.NetworksDeleted), bytes: 0 };
}

async function volumes(context: Context, filters: Filters): Promise<Pruned> {
  const answer = await ask<{ VolumesDeleted: string[] | null; SpaceReclaimed: number }>(
    ...([context, '/volumes/prune', filters] as const),
  );
  return { text: listed('Deleted Volumes', answer.VolumesDeleted), bytes: answer.SpaceReclaimed };
}

async function images(context: Context, filters: Filters, all: boolean): Promise<Pruned> {
  const answer = await ask<{
    ImagesDeleted: { Untagged?: string; Deleted?: string }[] | null;
    SpaceReclaimed: number;
  }>(context, '/images/prune', { ...filters, dangling: [String(!all)] });
  const lines = (answer.ImagesDeleted ?? []).map(({ Untagged = '', Deleted = '' }) =>
    Untagged === '' ? `deleted: ${Deleted}` : `untagged: ${Untagged}`,
  );
  return { text: listed('Deleted Images', lines), bytes: answer.SpaceReclaimed };
}

/** Layers kept for later builds; engines that build nothing have none. */
async function buildCache(context: Context, filters: Filters, all: boolean): Promise<Pruned> {
  try {
    const answer = await context.client.post<{ CachesDeleted: string[] | null; SpaceReclaimed: number }>(
      ...(['/build/prune', undefined, { all, filters }] as const),
    );
    return { text: listed('Deleted build cache objects', answer.CachesDeleted), bytes: answer.SpaceReclaimed };
  } catch (error) {
    if (error instanceof DaemonError && ['NotFound', 'Unimplemented'].includes(error.code))
      return { text: '', bytes: 0 };
    throw error;
  }
}

function tell(context: Context, { text, bytes }: Pruned): void {
  if (text !== '') say(context.out, text);
  say(context.out, `Total reclaimed space: ${humanSize(bytes)}`);
}

/** A command that asks first, unless --force is given. */
function pruning(question: (flags: Flags) => string, prune: (context: Context, flags: Flags) => Promise<Pruned>) {
  return (async (context, flags) => {
    if (!flags.bool('force') && !(await confirmed(context, `${question(flags)}\n${QUESTION}`))) return;
    tell(context, await prune(context, flags));
  }) satisfies Command['run'];
}

/** What the question of `system prune` lists. */
function everything(flags: Flags): string {
  const all = flags.bool('all');
  const warnings = ['all stopped containers', 'all networks not used by at least one container'];
  if (flags.bool('volumes')) warnings.push('all anonymous volumes not used by at least one container');
  warnings.push(all ? 'all images without at least one container associated to them' : 'all dangling images');
  warnings.push(all ? 'all build cache' : 'unused build cache');
  const given = ['label', 'label!', 'until']
    .flatMap((name) => (flags.filters[name] ?? []).map((value) => `${name}=${value}`))
    .toSorted(naturalOrder);
  const lines = (list: readonly string[]): string => list.map((one) => `\n  - ${one}`).join('');
  const filters = given.length === 0 ? '' : `\n  Items to be pruned will be filtered with:${lines(given)}\n`;
  return `WARNING! This will remove:${lines(warnings)}\n${filters}`;
}

async function system(context: Context, flags: Flags): Promise<void> {
  const { filters } = flags;
  const all = flags.bool('all');
  if (flags.bool('volumes') && filters['until'] !== undefined) {
    throw new Error('ERROR: The "until" filter is not supported with "--volumes"');
  }
  if (!flags.bool('force') && !(await confirmed(context, `${everything(flags)}\n${QUESTION}`))) return;
  let bytes = 0;
  const acts = [
    () => containers(context, filters),
    () => networks(context, filters),
    ...(flags.bool('volumes') ? [() => volumes(context, filters)] : []),
    () => images(context, filters, all),
    () => buildCache(context, filters, all),
  ];
  for (const act of acts) {
    const pruned = await act();
    bytes += pruned.bytes;
    if (pruned.text !== '') say(context.out, pruned.text);
  }
  say(context.out, `Total reclaimed space: ${humanSize(bytes)}`);
}

const FORCE = option('force,f', 'bool', 'Do not prompt for confirmation');
const UNTIL = option('filter', 'filter', 'Provide filter values (e.g. "until=<timestamp>")');

export const pruneCommands: CommandGroup = {
  container: {
    usage: '',
    arguments: exactly(0),
    options: [UNTIL, FORCE],
    run: pruning(
      () => 'WARNING! This will remove all stopped containers.',
      (context, flags) => containers(context, flags.filters),
    ),
  },
  image: {
    usage: '',
    arguments: exactly(0),
    options: [option('all,a', 'bool', 'Remove all unused images, not just dangling ones'), UNTIL, FORCE],
    run: pruning(
      (flags) =>
        flags.bool('all')
          ? 'WARNING! This will remove all images without at least one container associated to them.'
          : 'WARNING! This will remove all dangling images.',
      (context, flags) => images(context, flags.filters, flags.bool('all')),
    ),
  },
  system: {
    usage: '',
    arguments: exactly(0),
    options: [
      option('all,a', 'bool', 'Remove all unused images not just dangling ones'),
      option('filter', 'filter', 'Provide filter values (e.g. "label=<key>=<value>")'),
      FORCE,
      option('volumes', 'bool', 'Prune anonymous volumes'),
    ],
    run: system,
  },
};
