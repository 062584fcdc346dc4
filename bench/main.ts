import { parseArgs } from 'node:util';
import { errorMessage, invalidArgument } from '../base/index.ts';
import { clusterBench } from './cluster/run.ts';
import { createLatency } from './create-latency.ts';
import { engineBench, PARTS as ENGINE_PARTS } from './engine/run.ts';
import { failover } from './failover.ts';
import { netBench, PARTS as NET_PARTS } from './net/run.ts';
import { PARTS, raftBench } from './raft/run.ts';
import { schedulerBench, SIZES, type Size } from './scheduler.ts';
import { startRate } from './start-rate.ts';

const HELP = `Usage:  npm run bench -- start-rate [--runs 3] [--replicas 100] [--shoal-only]
        npm run bench -- raft [--runs 3] [--seconds 3] [--kills 100] [--only PART]... [--shoal-only]
        npm run bench -- cluster [--agents 1000] [--tasks 100000] [--services 100] [--big 10000] [--start-ms 0]
                                 [--spread] [--at-once 8]
        npm run bench -- create-latency [--runs 30]
        npm run bench -- scheduler [--runs 5] [--size small|large]...
        npm run bench -- failover [--runs 3]
        npm run bench -- engine [--runs 15] [--many 1000] [--only PART]... [--shoal-only]
        npm run bench -- net [--runs 15] [--only PART]... [--shoal-only]

start-rate  Starts of services on real daemons in namespaces of this machine, beside Docker's own engine where dockerd
            is installed.
raft        Consensus of three processes: loads, elections, memory, beside etcd where it is installed.
            PART is ${PARTS.join(', ')}; without --only all are measured.
cluster     The whole control plane: three managers, simulated agents on real connections, services of many tasks; then
            one big service (--big, 0 for none). --start-ms: time a container takes to start; --spread: agents connect
            to all managers, not only to the leader; --at-once: agents of each of the two processes that join and
            connect at the same time.
create-latency  Time from the request for a service of one task until it runs, on a quiet cluster of five hosts.
scheduler   The scheduler alone, in memory: ${Object.values(SIZES)
  .map(({ nodes, tasks }) => `${nodes} nodes with ${tasks} tasks`)
  .join(', ')}; without --size both.
failover    A worker is cut off: time until its tasks run elsewhere, and until it has stopped its own when it is back; and a
            cut of 3 s, which must change nothing.
engine      One host without a swarm, beside Docker's engine in turns: docker run, many starts, memory, logs.
            PART is ${ENGINE_PARTS.join(', ')}.
net         Networks: throughput of overlays beside Docker's and a VXLAN made by hand (needs iperf3), attach of a container,
            large tables on one host, names under load, changes pushed to 100 agents. PART is ${NET_PARTS.join(', ')}.

All but scheduler need root. Results are stored in bench/results.
`;

const BENCHES: readonly string[] = [
  'start-rate',
  'raft',
  'cluster',
  'create-latency',
  'failover',
  'scheduler',
  'net',
  'engine',
];

function positive(text: string, flag: string, most = 5000, least = 1): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < least || value > most) {
    throw invalidArgument(`--${flag} must be a whole number from ${least} to ${most}`);
  }
  return value;
}

/** Those of `all` that a flag names; all without it. */
function chosen<T extends string>(flag: string, all: readonly T[], names: readonly string[] | undefined): readonly T[] {
  if (names === undefined) return all;
  const known = all.filter((one) => names.includes(one));
  if (known.length !== new Set(names).size) throw invalidArgument(`--${flag} must be one of ${all.join(', ')}`);
  return known;
}

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      runs: { type: 'string' },
      size: { type: 'string', multiple: true },
      replicas: { type: 'string', default: '100' },
      'shoal-only': { type: 'boolean', default: false },
      seconds: { type: 'string', default: '3' },
      kills: { type: 'string', default: '100' },
      only: { type: 'string', multiple: true },
      agents: { type: 'string', default: '1000' },
      tasks: { type: 'string', default: '100000' },
      services: { type: 'string', default: '100' },
      big: { type: 'string', default: '10000' },
      'start-ms': { type: 'string', default: '0' },
      many: { type: 'string', default: '1000' },
      spread: { type: 'boolean', default: false },
      'at-once': { type: 'string', default: '8' },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  if (values.help || positionals.length !== 1 || !BENCHES.includes(positionals[0] ?? '')) {
    process.stdout.write(HELP);
    process.exitCode = values.help ? 0 : 1;
    return;
  }
  const interrupted = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    // What was made is removed on the way out; a second signal does not cut that short.
    process.on(signal, () => interrupted.abort(new Error(`interrupted by ${signal}`)));
  }
  // `| head` is an end like any other.
  process.stdout.on('error', () => interrupted.abort(new Error('nobody reads the output')));
  if (positionals[0] === 'raft') {
    await raftBench({
      parts: chosen('only', PARTS, values.only),
      runs: positive(values.runs ?? '3', 'runs'),
      seconds: positive(values.seconds, 'seconds'),
      kills: positive(values.kills, 'kills'),
      shoalOnly: values['shoal-only'],
      signal: interrupted.signal,
    });
    return;
  }
  if (positionals[0] === 'create-latency') {
    await createLatency({ runs: positive(values.runs ?? '30', 'runs'), signal: interrupted.signal });
    return;
  }
  if (positionals[0] === 'failover') {
    await failover({ runs: positive(values.runs ?? '3', 'runs'), signal: interrupted.signal });
    return;
  }
  if (positionals[0] === 'net') {
    const runs = positive(values.runs ?? '15', 'runs');
    const shoalOnly = values['shoal-only'];
    await netBench({ runs, parts: chosen('only', NET_PARTS, values.only), shoalOnly, signal: interrupted.signal });
    return;
  }
  if (positionals[0] === 'engine') {
    await engineBench({
      runs: positive(values.runs ?? '15', 'runs'),
      many: positive(values.many, 'many'),
      parts: chosen('only', ENGINE_PARTS, values.only),
      shoalOnly: values['shoal-only'],
      signal: interrupted.signal,
    });
    return;
  }
  if (positionals[0] === 'cluster') {
    await clusterBench({
      agents: positive(values.agents, 'agents', 10_000),
      tasks: positive(values.tasks, 'tasks', 1_000_000),
      services: positive(values.services, 'services', 10_000),
      big: positive(values.big, 'big', 100_000, 0),
      startMs: positive(values['start-ms'], 'start-ms', 60_000, 0),
      spread: values.spread,
      atOnce: positive(values['at-once'], 'at-once'),
      signal: interrupted.signal,
    });
    return;
  }
  if (positionals[0] === 'scheduler') {
    const runs = positive(values.runs ?? '5', 'runs');
    await schedulerBench({
      runs,
      sizes: chosen('size', Object.keys(SIZES) as Size[], values.size),
      signal: interrupted.signal,
    });
    return;
  }
  await startRate({
    runs: positive(values.runs ?? '3', 'runs'),
    replicas: positive(values.replicas, 'replicas'),
    shoalOnly: values['shoal-only'],
    signal: interrupted.signal,
  });
}

try {
  await main();
} catch (error) {
  console.error(errorMessage(error));
  process.exitCode = 1;
}
