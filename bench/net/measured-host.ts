/** One HostNetwork in the namespace of this process, for the programs that measure one host. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { directSpawner, silentLogger, systemClock, systemRandom } from '../../base/index.ts';
import { HostNetwork } from '../../overlay-net/index.ts';
import { macOf } from '../../overlay-net/ip4.ts';
import type { NetworkTable } from '../../proto/index.ts';
import { NETWORK, ownAddress } from './one-host-table.ts';

/** Time for what a table leads to afterwards, ms. */
export const SETTLE_MS = 300;
const COLLECTIONS = 3;

/** Runs `measure` with a network that has the first table; everything is removed afterwards. */
export async function withHost<T>(first: NetworkTable, measure: (network: HostNetwork) => Promise<T>): Promise<T> {
  const root = mkdtempSync(join(tmpdir(), 'shoal-bench-net-'));
  const common = { spawner: directSpawner, clock: systemClock, random: systemRandom, log: silentLogger };
  const network = new HostNetwork({ ...common, execRoot: root, tag: 'bench' });
  try {
    await network.start();
    await network.setUnderlay({ vtep: '192.0.2.1', dataPathPort: 4789, nodeId: 'node0' });
    await network.setTable(first);
    return await measure(network);
  } finally {
    await network.destroy();
    rmSync(root, { recursive: true, force: true });
  }
}

/** Makes a container with address number `address` of this host. @returns its id and the path of its namespace */
export async function container(
  network: HostNetwork,
  number: number,
  address = number,
): Promise<{ id: string; path: string }> {
  const ip = ownAddress(address);
  const endpoints = [{ networkId: NETWORK, address: `${ip}/8`, mac: macOf(ip), aliases: [] }];
  const id = `${number}`.padStart(12, 'a').padEnd(64, '0');
  const made = await network.createSandbox({ id, names: [`own${number}`], endpoints, ports: [], dns: [] });
  return { id, path: made.namespacePath };
}

/** Memory of this process after a collection, bytes: resident, and of objects. */
export async function memory(): Promise<{ rss: number; heap: number }> {
  for (let i = 0; i < COLLECTIONS; i++) {
    global.gc?.();
    await systemClock.sleep(SETTLE_MS);
  }
  const { rss, heapUsed, external } = process.memoryUsage();
  return { rss, heap: heapUsed + external };
}

export async function timed(run: () => Promise<unknown>): Promise<number> {
  const began = systemClock.monotonic();
  await run();
  return systemClock.monotonic() - began;
}
