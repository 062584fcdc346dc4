import { must, systemClock, systemRandom } from '../../base/index.ts';
import type { Lab } from '../../lab/index.ts';
import { GrpcConnection } from './grpc-client.ts';
import type { Group, Member } from './group.ts';
import { load, quantile, tryWrite } from './load.ts';

/** A write is tried on every member this often after a kill, ms. */
const TRY_EVERY_MS = 5;
const ELECTION_TIMEOUT_MS = 30_000;
/** A kill comes up to this long after the group has settled, ms: at any time between two heartbeats. */
const KILL_SPREAD_MS = 300;
/** Load during the faults that should disturb nobody. */
const CALM_CLIENTS = 16;
/** Elections are looked for until this long after a fault, ms: several election timeouts. */
const CALM_AFTER_MS = 3_000;
const PAUSE_MS = 3_000;
const STALL_MS = 400;
const PARTITION_MS = 5_000;

interface Killable {
  clientHost: string;
  clientPort: number;
  pid: number;
  start(): Promise<void>;
  kill(): Promise<void>;
}

interface Cluster<M extends Killable> {
  members: readonly M[];
  settled(): Promise<{ leader: M; term: number }>;
}

export interface KillResult {
  kills: number;
  medianMs: number;
  p99Ms: number;
  maxMs: number;
  timesMs: number[];
  /** Terms that passed, per kill; 1 is an election at the first try. */
  termsPerKill: number;
}

/** Kills the leader again and again: the time from SIGKILL until a write is acknowledged by another member. */
export async function killLeaders<M extends Killable>(
  cluster: Cluster<M>,
  kills: number,
  signal: AbortSignal,
): Promise<KillResult> {
  const timesMs: number[] = [];
  const { term: firstTerm } = await cluster.settled();
  for (let i = 0; i < kills; i++) {
    const { leader } = await cluster.settled();
    await systemClock.sleep(systemRandom.int(KILL_SPREAD_MS), signal);
    timesMs.push(await killOnce(leader, cluster.members, i, signal));
    await leader.start();
  }
  const { term } = await cluster.settled();
  const sorted = timesMs.toSorted((a, b) => a - b);
  return {
    kills,
    medianMs: quantile(sorted, 0.5),
    p99Ms: quantile(sorted, 0.99),
    maxMs: quantile(sorted, 1),
    timesMs,
    termsPerKill: (term - firstTerm) / kills,
  };
}

async function killOnce<M extends Killable>(
  leader: M,
  members: readonly M[],
  number: number,
  signal: AbortSignal,
): Promise<number> {
  const others = members.filter((member) => member !== leader);
  const connections = await Promise.all(
    others.map((other) => GrpcConnection.connect(other.clientHost, other.clientPort)),
  );
  try {
    const began = performance.now();
    process.kill(leader.pid, 'SIGKILL');
    let acceptedMs = 0;
    // A try does not wait for the one before: a member that still believes in the dead leader may keep it for long.
    while (acceptedMs === 0) {
      for (const connection of connections) {
        void tryWrite(connection, number).then((accepted) => {
          if (accepted && acceptedMs === 0) acceptedMs = performance.now() - began;
          return undefined;
        });
      }
      if (performance.now() - began > ELECTION_TIMEOUT_MS) throw new Error('no leader after the kill');
      await systemClock.sleep(TRY_EVERY_MS, signal);
    }
    await leader.kill();
    return acceptedMs;
  } finally {
    for (const connection of connections) connection.close();
  }
}

/** A fault that must not cause an election. */
export interface CalmResult {
  fault: string;
  elections: number;
  /** Longest time that a write of the load took, ms. */
  longestWriteMs: number | null;
}

/** The faults of the issue, each under a light load of writes on the leader. */
export async function calmFaults(group: Group, lab: Lab, signal: AbortSignal): Promise<CalmResult[]> {
  const follower = async (): Promise<Member> => {
    const { leader } = await group.settled();
    return must(
      group.members.find((member) => member !== leader),
      'a follower',
    );
  };
  const results: CalmResult[] = [];
  results.push(
    await calm(`follower stopped for ${PAUSE_MS / 1000} s`, group, PAUSE_MS, signal, async () => {
      const paused = await follower();
      paused.signal('SIGSTOP');
      try {
        await systemClock.sleep(PAUSE_MS, signal);
      } finally {
        paused.signal('SIGCONT');
      }
    }),
  );
  results.push(
    await calm(`leader's disk stalled for ${STALL_MS} ms`, group, STALL_MS, signal, async () => {
      const { leader } = await group.settled();
      await leader.stallDisk(STALL_MS);
    }),
  );
  results.push(
    await calm(`follower cut off for ${PARTITION_MS / 1000} s`, group, PARTITION_MS, signal, async () => {
      const cut = await follower();
      await lab.partition([`m${cut.id}`], false);
      try {
        await systemClock.sleep(PARTITION_MS, signal);
      } finally {
        await lab.heal();
      }
    }),
  );
  return results;
}

async function calm(
  fault: string,
  group: Group,
  faultMs: number,
  signal: AbortSignal,
  run: () => Promise<void>,
): Promise<CalmResult> {
  const { leader, term } = await group.settled();
  const target = { host: leader.clientHost, port: leader.clientPort, pids: [] };
  const loading = load(target, 'write', CALM_CLIENTS, 200, faultMs + CALM_AFTER_MS, signal).then(
    (result) => result.maxMs,
    () => null,
  );
  await systemClock.sleep(500, signal);
  await run();
  const longestWriteMs = await loading;
  await systemClock.sleep(500, signal);
  const elections = (await group.settled()).term - term;
  return { fault, elections, longestWriteMs };
}
