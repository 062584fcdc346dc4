/** The measured program of `attach` and `table`: one HostNetwork in this namespace. Prints one line of JSON. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { directSpawner, must, silentLogger, systemClock, systemRandom } from '../../base/index.ts';
import { HostNetwork } from '../../overlay-net/index.ts';
import { applyTableDelta, NetworkTable } from '../../proto/index.ts';
import { deltaOf, macOf, NETWORK, ownAddress, tableOf } from './one-host-table.ts';

const SERVICES = 100;
const SETTLE_MS = 300;
/** Containers of this host: what is measured with an update of all of them. */
const OWN_CONTAINERS = 10;

export interface OneHostResult {
  /** createSandbox on the network, ms each: with only this host's tasks on it, and with all endpoints. */
  attachMs: number[];
  attachFullMs: number[];
  endpoints: number;
  /** The first table with all endpoints; one task more, told as a change; another, told as a whole table, ms. */
  setTableMs: number;
  changeTableMs: number;
  changeWholeMs: number;
  /** What the endpoints add to the process, bytes: resident memory, and objects after a collection. */
  rssBytes: number;
  heapBytes: number;
}

const idOf = (index: number): string => `${index}`.padStart(12, 'a').padEnd(64, '0');

async function timed(run: () => Promise<unknown>): Promise<number> {
  const began = systemClock.monotonic();
  await run();
  return systemClock.monotonic() - began;
}

async function attach(network: HostNetwork, runs: number): Promise<number[]> {
  const times: number[] = [];
  for (let i = 0; i < runs; i++) {
    const ip = ownAddress(OWN_CONTAINERS + (i % 100));
    const endpoints = [{ networkId: NETWORK, address: `${ip}/8`, mac: macOf(ip), aliases: [] }];
    const spec = { id: idOf(100 + i), names: [`run${i}`], endpoints, ports: [], dns: [] };
    times.push(await timed(() => network.createSandbox(spec)));
    await network.removeSandbox(spec.id);
    await systemClock.sleep(100);
  }
  return times;
}

async function memory(): Promise<{ rss: number; heap: number }> {
  for (let i = 0; i < 3; i++) {
    global.gc?.();
    await systemClock.sleep(SETTLE_MS);
  }
  const { rss, heapUsed, external } = process.memoryUsage();
  return { rss, heap: heapUsed + external };
}

async function main(endpoints: number, runs: number): Promise<OneHostResult> {
  const table = (version: number, count: number): NetworkTable =>
    tableOf(version, { endpoints: count, services: SERVICES, own: OWN_CONTAINERS });
  const root = mkdtempSync(join(tmpdir(), 'shoal-bench-net-'));
  const common = { spawner: directSpawner, clock: systemClock, random: systemRandom, log: silentLogger };
  const network = new HostNetwork({ ...common, execRoot: root, tag: 'bench' });
  try {
    await network.start();
    await network.setUnderlay({ vtep: '192.0.2.1', dataPathPort: 4789, nodeId: 'node0' });
    await network.setTable(table(1, 0));
    for (let i = 0; i < OWN_CONTAINERS; i++) {
      const ip = ownAddress(i);
      const wanted = [{ networkId: NETWORK, address: `${ip}/8`, mac: macOf(ip), aliases: [] }];
      await network.createSandbox({ id: idOf(i), names: [`own${i}`], endpoints: wanted, ports: [], dns: [] });
    }
    const attachMs = await attach(network, runs);
    const before = await memory();
    // As the agent has it: decoded from the wire.
    const bytes = NetworkTable.encode(table(2, endpoints));
    const decoded = NetworkTable.decode(bytes);
    const setTableMs = await timed(() => network.setTable(decoded));
    const after = await memory();
    const shape = { endpoints: endpoints + 1, services: SERVICES, own: OWN_CONTAINERS };
    const delta = NetworkTable.encode(deltaOf(table(2, 0), shape));
    const more = NetworkTable.encode(table(4, endpoints + 2));
    // As the agent does it (worker/network-tables.ts).
    const take = (): Promise<void> =>
      network.setTable(must(applyTableDelta(decoded, NetworkTable.decode(delta)), 'the table with one task more'));
    const changeTableMs = await timed(take);
    await systemClock.sleep(SETTLE_MS);
    const changed = NetworkTable.decode(more);
    const changeWholeMs = await timed(() => network.setTable(changed));
    await systemClock.sleep(SETTLE_MS);
    const attachFullMs = await attach(network, runs);
    const grown = { rssBytes: after.rss - before.rss, heapBytes: after.heap - before.heap };
    return { attachMs, attachFullMs, endpoints, setTableMs, changeTableMs, changeWholeMs, ...grown };
  } finally {
    await network.destroy();
    rmSync(root, { recursive: true, force: true });
  }
}

const [endpoints = '5000', runs = '20'] = process.argv.slice(2);
const result = await main(Number(endpoints), Number(runs));
process.stdout.write(`${JSON.stringify(result)}\n`, () => process.exit(0));
