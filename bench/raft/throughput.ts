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
const FIRST_MS = 2_000;
const FIRST_CLIENTS = 64;

/** One load of both sides: medians over the runs. */
export interface Cell {
  operation: Operation;
  clients: number;
  shoal: SideFigures;
  etcd: SideFigures | null;
  /** Ours over etcd's: requests per second, and p99. */
  rateRatio: number | null;
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

interface SideUnderLoad {
  name: 'shoal' | 'etcd';
  target: Target;
  term: number;
  results: Map<string, LoadResult[]>;
}

interface Cluster {
  members: readonly { clientHost: string; clientPort: number; pid: number }[];
  settled(): Promise<{ leader: { clientHost: string; clientPort: number }; term: number }>;
}

async function prepare(name: 'shoal' | 'etcd', cluster: Cluster): Promise<SideUnderLoad> {
  const { leader, term } = await cluster.settled();
  const pids = cluster.members.map((member) => member.pid);
  const target = { host: leader.clientHost, port: leader.clientPort, pids };
  await fill(target);
  for (const operation of OPERATIONS) await load(target, operation, FIRST_CLIENTS, 0, FIRST_MS);
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
  const passed = async (cluster: Cluster, side: SideUnderLoad): Promise<number> =>
    (await cluster.settled()).term - side.term;
  const [ours, theirs] = sides;
  return {
    cells,
    elections: {
      shoal: await passed(group, must(ours, 'our side')),
      etcd: etcd === null || theirs === undefined ? null : await passed(etcd, theirs),
    },
  };
}

function cell(sides: readonly SideUnderLoad[], operation: Operation, clients: number): Cell {
  const of = (name: string): SideFigures | null => {
    const found = sides.find((side) => side.name === name)?.results.get(`${operation} ${clients}`);
    return found === undefined ? null : figures(found);
  };
  const shoal = must(of('shoal'), 'our figures');
  const etcd = of('etcd');
  return {
    operation,
    clients,
    shoal,
    etcd,
    rateRatio: etcd === null ? null : shoal.perSecond / etcd.perSecond,
    p99Ratio: etcd === null ? null : shoal.p99Ms / etcd.p99Ms,
  };
}
