import type { ContainerRecord } from './record.ts';

/** Tells of each volume of a container that it is mounted for it, or not any more, as dockerd does. */
export function volumeEvents({ stored, container, parts }: ContainerRecord, action: 'mount' | 'unmount'): void {
  for (const mount of stored.mounts) {
    if (mount.type !== 'volume') continue;
    const common = { container: container.id, driver: mount.volumeDriver || 'local' };
    const more = {
      destination: mount.target,
      propagation: mount.propagation ?? '',
      'read/write': String(!mount.readOnly),
    };
    parts.publish({
      type: 'volume',
      action,
      actorId: mount.source,
      attributes: action === 'mount' ? { ...common, ...more } : common,
      timeMs: parts.clock.now(),
    });
  }
}
