import { hostPortsOf } from '../resources.ts';
import { nodes, type FilterFactory } from './filter.ts';

/** No other task of the node publishes the same port in host mode. */
export const hostPortFilter: FilterFactory = (task) => {
  const ports = hostPortsOf(task);
  if (ports.length === 0) return undefined;
  return {
    check: (node) => ports.every((port) => !node.hasHostPort(port)),
    explain: (count) => `host-mode port already in use on ${nodes(count)}`,
  };
};
