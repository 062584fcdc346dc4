import { must, ShoalError, systemClock } from '../../base/index.ts';
import { median } from '../measure.ts';
import type { HandStage } from './by-hand.ts';
import { onHost, type Place } from './place.ts';
import { PORT, PUBLISHED_PORT, type OverlayStage, type ShoalStage } from './stage.ts';

const CONNECT_TRIES = 20;
const CONNECT_PAUSE_MS = 50;

/** What is measured: from a place to an address that leads to a server. */
interface Way {
  name: WayName;
  what: string;
  from: Place;
  server: Place;
  address: string;
  port: number;
}

type WayName = 'hand' | 'handRelay' | 'overlay' | 'dockerOverlay' | 'vip' | 'direct' | 'ingress' | 'ingressOwn';

export interface Stages {
  shoal: ShoalStage;
  hand: HandStage;
  /** Absent where dockerd is not installed. */
  docker: OverlayStage | undefined;
}

/** The median of a quotient within a run. `target` is the least that is asked for; absent: none is. */
export interface Ratio {
  name: string;
  value: number;
  target?: number;
  met?: boolean;
}

export interface ThroughputResult {
  seconds: number;
  what: Record<string, string>;
  /** Mbit/s of each run. */
  runs: Record<string, number[]>;
  mediansMbps: Record<string, number>;
  ratios: Ratio[];
}

function ways({ shoal, hand, docker }: Stages): Way[] {
  const { server, client, other, outside, addresses, virtualAddress } = shoal;
  const way = (name: WayName, what: string, from: Place, to: Place, address = to.address, port = PORT): Way => {
    return { name, what, from, server: to, address, port };
  };
  const entry = (name: string): string => must(addresses.get(name), name);
  const relay = 'by hand: host m1 to the namespace on w2, w1 forwards';
  const published = 'host m1 to the published port on';
  return [
    way('hand', 'by hand: bridge and VXLAN, w1 to w2', hand.client, hand.server),
    way('handRelay', relay, hand.outside, hand.server),
    way('overlay', 'container on w1 to one on w2, by its address', client, server),
    ...(docker === undefined
      ? []
      : [way('dockerOverlay', 'Docker: container on w1 to one on w2, by its address', docker.client, docker.server)]),
    way('vip', 'the same by the virtual address', client, server, virtualAddress),
    way('direct', 'container on m1 to the one on w2, by its address', other, server),
    way('ingress', `${published} w1, which has no task`, outside, server, entry('w1'), PUBLISHED_PORT),
    way('ingressOwn', `${published} w2, the host of the task`, outside, server, entry('w2'), PUBLISHED_PORT),
  ];
}

interface IperfReport {
  error?: string;
  end?: { sum_received?: { bits_per_second: number } };
}

/** One TCP stream; what its receiver got, Mbit/s. */
async function once(way: Way, seconds: number): Promise<number> {
  const { from, server } = way;
  await onHost(server.lab, server.host, [...server.enter, 'iperf3', '-s', '-1', '-D', '-p', String(PORT)]);
  const target = ['-c', way.address, '-p', String(way.port), '-t', String(seconds), '-O', '0', '-J'];
  for (let attempt = 0; ; attempt++) {
    const command = [...from.enter, 'iperf3', ...target];
    const timeoutMs = (seconds + 20) * 1000;
    const result = await from.lab.capture(from.host, command, { timeoutMs });
    const report = JSON.parse(result.stdout.toString('utf8') || '{}') as IperfReport;
    const bits = report.end?.sum_received?.bits_per_second;
    if (bits !== undefined && report.error === undefined) return bits / 1e6;
    // The server may not listen yet.
    if (attempt >= CONNECT_TRIES)
      throw new ShoalError('Internal', `${way.name}: iperf3: ${report.error ?? 'no report'}`);
    await systemClock.sleep(CONNECT_PAUSE_MS);
  }
}

function ratiosOf(runs: Partial<Record<WayName, number[]>>): Ratio[] {
  const ratio = (name: string, part: WayName, whole: WayName, target?: number): Ratio[] => {
    const [parts, wholes] = [runs[part], runs[whole]];
    if (parts === undefined || wholes === undefined) return [];
    const value = median(parts.map((mbps, i) => mbps / (wholes[i] ?? NaN)));
    return [{ name, value, ...(target === undefined ? {} : { target, met: value >= target }) }];
  };
  return [
    ...ratio('overlay / by hand', 'overlay', 'hand', 0.98),
    ...ratio("overlay / Docker's overlay", 'overlay', 'dockerOverlay'),
    ...ratio('virtual address / address', 'vip', 'overlay', 0.95),
    // The first is the target's sentence as it stands; the second says what of that is ours and not the hop's.
    ...ratio('ingress by another host / direct to the task', 'ingress', 'direct', 0.85),
    ...ratio('ingress by another host / the same path by hand', 'ingress', 'handRelay', 0.85),
    ...ratio('the same path by hand / direct by hand', 'handRelay', 'hand'),
  ];
}

/** Measures all ways in turns, each run in another order. */
export async function throughput(
  stages: Stages,
  options: { runs: number; seconds: number; signal: AbortSignal },
): Promise<ThroughputResult> {
  const all = ways(stages);
  const runs: Partial<Record<WayName, number[]>> = {};
  // The first connections find caches cold.
  for (const way of all) await once(way, 1);
  for (let run = 0; run < options.runs; run++) {
    for (let i = 0; i < all.length; i++) {
      options.signal.throwIfAborted();
      const way = must(all[(i + run) % all.length], 'way');
      (runs[way.name] ??= []).push(await once(way, options.seconds));
    }
  }
  return {
    seconds: options.seconds,
    what: Object.fromEntries(all.map((way) => [way.name, way.what])),
    runs,
    mediansMbps: Object.fromEntries(all.map(({ name }) => [name, median(runs[name] ?? [])])),
    ratios: ratiosOf(runs),
  };
}
