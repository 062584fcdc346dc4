import { Mount_Type } from '../../proto/index.ts';
import { NEVER, nodes, type FilterFactory } from './filter.ts';

/**
 * No node has cluster volumes (CSI): Shoal does not support them. `manager/control` refuses services that ask for them;
 * one that comes from elsewhere (a restored state) waits with this explanation.
 */
export const volumesFilter: FilterFactory = ({ task }) => {
  const wanted = (task.spec?.container?.mounts ?? []).filter((mount) => mount.type === Mount_Type.CLUSTER);
  if (wanted.length === 0) return undefined;
  const names = wanted.map((mount) => mount.source).join(', ');
  return {
    name: 'volumes',
    check: () => false,
    explain: (count) => `cannot fulfill requested CSI volume mounts on ${nodes(count)}`,
    measure: () => NEVER,
    lack: () => ({
      lacks: `cannot mount ${names}: cluster volumes are not supported`,
      fix: 'use mounts of type volume, bind or tmpfs instead of type cluster',
    }),
  };
};
