/** The measured program of `attach` and `table`: one HostNetwork in this namespace. Prints one line of JSON. */
import { must, systemClock } from '../../base/index.ts';
import type { HostNetwork } from '../../overlay-net/index.ts';
import { applyTableDelta, NetworkTable } from '../../proto/index.ts';
import { container, memory, SETTLE_MS, timed, withHost } from './measured-host.ts';
import { deltaOf, tableOf } from './one-host-table.ts';

const SERVICES = 100;
/** Containers of this host: what is measured with an update of all of them. */
const OWN_CONTAINERS = 10;
/** Numbers and addresses of those that come and go. */
const ATTACHED_FROM = 100;
const ADDRESSES = 100;

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

async function attach(network: HostNetwork, runs: number): Promise<number[]> {
  const times: number[] = [];
  for (let i = 0; i < runs; i++) {
    let id = '';
    times.push(
      await timed(async () => {
        ({ id } = await container(network, ATTACHED_FROM + i, OWN_CONTAINERS + (i % ADDRESSES)));
      }),
    );
    await network.removeSandbox(id);
    await systemClock.sleep(100);
  }
  return times;
}

async function main(endpoints: number, runs: number): Promise<OneHostResult> {
  const table = (version: number, count: number): NetworkTable =>
    tableOf(version, { endpoints: count, services: SERVICES, own: OWN_CONTAINERS });
  return withHost(table(1, 0), async (network) => {
    for (let i = 0; i < OWN_CONTAINERS; i++) await container(network, i);
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
  });
}

const [endpoints = '5000', runs = '20'] = process.argv.slice(2);
const result = await main(Number(endpoints), Number(runs));
process.stdout.write(`${JSON.stringify(result)}\n`, () => process.exit(0));
