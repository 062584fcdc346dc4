import { chmodSync, mkdirSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeEach, expect, it } from 'vitest';
import { directSpawner, mount, unmount } from '../../base/index.ts';
import { checkRemap } from './host-check.ts';
import { UserNamespaces } from './namespaces.ts';

const mapping = {
  uids: [{ inside: 0, outside: 310_000, count: 65_536 }],
  gids: [{ inside: 0, outside: 310_000, count: 65_536 }],
};
const users = new UserNamespaces(directSpawner);
const base = mkdtempSync(join(tmpdir(), 'shoal-remap-'));
const dataRoot = join(base, 'data');
const overlay = { storageDriver: 'overlay2' } as const;

beforeEach(() => {
  chmodSync(base, 0o711);
  mkdirSync(join(dataRoot, 'overlay2'), { recursive: true, mode: 0o700 });
});
afterAll(() => {
  users.closeAll();
  rmSync(base, { recursive: true, force: true });
});

it('opens the way to the roots of containers, and no more', async () => {
  await checkRemap(dataRoot, mapping, overlay, users);
  const modes = [dataRoot, join(dataRoot, 'overlay2')].map((path) => (statSync(path).mode & 0o777).toString(8));
  expect(modes).toEqual(['711', '711']);
});

it('refuses a way that belongs to others, and layers that are copied', async () => {
  chmodSync(base, 0o700);
  await expect(checkRemap(dataRoot, mapping, overlay, users)).rejects.toThrow(
    `user 310000 cannot reach the data root through ${base}: chmod o+x ${base}`,
  );
  const copies = checkRemap(dataRoot, mapping, { storageDriver: 'vfs' }, users);
  await expect(copies).rejects.toThrow('it needs the storage driver overlay2, and this daemon uses vfs');
});

it('refuses a file system whose files cannot be shown with other owners', async () => {
  const at = (name: string): string => join(base, name);
  for (const name of ['lower', 'upper', 'work', 'merged']) mkdirSync(at(name));
  const [merged, layers] = [at('merged'), `lowerdir=${at('lower')},upperdir=${at('upper')},workdir=${at('work')}`];
  mount('overlay', merged, 'overlay', 0, layers);
  try {
    const refused = checkRemap(join(merged, 'data'), mapping, overlay, users);
    await expect(refused).rejects.toThrow(/that needs Linux 5\.19 and a file system with idmapped mounts .*EINVAL/);
  } finally {
    unmount(merged);
  }
});

it('says why there can be no user namespace', async () => {
  const broken = new UserNamespaces({
    ...directSpawner,
    run: (request) => directSpawner.run({ ...request, file: 'false', args: [] }),
  });
  await expect(broken.shared(mapping)).rejects.toThrow('look at the sysctl user.max_user_namespaces');
  const wrong = { ...mapping, uids: [...mapping.uids, ...mapping.uids] };
  await expect(users.shared(wrong)).rejects.toThrow(/cannot be given its ids: .*EINVAL/);
});
