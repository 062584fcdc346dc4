import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { createNetworkNamespace, directSpawner, silentLogger, unmount } from '../../base/index.ts';
import { createKernel } from './index.ts';
import { LowDescriptors } from './low-descriptors.ts';
import { loadNftables, NftQueue } from './nftables.ts';

const dir = mkdtempSync(join(tmpdir(), 'shoal-low-'));
const namespace = join(dir, 'ns');
afterAll(() => {
  unmount(namespace);
  rmSync(dir, { recursive: true, force: true });
});

/** As a daemon has with some hundred containers or clients. */
const MANY = 1200;

describe('nftables with more than a thousand open descriptors', () => {
  it('goes on: select(2) in the library would end the process with a larger number', async () => {
    writeFileSync(namespace, '');
    createNetworkNamespace(namespace);
    const queue = new NftQueue(loadNftables());
    const open = Array.from({ length: MANY }, () => openSync('/dev/null', 'r'));
    try {
      for (let i = 0; i < 20; i++) await queue.run(namespace, `add table inet many${i}`, false);
      const listed = await queue.run(namespace, 'list tables', true);
      expect(listed.trim().split('\n')).toHaveLength(20);
    } finally {
      for (const fd of open) closeSync(fd);
    }
  });

  it('goes on by the program where all small numbers are in use for long', async () => {
    const kernel = createKernel(directSpawner, silentLogger);
    await kernel.nft(namespace, 'add table inet before');
    const open = Array.from({ length: MANY }, () => openSync('/dev/null', 'r'));
    try {
      // Every number that is given back is taken by another at once.
      for (let i = 0; i < 200; i++) {
        await kernel.nft(namespace, `add table inet late${i}`);
        open.push(openSync('/dev/null', 'r'));
      }
      const listed = await kernel.nft(namespace, 'list tables', true);
      expect(listed).toContain('table inet late199');
    } finally {
      for (const fd of open) closeSync(fd);
    }
  });

  it('tells when none is left, and works again when one is', () => {
    const open = Array.from({ length: MANY }, () => openSync('/dev/null', 'r'));
    const descriptors = new LowDescriptors();
    let discarded = 0;
    const take = (): string =>
      descriptors.take(
        () => 'opened',
        () => {
          discarded += 1;
        },
      );
    try {
      expect(take).toThrow('nftables needs a descriptor below 1024');
      expect(discarded).toBe(0);
    } finally {
      for (const fd of open) closeSync(fd);
    }
    // Nothing is opened here, as if another thread had taken each number.
    expect(take).toThrow('nftables needs a descriptor below 1024');
    expect(discarded).toBe(64);
  });
});
