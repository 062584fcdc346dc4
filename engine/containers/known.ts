import type { KnownContainer } from '../doctor/host-checks.ts';
import type { StoredContainer } from './store.ts';
import type { ContainerUnit } from './unit.ts';

/** A recorded container as the doctor sees it. */
export function knownFacts({ container, monitored, mounts }: StoredContainer, busy: boolean): KnownContainer {
  return {
    id: container.id,
    name: container.config.name,
    running: container.state === 'running' || container.state === 'paused',
    busy,
    conmon: monitored?.conmon,
    init: monitored?.init,
    cgroupPath: container.cgroupPath,
    cgroupParent: container.config.cgroupParent,
    volumes: mounts.filter((mount) => mount.type === 'volume').map((mount) => mount.source),
  };
}

/** The same of one whose life goes on: what is under way or about to begin is not judged. */
export function knownContainer(unit: ContainerUnit): KnownContainer {
  const { id, state } = unit.container;
  const looked = unit.record.parts.roots.held(id);
  return knownFacts(unit.record.stored, looked || unit.lock.busy || state === 'restarting' || state === 'removing');
}
