import { isShoalError } from '../../base/index.ts';
import type { StopOptions } from '../containers/stop.ts';
import type { ContainerUnit } from '../containers/unit.ts';

/** Stops a container, if it runs, and starts it; one that removes itself stays. @throws ShoalError */
export async function restart(unit: ContainerUnit, options: StopOptions): Promise<void> {
  unit.beingRestarted = true;
  try {
    await unit.stop(options).catch((error: unknown) => {
      if (!isShoalError(error, 'NotModified')) throw error;
    });
    await unit.start();
  } finally {
    unit.beingRestarted = false;
  }
  unit.record.event('restart');
}
