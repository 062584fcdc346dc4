/** A HostNetwork in a process of its own, so that it can live in another network namespace. Spoken to by IPC. */
import {
  directSpawner,
  errorMessage,
  must,
  silentLogger,
  systemClock,
  systemRandom,
  createLogger,
} from '../../base/index.ts';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { applyTableDelta, NetworkTable } from '../../proto/index.ts';
import { HostNetwork } from '../index.ts';
import { createExecKernel } from '../kernel/exec-kernel.ts';

interface Request {
  id: number;
  method: string;
  args: unknown[];
}

const [execRoot = '', tag = '', subnet = '', backend = ''] = process.argv.slice(2);
const repairs: string[] = [];
const network = new HostNetwork({
  execRoot,
  tag,
  spawner: directSpawner,
  clock: systemClock,
  random: systemRandom,
  log: process.env['SHOAL_TEST_LOG'] ? createLogger({ level: 'debug', fd: 2 }) : silentLogger,
  bridge: { subnet },
  upkeep: process.env['SHOAL_TEST_UPKEEP'] !== 'off',
  onRepair: ({ message }) => repairs.push(message),
  ...(backend === 'exec' ? { kernel: createExecKernel(directSpawner) } : {}),
});

const delay = monitorEventLoopDelay({ resolution: 1 });
delay.enable();

let usedCpu = process.cpuUsage();

/** How late timers of the main thread were since the last look, ms (the monitor's own tick of 1 ms taken off), and CPU used. */
function eventLoopDelay(): { p50Ms: number; p99Ms: number; maxMs: number; cpuMs: number } {
  const ms = (ns: number): number => Math.max(0, ns / 1e6 - 1);
  const { user, system } = process.cpuUsage(usedCpu);
  usedCpu = process.cpuUsage();
  const cpuMs = (user + system) / 1000;
  const seen = { p50Ms: ms(delay.percentile(50)), p99Ms: ms(delay.percentile(99)), maxMs: ms(delay.max), cpuMs };
  delay.reset();
  return seen;
}

/** Tables as they were set last, by network. */
const tables = new Map<string, NetworkTable>();

function setTable(table: NetworkTable): Promise<void> {
  tables.set(table.network_id, table);
  return network.setTable(table);
}

/** Takes an encoded change of a table, as agents do (worker/network-tables.ts). */
function changeTable(bytes: Uint8Array): Promise<void> {
  const delta = NetworkTable.decode(bytes);
  return setTable(must(applyTableDelta(tables.get(delta.network_id), delta), 'the table that is changed'));
}

process.on('message', (message: Request) => {
  // What was repaired since this was last asked.
  const own = { takeRepairs: () => repairs.splice(0), eventLoopDelay, setTable, changeTable };
  const methods = { ...own } as unknown as Record<string, (...args: unknown[]) => unknown>;
  const method =
    methods[message.method] ?? (network as unknown as Record<string, (...args: unknown[]) => unknown>)[message.method];
  void Promise.resolve()
    .then(() => method?.apply(network, message.args))
    .then(
      (result) => process.send?.({ id: message.id, result }),
      (error: unknown) => process.send?.({ id: message.id, error: errorMessage(error) }),
    );
});
// With the test goes its host.
process.on('disconnect', () => process.exit());
process.send?.({ id: 0, result: 'ready' });
