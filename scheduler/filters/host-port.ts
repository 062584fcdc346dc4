import { takenPorts, type Demand } from '../demand.ts';
import type { NodeView } from '../node-view.ts';
import { nodes, type FilterFactory, type Lack } from './filter.ts';

/** `80/tcp` for a person, from the key `0/80`; `80/tcp on 192.0.2.1` from `0/80@192.0.2.1`. */
function portName(key: string): string {
  const [protocol = '', port = '', address] = key.split(/[/@]/);
  const name = `${port}/${['tcp', 'udp', 'sctp'][Number(protocol)] ?? protocol}`;
  return address === undefined ? name : `${name} on ${address}`;
}

function holderOf(view: NodeView, port: string): string {
  const [held] = view.holdersOfPort(port);
  if (held === undefined) return 'is kept for a task of higher priority';
  return `is held by ${held.kin.name === '' ? `task ${held.id}` : `a task of service ${held.kin.name}`}`;
}

function lackOf(view: NodeView, demand: Demand): Lack {
  const held = takenPorts(view, demand).map((port) => `port ${portName(port)} ${holderOf(view, port)}`);
  return {
    lacks: `has no free port: ${held.join(', ')}`,
    fix: 'add a node, stop what holds the port, or publish the port in ingress mode',
  };
}

/** No other task of the node publishes the same port in host mode. */
export const hostPortFilter: FilterFactory = (demand) => {
  if (demand.ports.length === 0) return undefined;
  return {
    name: 'host-port',
    check: (view) => takenPorts(view, demand).length === 0,
    explain: (count) => `host-mode port already in use on ${nodes(count)}`,
    measure: (view) => takenPorts(view, demand).length,
    lack: (view) => lackOf(view, demand),
  };
};
