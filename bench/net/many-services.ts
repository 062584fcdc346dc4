/**
 * The measured program of `services`: one HostNetwork in this namespace takes the table of a network with very many
 * services. Prints one line of JSON. Arguments: services, tasks of each.
 */
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { directSpawner, must, systemClock } from '../../base/index.ts';
import { applyTableDelta, NetworkTable } from '../../proto/index.ts';
import { container, memory, withHost } from './measured-host.ts';
import { deltaOf, tableOf, virtualAddress } from './one-host-table.ts';

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

/** Waits until a container's rules know a virtual address. */
async function balanced(namespace: string, vip: string): Promise<void> {
  const args = [`--net=${namespace}`, 'nft', 'get', 'element', 'ip', 'shoal', 'vips', `{ ${vip} }`];
  for (;;) {
    if ((await directSpawner.run({ file: 'nsenter', args })).code === 0) return;
    await systemClock.sleep(POLL_MS);
  }
}

async function main(services: number, tasks: number): Promise<ManyServicesResult> {
  const endpoints = services * tasks;
  const table = (version: number, count: number, of: number): NetworkTable =>
    tableOf(version, { endpoints: count, services: of, own: OWN_CONTAINERS });
  delay.enable();
  return withHost(table(1, 0, 1), async (network) => {
    const own: string[] = [];
    for (let i = 0; i < OWN_CONTAINERS; i++) own.push((await container(network, i)).path);
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
  });
}

const [services = '10000', tasks = '10'] = process.argv.slice(2);
const result = await main(Number(services), Number(tasks));
process.stdout.write(`${JSON.stringify(result)}\n`, () => process.exit(0));
