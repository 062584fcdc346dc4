import { expect, test } from 'vitest';
import { VirtualClock } from '../../base/index.ts';
import { RateLimiter } from './rate-limit.ts';
import { explainPeer, type PeerStatus } from './status.ts';

const status = (fields: Partial<PeerStatus>): PeerStatus => ({
  raftId: 2,
  address: '10.0.0.2:2377',
  connected: false,
  sinceMs: 12_340,
  queuedMessages: 0,
  queuedBytes: 0,
  sentMessages: 0,
  sentBatches: 0,
  sentBytes: 0,
  droppedMessages: 0,
  failures: 1,
  lastError: undefined,
  snapshot: undefined,
  ...fields,
});

test('says in plain words why a manager cannot be reached', () => {
  const why = (lastError: string): string => explainPeer(status({ lastError })).replace(/^.*12 s: /, '');
  expect(explainPeer(status({}))).toBe('not connected to 10.0.0.2:2377 for 12 s: the connection is being made');
  const refused = 'No connection established. Last error: connect ECONNREFUSED 10.0.0.2:2377. Resolution note: ';
  expect(why(refused)).toBe('nothing listens there (connection refused)');
  expect(why('no connection within 3000 ms')).toBe('it does not answer');
  expect(why('Connection dropped')).toBe('the connection was reset');
  expect(why('No connection established. Last error: self-signed certificate in certificate chain')).toMatch(
    /^its certificate is not accepted/,
  );
  expect(why('node a may not speak for manager b')).toBe('node a may not speak for manager b');
});

test('says what goes on where all is well', () => {
  const snapshot = { sentBytes: 3 * 1024 * 1024, totalBytes: 8 * 1024 * 1024 };
  expect(explainPeer(status({ connected: true, sinceMs: 1_500, queuedMessages: 7, snapshot }))).toBe(
    'connected to 10.0.0.2:2377 for 1.5 s; a snapshot is being sent (3.0 of 8.0 MiB); 7 messages wait to be sent',
  );
});

test('the rate limiter spreads bytes over time, for all together', async () => {
  const clock = new VirtualClock();
  const limiter = new RateLimiter(clock, 1_000_000);
  const { signal } = new AbortController();
  let sent = 0;
  const send = async (): Promise<void> => {
    for (let i = 0; i < 50; i++) {
      await limiter.take(10_000, signal);
      sent += 10_000;
    }
  };
  const all = Promise.all([send(), send()]);
  await clock.advanceAsync(500);
  expect(sent).toBeGreaterThanOrEqual(480_000);
  expect(sent).toBeLessThanOrEqual(550_000);
  await clock.advanceAsync(600);
  await all;
});
