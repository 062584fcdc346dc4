import { conflict, errorMessage, isShoalError, ShoalError } from '../../base/index.ts';
import { isFrozen, setFrozen } from '../runtime/freezer.ts';
import { cgroupPathOf } from './bundle.ts';
import type { HealthWatch } from './health-watch.ts';
import type { ContainerRecord } from './record.ts';
import type { Life } from './life.ts';

/** A container's processes can be stopped where they are. */
export type Freezable = Pick<Life, 'record' | 'lock'> & { readonly health: HealthWatch };

/** Stops a container's processes where they are. @throws ShoalError Conflict in Docker's words. */
export function pauseContainer({ record, lock, health }: Freezable): Promise<void> {
  return lock.run(async () => {
    const { id, state } = record.container;
    if (state === 'paused') throw conflict(`Container ${id} is already paused`);
    if (state === 'restarting') {
      throw conflict(`Container ${id} is restarting, wait until the container is running`);
    }
    if (state !== 'running') throw conflict(`container ${id} is not running`);
    await freeze(record, true);
    record.container.state = 'paused';
    // Probes would only time out, and make it unhealthy.
    health.stop();
    record.event('pause');
    await record.note();
  });
}

/** Lets the processes go on. @throws ShoalError Conflict when it is not paused. */
export function unpauseContainer({ record, lock, health }: Freezable): Promise<void> {
  return lock.run(async () => {
    const { id, state } = record.container;
    if (state !== 'paused') throw conflict(`Container ${id} is not paused`);
    await freeze(record, false);
    record.container.state = 'running';
    health.start(record.imageConfig(), record.container.health);
    record.event('unpause');
    await record.note();
  });
}

/** Whoever was asked to end while paused can only do so when it goes on. */
export async function letGoOn(unit: Freezable): Promise<void> {
  if (unit.record.container.state !== 'paused') return;
  await unpauseContainer(unit).catch((error: unknown) => {
    // It goes on already, or has ended.
    if (isShoalError(error, 'Conflict')) return;
    const { parts, container } = unit.record;
    parts.log.warn('a paused container could not be let go on', { id: container.id, error });
  });
}

/** After a crash of the daemon the kernel knows whether the processes are stopped. */
export function adoptFrozen({ container, parts }: ContainerRecord): void {
  const frozen = isFrozen(parts.cgroups.layout, cgroupPathOf(parts, container.id));
  container.state = frozen ? 'paused' : 'running';
}

async function freeze({ parts, container }: ContainerRecord, frozen: boolean): Promise<void> {
  try {
    await setFrozen(parts.cgroups.layout, cgroupPathOf(parts, container.id), frozen, parts.clock);
  } catch (error) {
    const verb = frozen ? 'pause' : 'unpause';
    const code = error instanceof ShoalError ? error.code : 'Internal';
    throw new ShoalError(code, `cannot ${verb} container ${container.id}: ${errorMessage(error)}`);
  }
}
