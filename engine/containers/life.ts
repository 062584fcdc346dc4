import type { HealthWatch } from './health-watch.ts';
import type { Limiter } from './limiter.ts';
import type { ContainerRecord } from './record.ts';
import type { Restarts } from './restarts.ts';
import type { Waiters } from './waiter.ts';

/** The parts of one container's life, as the steps of it see them. */
export interface Life {
  readonly record: ContainerRecord;
  readonly lock: Limiter;
  readonly waiters: Waiters;
  readonly restarts: Restarts;
  readonly health: HealthWatch;
  /** Looks whether it has ended without a notice. */
  check(): Promise<void>;
}
