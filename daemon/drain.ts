import { readFile } from 'node:fs/promises';
import type { Clock } from '../base/index.ts';

/**
 * Least time between a task's leaving the load balancers and its stop signal, ms: peers learn of it through the managers
 * within this time, and connections just begun get through.
 */
export const DRAIN_LEAST_MS = 500;
/** Time between two looks at the connections of a task that drains, ms. */
const DRAIN_POLL_MS = 100;

/** States in which a peer may still wait for data (include/net/tcp_states.h): what is past them loses nothing by a stop. */
const OPEN_STATES: ReadonlySet<string> = new Set(['01', '03', '04', '08', '09', '0B']);
const LISTEN = '0A';

interface Socket {
  port: string;
  peer: string;
  state: string;
}

function socketsOf(table: string): Socket[] {
  const rows = table.split('\n').slice(1);
  return rows.flatMap((row) => {
    const [, local = '', remote = '', state] = row.trim().split(/\s+/);
    return state === undefined ? [] : [{ port: local.split(':')[1] ?? '', peer: remote.split(':')[0] ?? '', state }];
  });
}

/** Whether an address of /proc/net/tcp is the host's own: 127.0.0.0/8, alone or mapped into IPv6, or ::1. */
function isLoopback(peer: string): boolean {
  const isV4 = peer.length === 8 || peer.startsWith('0000000000000000FFFF0000');
  return isV4 ? peer.endsWith('7F') : peer === '00000000000000000000000001000000';
}

/**
 * Connections of others to servers of one network namespace that still carry something.
 * @param tables texts of /proc/PID/net/tcp and tcp6 (proc(5))
 */
export function inboundConnections(tables: readonly string[]): number {
  const sockets = tables.flatMap(socketsOf);
  const served = new Set(sockets.filter(({ state }) => state === LISTEN).map(({ port }) => port));
  return sockets.filter(({ port, peer, state }) => served.has(port) && OPEN_STATES.has(state) && !isLoopback(peer))
    .length;
}

/** Connections to the servers of a process; 0 when it is gone. */
async function connectionsOf(pid: number): Promise<number> {
  const tables = ['tcp', 'tcp6'].map((name) => readFile(`/proc/${pid}/net/${name}`, 'latin1').catch(() => ''));
  return inboundConnections(await Promise.all(tables));
}

/**
 * Waits until a task that no longer gets new connections has served those it has, at most `mostMs` and, so that news of
 * its leaving can spread, at least `DRAIN_LEAST_MS` (or `mostMs` when that is less).
 * @param count tells the connections; for tests
 */
export async function drained(
  pid: number,
  mostMs: number,
  clock: Clock,
  count: (pid: number) => Promise<number> = connectionsOf,
): Promise<void> {
  const began = clock.monotonic();
  await clock.sleep(Math.min(DRAIN_LEAST_MS, mostMs));
  for (;;) {
    const leftMs = began + mostMs - clock.monotonic();
    if (leftMs <= 0 || (await count(pid)) === 0) return;
    await clock.sleep(Math.min(DRAIN_POLL_MS, leftMs));
  }
}
