/**
 * The measured program of `services`: one HostNetwork in this namespace takes the table of a network with very many
 * services. Prints one line of JSON. Arguments: services, tasks of each.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { directSpawner, must, silentLogger, systemClock, systemRandom } from '../../base/index.ts';
import { HostNetwork } from '../../overlay-net/index.ts';
import { applyTableDelta, NetworkTable } from '../../proto/index.ts';
import { deltaOf, macOf, NETWORK, ownAddress, tableOf, virtualAddress } from './one-host-table.ts';

const SETTLE_MS = 500;
const TICK_MS = 10;
const POLL_MS = 50;
/** Containers of this host, each with a balancing of its own. */
const OWN_CONTAINERS = 2;

/** One step: how long it took, and the longest time that the event loop was held up by it and what followed, ms. */
export interface Step {
  ms: number;
  longestTurnMs: number;
}

export interface ManyServicesResult {
  services: number;
  endpoints: number;
  containers: number;
  /** Size of the encoded table, bytes. */
  tableBytes: number;
  /** Decoding, which no part of this program can divide. */
  decodeMs: number;
  /** The table with everything after an empty one. */
  first: Step;
  /** One task more, told as a change; and another, told as a whole table. */
  change: Step;
  changeWhole: Step;
  /** A container that comes then. */
  attach: Step;
  /** From the first table until the rules of all containers knew its last service, ms: set on a thread of its own. */
  balancedMs: number;
  /** What the table adds to the process, bytes: resident memory, and objects after a collection. */
  rssBytes: number;
  heapBytes: number;
}

const delay = monitorEventLoopDelay({ resolution: 1 });

async function step(run: () => Promise<unknown>, after: () => Promise<unknown>): Promise<Step> {
  await systemClock.sleep(SETTLE_MS);
  delay.reset();
  // A turn counts from the monitor's last tick: there must be one.
  await systemClock.sleep(TICK_MS);
  const began = systemClock.monotonic();
  await run();
  const ms = systemClock.monotonic() - began;
  await after();
  // The monitor sees a turn when it is over.
  await systemClock.sleep(TICK_MS);
  return { ms, longestTurnMs: Math.max(0, delay.max / 1e6 - 1) };
}

async function memory(): Promise<{ rss: number; heap: number }> {
  for (let i = 0; i < 3; i++) {
    global.gc?.();
    await systemClock.sleep(SETTLE_MS);
  }
  const { rss, heapUsed, external } = process.memoryUsage();
  return { rss, heap: heapUsed + external };
}

/** Waits until a container's rules know a virtual address. */
async function balanced(namespace: string, vip: string): Promise<void> {
  const args = [`--net=${namespace}`, 'nft', 'get', 'element', 'ip', 'shoal', 'vips', `{ ${vip} }`];
  for (;;) {
    if ((await directSpawner.run({ file: 'nsenter', args })).code === 0) return;
    await systemClock.sleep(POLL_MS);
  }
}

/** @returns the path of its namespace */
async function container(network: HostNetwork, number: number): Promise<string> {
  const ip = ownAddress(number);
  const endpoints = [{ networkId: NETWORK, address: `${ip}/8`, mac: macOf(ip), aliases: [] }];
  const id = `${number}`.padStart(12, 'a').padEnd(64, '0');
  return (await network.createSandbox({ id, names: [`own${number}`], endpoints, ports: [], dns: [] })).namespacePath;
}

async function main(services: number, tasks: number): Promise<ManyServicesResult> {
  const endpoints = services * tasks;
  const table = (version: number, count: number, of: number): NetworkTable =>
    tableOf(version, { endpoints: count, services: of, own: OWN_CONTAINERS });
  const root = mkdtempSync(join(tmpdir(), 'shoal-bench-net-'));
  const common = { spawner: directSpawner, clock: systemClock, random: systemRandom, log: silentLogger };
  const network = new HostNetwork({ ...common, execRoot: root, tag: 'bench' });
  delay.enable();
  try {
    await network.start();
    await network.setUnderlay({ vtep: '192.0.2.1', dataPathPort: 4789, nodeId: 'node0' });
    await network.setTable(table(1, 0, 1));
    const own: string[] = [];
    for (let i = 0; i < OWN_CONTAINERS; i++) own.push(await container(network, i));
    // As the agent has them: decoded from the wire.
    const bytes = NetworkTable.encode(table(2, endpoints, services));
    const shape = { services, own: OWN_CONTAINERS };
    const delta = NetworkTable.encode(deltaOf(table(2, 0, 1), { ...shape, endpoints: endpoints + 1 }));
    const more = NetworkTable.encode(table(4, endpoints + 2, services));
    const before = await memory();
    const began = systemClock.monotonic();
    const decoded = NetworkTable.decode(bytes);
    const decodeMs = systemClock.monotonic() - began;
    let balancedMs = 0;
    const first = await step(
      () => network.setTable(decoded),
      async () => {
        const setMs = systemClock.monotonic();
        const last = virtualAddress(services - 1);
        await Promise.all(own.map((path) => balanced(path, last)));
        balancedMs = systemClock.monotonic() - setMs;
      },
    );
    balancedMs += first.ms;
    const after = await memory();
    // The rules follow a table within some tenths of a second.
    const settle = (): Promise<void> => systemClock.sleep(SETTLE_MS);
    // As the agent does it (worker/network-tables.ts).
    const take = (): Promise<void> =>
      network.setTable(must(applyTableDelta(decoded, NetworkTable.decode(delta)), 'the table with one task more'));
    const change = await step(take, settle);
    const changed = NetworkTable.decode(more);
    const changeWhole = await step(() => network.setTable(changed), settle);
    const attach = await step(() => container(network, OWN_CONTAINERS), settle);
    const grown = { rssBytes: after.rss - before.rss, heapBytes: after.heap - before.heap };
    const facts = { services, endpoints, containers: OWN_CONTAINERS, tableBytes: bytes.length, decodeMs };
    return { ...facts, first, change, changeWhole, attach, balancedMs, ...grown };
  } finally {
    await network.destroy();
    rmSync(root, { recursive: true, force: true });
  }
}

const [services = '10000', tasks = '10'] = process.argv.slice(2);
const result = await main(Number(services), Number(tasks));
process.stdout.write(`${JSON.stringify(result)}\n`, () => process.exit(0));
