/** Tables of networks as a manager would push them, for the programs that measure one host. */
import { macOf } from '../../overlay-net/ip4.ts';
import { NetworkTable } from '../../proto/index.ts';

export const NETWORK = 'bench0123456789abcdefghij';
const HOSTS = 100;
/** Endpoints of other hosts and virtual addresses are kept apart from those of this host by their numbers. */
const FIRST_REMOTE = 1000;

export interface TableShape {
  /** Tasks of other hosts, spread over `services`. */
  endpoints: number;
  services: number;
  /** Containers of this host. */
  own: number;
}

/** Address number `index` of the first half of 10.0.0.0/8. */
export const address = (index: number): string => `10.${(index >> 16) & 127}.${(index >> 8) & 255}.${index & 255}`;

/** A virtual address: of the second half. */
export const virtualAddress = (index: number): string => `10.128.${((index + 1) >> 8) & 255}.${(index + 1) & 255}`;

/** Address of container `i` of this host. */
export const ownAddress = (i: number): string => address(10 + i);

/** An id of the usual length; none is the beginning of another. */
const idOf = (kind: string, index: number): string => `${kind}${index}x`.padEnd(25, '0');

/** What managers send when one task more runs: the last of `shape`, which `base` does not have. */
export function deltaOf(base: NetworkTable, shape: TableShape): NetworkTable {
  const { network_id, version } = base;
  const added = tableOf(version + 1, shape).endpoints.slice(-1);
  return NetworkTable.create({ network_id, version: version + 1, base_version: version, endpoints: added });
}

/** What one network's table tells this host (node0). */
export function tableOf(version: number, { endpoints, services, own }: TableShape): NetworkTable {
  const one = (index: number, node: number): object => ({
    task_id: idOf('task', index),
    task_name: `service-${index % services}.${index}.${idOf('task', index)}`,
    service_id: idOf('service', index % services),
    node_id: `node${node}`,
    vtep: `192.0.2.${node + 1}`,
    address: `${address(index)}/8`,
    mac: macOf(address(index)),
    serving: true,
  });
  const options = { 'com.docker.network.driver.overlay.vxlanid_list': '4097' };
  // None of the endpoints of other hosts is of this one.
  const nodeOf = (i: number): number => 1 + (i % (HOSTS - 1));
  return NetworkTable.create({
    network_id: NETWORK,
    version,
    network: {
      id: NETWORK,
      spec: { annotations: { name: 'bench' } },
      driver_state: { name: 'overlay', options },
      ipam: { configs: [{ subnet: '10.0.0.0/8', gateway: '10.0.0.1' }] },
    },
    endpoints: [
      ...Array.from({ length: own }, (_, i) => one(i + 10, 0)),
      ...Array.from({ length: endpoints }, (_, i) => one(i + FIRST_REMOTE, nodeOf(i))),
    ],
    services: Array.from({ length: services }, (_, i) => ({
      service_id: idOf('service', i),
      name: `service-${i}`,
      vip: virtualAddress(i),
    })),
    peers: Array.from({ length: HOSTS }, (_, i) => ({ node_id: `node${i}`, vtep: `192.0.2.${i + 1}` })),
  });
}
