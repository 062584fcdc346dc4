import { hostPortsOf } from '../resources.ts';
import { nodes, type FilterFactory } from './filter.ts';

/** `80/tcp` for a person, from the key `0/80`. */
function portName(key: string): string {
  const [protocol = '', port = ''] = key.split('/');
  return `${port}/${['tcp', 'udp', 'sctp'][Number(protocol)] ?? protocol}`;
}

/** No other task of the node publishes the same port in host mode. */
export const hostPortFilter: FilterFactory = (task) => {
  const ports = hostPortsOf(task);
  if (ports.length === 0) return undefined;
  return {
    name: 'host-port',
    check: (node) => ports.every((port) => !node.hasHostPort(port)),
    explain: (count) => `host-mode port already in use on ${nodes(count)}`,
    lack: (view) => {
      const taken = ports.filter((port) => view.hasHostPort(port));
      const held = taken.map((port) => `port ${portName(port)} is held by ${view.holderOfPort(port)}`);
      return {
        measure: taken.length,
        lacks: `has no free port: ${held.join(', ')}`,
        fix: 'add a node, stop what holds the port, or publish the port in ingress mode',
      };
    },
  };
};
