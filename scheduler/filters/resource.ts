import { reservationOf } from '../resources.ts';
import { nodes, type FilterFactory } from './filter.ts';

/** The node has the CPU, memory and generic resources that the task reserves. */
export const resourceFilter: FilterFactory = (task) => {
  const wanted = reservationOf(task);
  if (wanted.nanoCpus === 0 && wanted.memoryBytes === 0 && wanted.generic.size === 0) return undefined;
  return {
    check: (node) => node.free.has(wanted),
    explain: (count) => `insufficient resources on ${nodes(count)}`,
  };
};
