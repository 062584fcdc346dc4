import { must, ShoalError, systemClock } from '../../base/index.ts';
import { median } from '../measure.ts';
import { onHost, PORT, PUBLISHED_PORT, type Place, type Stage } from './stage.ts';

const CONNECT_TRIES = 20;
const CONNECT_PAUSE_MS = 50;

/** What is measured: from a place to an address that leads to a server. */
interface Way {
  name: WayName;
  what: string;
  from: Pick<Place, 'host' | 'enter'>;
  server: Place;
  address: string;
  port: number;
}

export const WAYS = ['hand', 'overlay', 'vip', 'direct', 'ingress', 'ingressOwn'] as const;
export type WayName = (typeof WAYS)[number];

export interface ThroughputResult {
  seconds: number;
  what: Record<string, string>;
  /** Mbit/s of each run. */
  runs: Record<string, number[]>;
  mediansMbps: Record<string, number>;
  /** Medians of the ratios within a run; a target is the least (of the first) or what it may cost (of the others). */
  ratios: { name: string; value: number; target: number; met: boolean }[];
}

function ways(stage: Stage): Way[] {
  const { server, client, other, hand, addresses, virtualAddress } = stage;
  const entry = (name: string): string => must(addresses.get(name), name);
  const fromHost = { host: 'm1', enter: [] };
  const published = { from: fromHost, server, port: PUBLISHED_PORT };
  return [
    {
      name: 'hand',
      what: 'bridge and VXLAN by hand, w1 to w2',
      from: hand.client,
      server: hand.server,
      address: hand.server.address,
      port: PORT,
    },
    {
      name: 'overlay',
      what: 'container on w1 to one on w2, by its address',
      from: client,
      server,
      address: server.address,
      port: PORT,
    },
    { name: 'vip', what: 'the same by the virtual address', from: client, server, address: virtualAddress, port: PORT },
    {
      name: 'direct',
      what: 'container on m1 to the one on w2, by its address',
      from: other,
      server,
      address: server.address,
      port: PORT,
    },
    {
      name: 'ingress',
      what: 'host m1 to the published port on w1, which has no task',
      address: entry('w1'),
      ...published,
    },
    {
      name: 'ingressOwn',
      what: 'host m1 to the published port on w2, the host of the task',
      address: entry('w2'),
      ...published,
    },
  ];
}

interface IperfReport {
  error?: string;
  end?: { sum_received?: { bits_per_second: number } };
}

/** One TCP stream; what its receiver got, Mbit/s. */
async function once(stage: Stage, way: Way, seconds: number): Promise<number> {
  const { lab } = stage;
  await onHost(lab, way.server.host, [...way.server.enter, 'iperf3', '-s', '-1', '-D', '-p', String(PORT)]);
  const target = ['-c', way.address, '-p', String(way.port), '-t', String(seconds), '-O', '0', '-J'];
  for (let attempt = 0; ; attempt++) {
    const command = [...way.from.enter, 'iperf3', ...target];
    const timeoutMs = (seconds + 20) * 1000;
    const result = await lab.capture(way.from.host, command, { timeoutMs });
    const report = JSON.parse(result.stdout.toString('utf8') || '{}') as IperfReport;
    const bits = report.end?.sum_received?.bits_per_second;
    if (bits !== undefined && report.error === undefined) return bits / 1e6;
    // The server may not listen yet.
    if (attempt >= CONNECT_TRIES)
      throw new ShoalError('Internal', `${way.name}: iperf3: ${report.error ?? 'no report'}`);
    await systemClock.sleep(CONNECT_PAUSE_MS);
  }
}

/** Measures all ways in turns, each run in another order. */
export async function throughput(
  stage: Stage,
  options: { runs: number; seconds: number; signal: AbortSignal },
): Promise<ThroughputResult> {
  const all = ways(stage);
  const runs = Object.fromEntries(all.map((way) => [way.name, [] as number[]])) as Record<WayName, number[]>;
  // The first connections find caches cold.
  for (const way of all) await once(stage, way, 1);
  for (let run = 0; run < options.runs; run++) {
    for (let i = 0; i < all.length; i++) {
      options.signal.throwIfAborted();
      const way = must(all[(i + run) % all.length], 'way');
      runs[way.name].push(await once(stage, way, options.seconds));
    }
  }
  const ratio = (name: string, part: WayName, whole: WayName, target: number): ThroughputResult['ratios'][number] => {
    const value = median(runs[part].map((mbps, i) => mbps / (runs[whole][i] ?? NaN)));
    return { name, value, target, met: value >= target };
  };
  return {
    seconds: options.seconds,
    what: Object.fromEntries(all.map((way) => [way.name, way.what])),
    runs,
    mediansMbps: Object.fromEntries(WAYS.map((name) => [name, median(runs[name])])),
    ratios: [
      ratio('overlay / by hand', 'overlay', 'hand', 0.98),
      ratio('virtual address / address', 'vip', 'overlay', 0.95),
      ratio('ingress by another host / direct to the task', 'ingress', 'direct', 0.85),
    ],
  };
}
