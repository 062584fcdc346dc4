import type { Random } from '../../base/index.ts';
import { durationToMs, type Cluster } from '../../proto/index.ts';

/** Heartbeat period of Shoal's own agents when the cluster sets none, ms. */
export const SHOAL_PERIOD_MS = 1000;
/** Silence after which a Shoal node is Down when the cluster sets none, ms. */
export const SHOAL_DOWN_AFTER_MS = 5000;
/** Shortest heartbeat period of a stock dockerd agent, ms. */
export const STOCK_PERIOD_MS = 5000;
/** Missed periods after which a stock agent is Down. */
export const STOCK_PERIODS_MISSED = 3;
/** Shortest time that a Shoal agent gets to find a new leader, ms. A killed daemon is often back within it. */
const GRACE_MIN_MS = 10_000;
/** Usual silences that the grace is worth. */
const GRACE_SILENCES = 2;
/** Where this manager has just been started again, the others may be starting too: their containers run on, ms. */
export const RESTART_GRACE_MS = 30_000;
/** A stock agent's back-off goes up to 8 s: as many periods as SwarmKit gives it (swarmkit.md §1.8). */
const STOCK_GRACE_PERIODS = 6;
/** Heartbeats an agent must be able to lose before it is Down. */
const PERIODS_WITHIN_DOWN = 3;

/**
 * Agents for which the leader has time at the usual period; with more, and where the cluster sets no other, it grows in
 * proportion, but never so far that an agent could not lose heartbeats (PERIODS_WITHIN_DOWN).
 */
const AGENTS_AT_USUAL_PERIOD = 2500;

/** Messages made for agents in one turn of the event loop (each takes some 0.1 ms), and streams that wait at the most. */
export const MESSAGES_PACE = { perTurn: 16, waitingMax: 100_000, what: 'streams of agents' };

export interface HeartbeatTimes {
  /** Mean time between two heartbeats, ms. */
  periodMs: number;
  /** Silence after which the node is Down, ms. */
  downAfterMs: number;
}

/**
 * Heartbeat timing of one agent. A period longer than a third of an explicit `down_after` is shortened to it, so that
 * no setting makes healthy nodes flap; without an explicit `down_after` a long period stretches it.
 * @param agents how many there are.
 */
export function heartbeatTimes(cluster: Cluster | undefined, shoal: boolean, agents = 0): HeartbeatTimes {
  const dispatcher = cluster?.spec?.dispatcher;
  const wanted = durationToMs(dispatcher?.heartbeat_period, 0);
  if (!shoal) {
    const periodMs = Math.max(STOCK_PERIOD_MS, wanted);
    return { periodMs, downAfterMs: periodMs * STOCK_PERIODS_MISSED };
  }
  const usualMs = SHOAL_PERIOD_MS * Math.max(1, agents / AGENTS_AT_USUAL_PERIOD);
  // New clusters have the usual period in their settings.
  const periodMs = wanted === 0 || wanted === SHOAL_PERIOD_MS ? usualMs : wanted;
  const explicit = durationToMs(dispatcher?.down_after, 0);
  const downAfterMs = explicit > 0 ? explicit : Math.max(SHOAL_DOWN_AFTER_MS, wanted * PERIODS_WITHIN_DOWN);
  return { periodMs: Math.min(periodMs, downAfterMs / PERIODS_WITHIN_DOWN), downAfterMs };
}

/** Time that a new leader gives known nodes to come back before they are Down, ms. */
export function graceMs(cluster: Cluster | undefined, shoal: boolean, restarted = false): number {
  const { periodMs, downAfterMs } = heartbeatTimes(cluster, shoal);
  const graceMs = shoal ? Math.max(GRACE_MIN_MS, downAfterMs * GRACE_SILENCES) : periodMs * STOCK_GRACE_PERIODS;
  return restarted ? Math.max(RESTART_GRACE_MS, graceMs) : graceMs;
}

/** A period with ±10 % of jitter, ms: spreads the agents' heartbeats (swarmkit: 5 s ± 0.5 s). */
export function jittered(periodMs: number, random: Random): number {
  return periodMs * (0.9 + random.float() * 0.2);
}
