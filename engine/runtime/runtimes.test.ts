import { existsSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { directSpawner, must, systemClock, systemRandom } from '../../base/index.ts';
import { Cgroups, readCgroupLayout } from './cgroups.ts';
import { findProgram } from './probe.ts';
import { Runtimes } from './runtimes.ts';

test('a runtime is tried when it is first named; one that is missing or makes no container is told of', async () => {
  const layout = readCgroupLayout();
  const parent = `shoal-test-runtimes-${process.pid}`;
  const options = {
    ...{ spawner: directSpawner, random: systemRandom, cgroups: new Cgroups(layout, systemClock) },
    groups: { driver: 'cgroupfs', parent: `/${parent}` } as const,
  };
  const path = must(await findProgram('runc'), 'runc');
  const usual = { path: '/usual', recursiveReadOnly: false };
  const runtimes = new Runtimes('mine', usual, options, {
    special: path,
    broken: '/bin/false',
    lost: 'no-such-program',
  });
  try {
    for (const name of [undefined, '', 'mine']) expect(await runtimes.get(name)).toBe(usual);
    const special = await runtimes.get('special');
    expect(special.path).toBe(path);
    // The second time it is known.
    expect(await runtimes.get('special')).toBe(special);
    // As dockerd's shims are called.
    expect((await runtimes.get('io.containerd.runc.v2')).path).toBe(path);
    const words = 'unknown or invalid runtime name';
    await expect(runtimes.get('broken')).rejects.toThrow(`${words}: broken: it does not work here: it ended with 1`);
    await expect(runtimes.get('lost')).rejects.toThrow(`${words}: lost: it is not installed`);
    await expect(runtimes.get('nosuch')).rejects.toThrow('known here are runc, crun, youki, special, broken, lost');
  } finally {
    for (const tree of new Set([...layout.controllers.values(), layout.unified ?? ''])) {
      if (tree !== '' && existsSync(join(tree, parent))) rmdirSync(join(tree, parent));
    }
  }
});
