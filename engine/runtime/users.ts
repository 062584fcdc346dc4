import { invalidArgument } from '../../base/index.ts';
import { readInRoot } from './in-root.ts';

export interface ResolvedUser {
  uid: number;
  gid: number;
  additionalGids: number[];
  home: string;
}

const ID_MAX = 2 ** 31 - 1;

const lines = (text: string): string[][] =>
  text
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'))
    .map((line) => line.split(':'));

function numeric(text: string): number | undefined {
  if (!/^\d+$/.test(text)) return undefined;
  const id = Number(text);
  if (id > ID_MAX) throw invalidArgument(`uids and gids must be in range 0-${ID_MAX}`);
  return id;
}

function groupId(group: string, groups: string[][]): number {
  const byName = groups.find(([name]) => name === group);
  const id = byName === undefined ? numeric(group) : Number(byName[2]);
  if (id === undefined) throw invalidArgument(`unable to find group ${group}: no matching entries in group file`);
  return id;
}

/**
 * Finds a user as `name`, `uid`, `name:group`, `uid:gid` in the root file system's /etc/passwd and /etc/group. A number
 * needs no entry. Named in no explicit group, the user also gets the groups that list it.
 * @param extraGroups names or numbers added on top (`--group-add`).
 * @throws ShoalError InvalidArgument in Docker's words when a name is not there.
 */
export function resolveUser(root: string, spec: string, extraGroups: readonly string[] = []): ResolvedUser {
  const passwd = lines(readInRoot(root, '/etc/passwd'));
  const groups = lines(readInRoot(root, '/etc/group'));
  const [userPart = '', groupPart = ''] = spec.split(':');
  const wanted = userPart === '' ? '0' : userPart;
  const uidWanted = numeric(wanted);
  const entry =
    passwd.find(([name]) => name === wanted) ?? passwd.find(([, , uid]) => uidWanted !== undefined && uid === wanted);
  const uid = entry === undefined ? uidWanted : Number(entry[2]);
  if (uid === undefined) throw invalidArgument(`unable to find user ${wanted}: no matching entries in passwd file`);
  const gid = groupPart !== '' ? groupId(groupPart, groups) : Number(entry?.[3] ?? 0);
  const additional = new Set<number>();
  if (groupPart === '' && entry !== undefined) {
    for (const [, , id, members = ''] of groups) {
      if (members.split(',').includes(entry[0] as string)) additional.add(Number(id));
    }
  }
  for (const group of extraGroups) additional.add(groupId(group, groups));
  additional.delete(gid);
  return { uid, gid, additionalGids: [...additional], home: entry?.[5] || '/' };
}
