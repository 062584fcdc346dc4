import { expect, it } from 'vitest';
import { durationFromNs } from '../proto/index.ts';
import { completeClusterSpec } from './ca/index.ts';
import { checkHeartbeats } from './heartbeat-settings.ts';

const config = (heartbeatMs: number, downAfterMs: number) => ({
  heartbeat_period: durationFromNs(heartbeatMs * 1e6),
  down_after: durationFromNs(downAfterMs * 1e6),
});

it('a node may lose a heartbeat before it is down', () => {
  checkHeartbeats(null);
  checkHeartbeats(config(1000, 2000));
  checkHeartbeats(config(0, 500));
  expect(() => checkHeartbeats(config(2000, 3000))).toThrow(
    'a node would be down after 3s of silence while it has 2s between two heartbeats: ' +
      'the silence (--node-down-after) must be at least 2 heartbeats (--dispatcher-heartbeat)',
  );
  expect(() => checkHeartbeats(config(-1, 0))).toThrow('heartbeat time period cannot be a negative duration');
  expect(() => checkHeartbeats(config(1, -1))).toThrow('cannot be a negative duration');
  expect(() => checkHeartbeats(config(0, 25 * 3_600_000))).toThrow('24h at the most');
});

it('a new cluster takes the silence with or without a period', () => {
  expect(completeClusterSpec({ dispatcher: config(0, 8000) }).dispatcher).toEqual(config(1000, 8000));
  expect(completeClusterSpec({ dispatcher: config(2000, 0) }).dispatcher).toEqual(config(2000, 10_000));
  expect(() => completeClusterSpec({ dispatcher: config(0, 1500) })).toThrow('--node-down-after');
});
