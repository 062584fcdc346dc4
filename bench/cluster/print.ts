import { machineFacts } from '../machine.ts';
import type { ClusterResult, LoadResult, LoadUse } from './result.ts';
import { resultsFile, storedResult, storeResult } from '../results.ts';

interface Stored {
  benchmark: 'cluster';
  machine: { cpu: string; cpus: number; memoryBytes: number; kernel: string };
  what: string;
  /** One per number of agents (and of settings beyond the default); the latest of each is kept. */
  results: (ClusterResult & { date: string })[];
}

function stored(): Stored['results'] {
  return (storedResult('cluster') as Stored | undefined)?.results ?? [];
}

const keyOf = (result: ClusterResult): string => `${result.agents}/${result.spread}/${result.startMs}/${result.atOnce}`;

/** Keeps the figures; those of other numbers of agents stay. */
export function storeCluster(result: ClusterResult): void {
  const others = stored().filter((one) => keyOf(one) !== keyOf(result));
  const all: Stored = {
    benchmark: 'cluster',
    machine: machineFacts(),
    what:
      'three shoal daemons in namespaces of this machine as managers (raft on disk, mutual TLS), agents simulated in ' +
      'two further processes on the same machine; from the first POST /services/create until the leader has ' +
      'acknowledged (committed) the last RUNNING; GET requests at 10/s each against the leader meanwhile',
    results: [...others, { date: new Date().toISOString(), ...result }].sort((a, b) => a.agents - b.agents),
  };
  storeResult('cluster', all);
}

function useLine({ process, cpuSeconds, cpuShare, rssBytes, peakRssBytes }: LoadUse): string {
  const mb = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(0)} MB`;
  const cpu = `${cpuSeconds.toFixed(1)} s CPU (${(cpuShare * 100).toFixed(0)} %)`;
  return `  ${process.padEnd(14)} ${cpu.padEnd(22)} ${mb(rssBytes)}, peak ${mb(peakRssBytes)}`;
}

function printLoad(one: LoadResult, agents: number): void {
  console.log(`\n${one.what} replicas on ${agents} agents: ${one.tasks} Running in ${one.seconds.toFixed(1)} s`);
  console.log(`  ${one.tasksPerSecond.toFixed(0)} tasks/s; the requests alone took ${one.createSeconds.toFixed(1)} s`);
  for (const { what, requests, failed, medianMs, p99Ms, maxMs } of one.api) {
    const times = [medianMs, p99Ms, maxMs].map((ms) => ms.toFixed(0)).join(' / ');
    console.log(`  ${what.padEnd(20)} median / p99 / max ${times} ms (${requests} requests, ${failed} failed)`);
  }
  const { heartbeats, heartbeatMaxMs, heartbeatsSlow, sessionsLost, reports, messages } = one;
  console.log(`  heartbeats ${heartbeats}, slowest ${heartbeatMaxMs.toFixed(0)} ms, ${heartbeatsSlow} above 1 s`);
  console.log(`  sessions lost ${sessionsLost}; ${messages} messages of assignments, ${reports} reports`);
  for (const use of one.uses) console.log(useLine(use));
}

export function printCluster(result: ClusterResult): void {
  const { agents, joinSeconds, joining, connectSeconds, connecting, idle, loads, nodesNotReady } = result;
  console.log(`\n${agents} nodes joined through NodeCA in ${joinSeconds.toFixed(1)} s:`);
  for (const use of joining) console.log(useLine(use));
  console.log(`${result.atOnce} of each process at a time, agents connected in ${connectSeconds.toFixed(1)} s:`);
  for (const use of connecting) console.log(useLine(use));
  console.log(`Event loops held up, by manager: ${result.heldUp.join(', ')}`);
  console.log(`Nodes not ready at the end: ${nodesNotReady}. Idle, heartbeats only:`);
  for (const use of idle) console.log(useLine(use));
  for (const load of loads) printLoad(load, agents);
  console.log(`\nStored in ${resultsFile('cluster')}`);
}
