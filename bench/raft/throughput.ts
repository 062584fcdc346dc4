import { must } from '../../base/index.ts';
import { median } from '../measure.ts';
import type { EtcdCluster } from './etcd.ts';
import type { Group } from './group.ts';
import { fill, load, type LoadResult, type Operation, type Target } from './load.ts';

export const CLIENTS = [1, 16, 256, 1000] as const;
const OPERATIONS = ['write', 'read', 'null'] as const;
/** Every load runs unmeasured for this long first, ms. */
const WARM_MS = 500;
/** And once for this long before the first run, so that neither side's first run pays for the start, ms. */
const FIRST_MS = 1_500;
const FIRST_CLIENTS = [256, 1];

/** One load of both sides: medians over the runs. */
export interface Cell {
  operation: Operation;
  clients: number;
  shoal: SideFigures;
  etcd: SideFigures | null;
  /** Ours, but with clients served through grpc-js. */
  library: SideFigures;
  /** Ours over etcd's: requests per second, and p99. */
  rateRatio: number | null;
  libraryRateRatio: number | null;
  p99Ratio: number | null;
}

export interface SideFigures {
  perSecond: number;
  p50Ms: number;
  p99Ms: number;
  generatorCpuUs: number;
  membersCpuUs: number;
  runs: LoadResult[];
}

export interface ThroughputResult {
  cells: Cell[];
  /** Terms that passed during all loads: elections. */
  elections: { shoal: number; etcd: number | null };
}

type SideName = 'shoal' | 'etcd' | 'library';

interface SideUnderLoad {
  name: SideName;
  target: Target;
  term: number;
  results: Map<string, LoadResult[]>;
}

interface Cluster {
  members: readonly { clientHost: string; clientPort: number; pid: number }[];
  settled(): Promise<{
    leader: { clientHost: string; clientPort: number; libraryPort?: number };
    term: number;
  }>;
}

async function prepare(name: SideName, cluster: Cluster): Promise<SideUnderLoad> {
  const { leader, term } = await cluster.settled();
  const pids = cluster.members.map((member) => member.pid);
  const port = name === 'library' ? must(leader.libraryPort, 'port of the library') : leader.clientPort;
  const target = { host: leader.clientHost, port, pids };
  await fill(target);
  for (const operation of OPERATIONS) {
    for (const clients of FIRST_CLIENTS) await load(target, operation, clients, 0, FIRST_MS);
  }
  return { name, target, term, results: new Map() };
}

function figures(runs: LoadResult[]): SideFigures {
  const of = (field: keyof LoadResult): number => median(runs.map((run) => run[field]));
  return {
    perSecond: of('perSecond'),
    p50Ms: of('p50Ms'),
    p99Ms: of('p99Ms'),
    generatorCpuUs: of('generatorCpuUs'),
    membersCpuUs: of('membersCpuUs'),
    runs,
  };
}

/** Loads both clusters in turns; the idle one stands beside. The leader must stay the same all the time. */
export async function throughput(
  group: Group,
  etcd: EtcdCluster | null,
  runs: number,
  measureMs: number,
  signal: AbortSignal,
): Promise<ThroughputResult> {
  const sides = [await prepare('shoal', group)];
  if (etcd !== null) sides.push(await prepare('etcd', etcd));
  sides.push(await prepare('library', group));
  for (let run = 0; run < runs; run++) {
    for (const operation of OPERATIONS) {
      for (const clients of CLIENTS) {
        // Who is first changes from run to run.
        const order = run % 2 === 0 ? sides : sides.toReversed();
        for (const side of order) {
          const result = await load(side.target, operation, clients, WARM_MS, measureMs, signal);
          const key = `${operation} ${clients}`;
          side.results.set(key, [...(side.results.get(key) ?? []), result]);
          const rate = `${result.perSecond.toFixed(0)}/s, p50 ${result.p50Ms.toFixed(2)} ms`;
          console.log(`run ${run + 1} ${side.name} ${key}: ${rate}, p99 ${result.p99Ms.toFixed(2)} ms`);
        }
      }
    }
  }
  const cells = OPERATIONS.flatMap((operation) => CLIENTS.map((clients) => cell(sides, operation, clients)));
  const side = (name: SideName): SideUnderLoad =>
    must(
      sides.find((one) => one.name === name),
      name,
    );
  const passed = async (cluster: Cluster, one: SideUnderLoad): Promise<number> =>
    (await cluster.settled()).term - one.term;
  return {
    cells,
    elections: {
      shoal: await passed(group, side('shoal')),
      etcd: etcd === null ? null : await passed(etcd, side('etcd')),
    },
  };
}

function cell(sides: readonly SideUnderLoad[], operation: Operation, clients: number): Cell {
  const of = (name: string): SideFigures | null => {
    const found = sides.find((side) => side.name === name)?.results.get(`${operation} ${clients}`);
    return found === undefined ? null : figures(found);
  };
  const shoal = must(of('shoal'), 'our figures');
  const library = must(of('library'), 'our figures');
  const etcd = of('etcd');
  return {
    operation,
    clients,
    shoal,
    etcd,
    library,
    libraryRateRatio: etcd === null ? null : library.perSecond / etcd.perSecond,
    rateRatio: etcd === null ? null : shoal.perSecond / etcd.perSecond,
    p99Ratio: etcd === null ? null : shoal.p99Ms / etcd.p99Ms,
  };
}
