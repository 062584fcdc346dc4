import { expect, test } from 'vitest';
import { VirtualClock } from '../../base/index.ts';
import { Lease, LEASE_IDLE_MAX_MS } from './lease.ts';

test('a lease ends by itself when nobody renews it, and not before', () => {
  const clock = new VirtualClock();
  const lease = new Lease(clock);
  clock.advance(LEASE_IDLE_MAX_MS);
  expect(lease.ended).toBe(false);
  lease.blobs.add('sha256:a');
  clock.advance(LEASE_IDLE_MAX_MS);
  expect(lease.ended).toBe(false);
  lease.layers.add('sha256:b');
  clock.advance(LEASE_IDLE_MAX_MS);
  lease.renew();
  clock.advance(LEASE_IDLE_MAX_MS);
  expect(lease.ended).toBe(false);
  clock.advance(1);
  expect(lease.ended).toBe(true);
  expect([...lease.blobs, ...lease.layers]).toEqual(['sha256:a', 'sha256:b']);
});
