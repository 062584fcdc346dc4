/** What hosts are told of tasks, nodes and services on a network. Pure. */
import {
  NetworkEndpoint,
  NetworkPeer,
  NetworkService,
  TaskState,
  isTerminal,
  type Network,
  type NetworkAttachment,
  type Node,
  type Service,
  type Task,
} from '../../proto/index.ts';
import { prefersLocalTasks, weightOf } from '../settings/index.ts';
import { hostOf } from './calls.ts';

const LABEL_PREDEFINED = 'com.docker.swarm.predefined';

/** Whether hosts need a table of this network: overlays do, predefined `host` and `bridge` do not. */
export function isOverlay(network: Network): boolean {
  if (network.spec?.annotations?.labels[LABEL_PREDEFINED] === 'true') return false;
  const driver = network.driver_state?.name || network.spec?.driver_config?.name || 'overlay';
  return driver === 'overlay';
}

/** Whether packets between hosts are to be encrypted (`--opt encrypted`). */
export function isEncrypted(network: Network): boolean {
  const value = network.spec?.driver_config?.options['encrypted'] ?? network.driver_state?.options['encrypted'];
  return value !== undefined && !/^(?:false|f|0)$/i.test(value);
}

/** An address without its mask. */
export function bareAddress(address: string): string {
  const slash = address.indexOf('/');
  return slash === -1 ? address : address.slice(0, slash);
}

/** The interface address that Docker derives from an IPv4 address (02:42 and its four bytes); empty for others. */
export function macOf(address: string): string {
  const bytes = bareAddress(address).split('.').map(Number);
  if (bytes.length !== 4 || bytes.some((byte) => !Number.isInteger(byte) || byte < 0 || byte > 255)) return '';
  return ['02', '42', ...bytes.map((byte) => byte.toString(16).padStart(2, '0'))].join(':');
}

/** A task's name as Docker shows it: `service.slot.id`, with the node's id as slot of global services. */
export function taskName(task: Task): string {
  const given = task.annotations?.name ?? '';
  if (given !== '') return given;
  const service = task.service_annotations?.name || task.service_id;
  return `${service}.${task.slot > 0 ? task.slot : task.node_id}.${task.id}`;
}

/** Whether a task has a place on its networks: placed on a node and not ended. */
function hasPlace(task: Task): boolean {
  const state = task.status?.state ?? TaskState.NEW;
  return task.node_id !== '' && state >= TaskState.ASSIGNED && !isTerminal(state);
}

function endpointOf(task: Task, attachment: NetworkAttachment, vtep: string): NetworkEndpoint {
  const address = attachment.addresses.find((one) => !one.includes(':')) ?? '';
  const running = task.status?.state === TaskState.RUNNING;
  return NetworkEndpoint.create({
    task_id: task.id,
    task_name: taskName(task),
    service_id: task.service_id,
    node_id: task.node_id,
    vtep,
    address,
    address6: attachment.addresses.find((one) => one.includes(':')) ?? '',
    mac: macOf(address),
    weight: weightOf(task.spec?.container?.labels),
    // A service's aliases name the service, see NetworkService; only a task of its own has aliases of its own.
    aliases: task.service_id === '' ? attachment.aliases : [],
    // Desired COMPLETE is a job's RUNNING.
    serving: running && (task.desired_state === TaskState.RUNNING || task.desired_state === TaskState.COMPLETE),
  });
}

/** A task's endpoints by network id. */
export function endpointsOf(task: Task | undefined, vtep: string): Map<string, NetworkEndpoint> {
  const found = new Map<string, NetworkEndpoint>();
  if (task === undefined || !hasPlace(task)) return found;
  for (const attachment of task.networks) {
    const network = attachment.network;
    if (network === null || attachment.addresses.length === 0 || !isOverlay(network)) continue;
    found.set(network.id, endpointOf(task, attachment, vtep));
  }
  return found;
}

/** What hosts must know of a node; undefined while its tunnel end point is not known. */
export function peerOf(node: Node): NetworkPeer | undefined {
  const vtep = node.description?.data_path_addr || hostOf(node.status?.addr ?? '');
  if (vtep === '') return undefined;
  return NetworkPeer.create({
    node_id: node.id,
    vtep,
    wireguard_key: node.description?.wireguard_key ?? new Uint8Array(0),
  });
}

/** What hosts must know of a service on one network. */
export function serviceOn(networkId: string, service: Service, aliases: readonly string[]): NetworkService {
  const vips = (service.endpoint?.virtual_ips ?? []).filter((vip) => vip.network_id === networkId);
  return NetworkService.create({
    service_id: service.id,
    name: service.spec?.annotations?.name ?? '',
    aliases,
    vip: bareAddress(vips.find((vip) => !vip.addr.includes(':'))?.addr ?? ''),
    vip6: bareAddress(vips.find((vip) => vip.addr.includes(':'))?.addr ?? ''),
    ports: service.endpoint?.ports ?? [],
    prefer_local: prefersLocalTasks(service.spec?.annotations?.labels),
  });
}
