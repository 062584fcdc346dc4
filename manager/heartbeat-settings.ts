import { invalidArgument } from '../base/index.ts';
import { durationToMs, type DispatcherConfig } from '../proto/index.ts';

/** Heartbeats that must fit into the silence after which a node is down: one may be lost. */
const HEARTBEATS_PER_SILENCE = 2;
/** Longest times that make sense, ms. */
const PERIOD_MAX_MS = 3_600_000;
const DOWN_AFTER_MAX_MS = 24 * 3_600_000;

/**
 * Checks the settings of heartbeats together; absent and zero ones are the defaults'.
 * @throws ShoalError InvalidArgument that names both times and the way out.
 */
export function checkHeartbeats(config: DispatcherConfig | null): void {
  const periodMs = durationToMs(config?.heartbeat_period, 0);
  const downAfterMs = durationToMs(config?.down_after, 0);
  if (periodMs < 0) throw invalidArgument('heartbeat time period cannot be a negative duration');
  if (downAfterMs < 0) throw invalidArgument('the silence after which a node is down cannot be a negative duration');
  if (periodMs > PERIOD_MAX_MS) throw invalidArgument('the heartbeat period can be 1h at the most');
  if (downAfterMs > DOWN_AFTER_MAX_MS) throw invalidArgument('a node can be silent for 24h at the most');
  if (periodMs === 0 || downAfterMs === 0 || downAfterMs >= periodMs * HEARTBEATS_PER_SILENCE) return;
  throw invalidArgument(
    `a node would be down after ${downAfterMs / 1000}s of silence while it has ${periodMs / 1000}s between two ` +
      `heartbeats: the silence (--node-down-after) must be at least ${HEARTBEATS_PER_SILENCE} heartbeats ` +
      '(--dispatcher-heartbeat)',
  );
}
