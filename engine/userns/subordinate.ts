import { appendFileSync } from 'node:fs';
import { invalidArgument, readFileIfExists, runChecked, type Logger, type Spawner } from '../../base/index.ts';
import type { IdMapping, IdRange } from '../types.ts';

/** The user whose ids `default` means, as dockerd has it; made when it is missing. */
const DEFAULT_USER = 'dockremap';
/** What a user gets who has no range, and where ranges begin (login.defs(5): SUB_UID_MIN, SUB_UID_COUNT). */
const RANGE_IDS = 65_536;
const RANGES_BEGIN = 100_000;
/** Ranges of one mapping that the kernel takes (user_namespaces(7)). */
const RANGES_MAX = 340;
const ID_MAX = 2 ** 32 - 2;

/** Where users and their ranges stand; the host's own files unless a test says otherwise. */
export interface UserFiles {
  passwd: string;
  group: string;
  subuid: string;
  subgid: string;
}

const HOST_FILES: UserFiles = {
  passwd: '/etc/passwd',
  group: '/etc/group',
  subuid: '/etc/subuid',
  subgid: '/etc/subgid',
};

export interface RemapOptions {
  spawner: Spawner;
  log: Logger;
  files?: UserFiles;
}

interface Named {
  name: string;
  id: number;
}

const fields = (path: string): string[][] =>
  (readFileIfExists(path) ?? '')
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '' && !line.startsWith('#'))
    .map((line) => line.split(':'));

/** A user or group by name or by number. */
function lookUp(path: string, wanted: string): Named | undefined {
  const entries = fields(path);
  const found =
    entries.find(([name]) => name === wanted) ??
    (/^\d+$/.test(wanted) ? entries.find(([, , id]) => Number(id) === Number(wanted)) : undefined);
  return found === undefined ? undefined : { name: found[0] ?? '', id: Number(found[2]) };
}

function mustLookUp(kind: 'user' | 'group', path: string, wanted: string): Named {
  const found = lookUp(path, wanted);
  if (found !== undefined) return found;
  throw invalidArgument(
    `--userns-remap: there is no ${kind} ${JSON.stringify(wanted)} in ${path}; make one, or name another`,
  );
}

/** The first id that no range of a file reaches. */
function firstFree(path: string): number {
  const ends = fields(path).map(([, start, count]) => Number(start) + Number(count));
  return Math.max(RANGES_BEGIN, ...ends.filter((end) => Number.isSafeInteger(end)));
}

function rangesIn(path: string, owners: readonly Named[]): IdRange[] {
  const keys = new Set(owners.flatMap(({ name, id }) => [name, String(id)]));
  const ranges: IdRange[] = [];
  let inside = 0;
  for (const line of fields(path)) {
    const [owner = '', start = '', count = ''] = line;
    if (!keys.has(owner)) continue;
    const range = { inside, outside: Number(start), count: Number(count) };
    const whole = /^\d+$/.test(start) && /^\d+$/.test(count) && line.length === 3;
    if (!whole || range.count < 1 || range.outside + range.count - 1 > ID_MAX) {
      throw invalidArgument(`--userns-remap: the line ${line.join(':')} of ${path} is no range: owner:first:count`);
    }
    if (range.outside === 0) {
      throw invalidArgument(`--userns-remap: the line ${line.join(':')} of ${path} holds root of this host; change it`);
    }
    inside += range.count;
    ranges.push(range);
  }
  if (ranges.length > RANGES_MAX) {
    throw invalidArgument(
      `--userns-remap: ${path} has ${ranges.length} ranges for one user; the kernel takes ${RANGES_MAX}`,
    );
  }
  return ranges;
}

/** @param owners whoever may have the ranges, the first that has any */
function mustHaveRanges(kind: 'subuid' | 'subgid', path: string, owners: readonly Named[]): IdRange[] {
  for (const owner of owners) {
    const ranges = rangesIn(path, [owner]);
    if (ranges.length > 0) return ranges;
  }
  const name = owners[0]?.name ?? '';
  throw invalidArgument(
    `Can't create ID mappings: no ${kind} ranges found for user ${JSON.stringify(name)}: add the line ` +
      `${name}:${firstFree(path)}:${RANGE_IDS} to ${path}`,
  );
}

/** Makes the user of `default` and its ranges, as far as they are missing. */
async function ensureDefault({ spawner, log }: RemapOptions, files: UserFiles): Promise<void> {
  if (lookUp(files.passwd, DEFAULT_USER) === undefined) {
    const args = ['--system', '--user-group', '--no-create-home', '--shell', '/bin/false', DEFAULT_USER];
    await runChecked(spawner, { file: 'useradd', args }).catch((error: unknown) => {
      throw invalidArgument(
        `--userns-remap: the user ${DEFAULT_USER} cannot be made: ${String(error)}; make it by hand`,
      );
    });
    log.info('made a user for user namespaces', { user: DEFAULT_USER });
  }
  const user = mustLookUp('user', files.passwd, DEFAULT_USER);
  for (const path of [files.subuid, files.subgid]) {
    if (rangesIn(path, [user]).length > 0) continue;
    const line = `${DEFAULT_USER}:${firstFree(path)}:${RANGE_IDS}`;
    const before = readFileIfExists(path) ?? '';
    appendFileSync(path, `${before === '' || before.endsWith('\n') ? '' : '\n'}${line}\n`, { mode: 0o644 });
    log.info('added ids for user namespaces', { path, line });
  }
}

/**
 * The ids that `--userns-remap` means: `default`, `user`, `user:group`, `uid` or `uid:gid`; undefined for root, which
 * dockerd takes as off, too.
 * @throws ShoalError InvalidArgument that names the file and the line which is missing
 */
export async function remapIds(spec: string, options: RemapOptions): Promise<IdMapping | undefined> {
  const files = options.files ?? HOST_FILES;
  if (spec === '') return undefined;
  if (spec === 'default') await ensureDefault(options, files);
  const [userPart = '', groupPart, ...more] = (spec === 'default' ? DEFAULT_USER : spec).split(':');
  if (userPart === '' || groupPart === '' || more.length > 0) {
    throw invalidArgument(`invalid user/group specification in --userns-remap: ${JSON.stringify(spec)}`);
  }
  const user = mustLookUp('user', files.passwd, userPart);
  const group = groupPart === undefined ? undefined : mustLookUp('group', files.group, groupPart);
  if (user.id === 0) {
    options.log.warn('User namespaces: root cannot be remapped with itself; user namespaces are OFF');
    return undefined;
  }
  return {
    uids: mustHaveRanges('subuid', files.subuid, [user]),
    // dockerd looks for the user here, too; some guides write the group's name.
    gids: mustHaveRanges('subgid', files.subgid, group === undefined ? [user] : [user, group]),
  };
}
