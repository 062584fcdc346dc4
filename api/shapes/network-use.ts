import { createHash } from 'node:crypto';
import { isTerminal, PortConfig_PublishMode, TaskState, type Network, type Node } from '../../proto/index.ts';
import type { Service, Task } from '../../proto/index.ts';
import type { JsonObject } from '../ports.ts';

/** Who uses a swarm network. */
export interface NetworkUse {
  tasks: readonly Task[];
  nodes: readonly Node[];
  /** Only for `--verbose`. */
  services: readonly Service[] | undefined;
  /** This node. */
  nodeId: string;
}

interface Endpoint {
  id: string;
  name: string;
  task: Task;
  ipv4: string;
  ipv6: string;
}

const bare = (address: string): string => address.split('/')[0] ?? '';

function nameOf(task: Task): string {
  const given = task.annotations?.name ?? '';
  const slot = task.slot > 0 ? task.slot : task.node_id;
  return given || `${task.service_annotations?.name || task.service_id}.${slot}.${task.id}`;
}

/** Docker's ids of endpoints are 64 hexadecimal digits; ours follow from the task and the network. */
function endpointId(task: Task, networkId: string): string {
  return createHash('sha256').update(`${networkId} ${task.id}`).digest('hex');
}

/** Tasks that have a place on the network: on a node, and not ended. */
function endpointsOn(networkId: string, tasks: readonly Task[]): Endpoint[] {
  return tasks.flatMap((task) => {
    const state = task.status?.state ?? TaskState.NEW;
    const attachment = task.networks.find((one) => one.network?.id === networkId);
    if (attachment === undefined || task.node_id === '' || state < TaskState.ASSIGNED || isTerminal(state)) return [];
    const ipv4 = attachment.addresses.find((address) => !address.includes(':')) ?? '';
    const ipv6 = attachment.addresses.find((address) => address.includes(':')) ?? '';
    return [{ id: endpointId(task, networkId), name: nameOf(task), task, ipv4, ipv6 }];
  });
}

function macOf(ipv4: string): string {
  const parts = bare(ipv4).split('.').map(Number);
  if (parts.length !== 4) return '';
  return ['02', '42', ...parts.map((part) => part.toString(16).padStart(2, '0'))].join(':');
}

const addressOf = (node: Node | undefined): string => node?.description?.data_path_addr || (node?.status?.addr ?? '');

function servicesToJson(
  networkId: string,
  services: readonly Service[],
  endpoints: readonly Endpoint[],
  nodes: ReadonlyMap<string, Node>,
): JsonObject {
  const result: JsonObject = {};
  for (const service of services) {
    const own = endpoints.filter(({ task }) => task.service_id === service.id);
    const vips = (service.endpoint?.virtual_ips ?? []).filter((vip) => vip.network_id === networkId);
    if (own.length === 0 && vips.length === 0) continue;
    const ports = (service.endpoint?.ports ?? []).filter(
      (port) => port.publish_mode === PortConfig_PublishMode.INGRESS,
    );
    const vip6 = vips.find((vip) => vip.addr.includes(':'));
    result[service.spec?.annotations?.name ?? service.id] = {
      VIP: bare(vips.find((vip) => !vip.addr.includes(':'))?.addr ?? ''),
      // Shoal's own: Docker has no virtual addresses of IPv6.
      ...(vip6 === undefined ? {} : { VIP6: bare(vip6.addr) }),
      Ports: ports.map((port) => `Target: ${port.target_port}, Publish: ${port.published_port}`),
      // The number of an IPVS table in Docker; we have none.
      LocalLBIndex: 0,
      Tasks: own.map(({ id, name, task, ipv4 }) => ({
        Name: name,
        EndpointID: id,
        EndpointIP: bare(ipv4),
        Info: { 'Host IP': addressOf(nodes.get(task.node_id)) },
      })),
    };
  }
  return result;
}

/** The members of a network's JSON that tell who uses it: `Containers`, `Peers`, and `Services` when asked for. */
export function networkUseToJson(network: Network, use: NetworkUse): JsonObject {
  const endpoints = endpointsOn(network.id, use.tasks);
  const nodes = new Map(use.nodes.map((node) => [node.id, node]));
  const containers: JsonObject = {};
  for (const { id, name, task, ipv4, ipv6 } of endpoints) {
    const containerId = task.status?.container?.container_id ?? '';
    if (task.node_id !== use.nodeId || containerId === '') continue;
    const addresses = { IPv4Address: ipv4, IPv6Address: ipv6 };
    containers[containerId] = { Name: name, EndpointID: id, MacAddress: macOf(ipv4), ...addresses };
  }
  const ids = [...new Set(endpoints.map(({ task }) => task.node_id))].sort();
  const peers = ids.map((id) => ({
    Name: nodes.get(id)?.description?.hostname || id,
    IP: addressOf(nodes.get(id)),
  }));
  const { services } = use;
  return {
    Containers: containers,
    ...(peers.length === 0 ? {} : { Peers: peers }),
    ...(services === undefined ? {} : { Services: servicesToJson(network.id, services, endpoints, nodes) }),
  };
}
