import { unreachable } from '../../base/index.ts';
import {
  NetworkEndpoint,
  NetworkPeer,
  NetworkService,
  TaskState,
  isTerminal,
  type Network,
  type NetworkAttachment,
  type NetworkTable,
  type Node,
  type Service,
  type Task,
} from '../../proto/index.ts';
import type { Change, ReadView } from '../store/types.ts';
import { prefersLocalTasks, weightOf } from '../settings/index.ts';
import { hostOf } from './calls.ts';

/**
 * All that is known of one network; `built` is the table as sent, until something changes. Endpoints and services are
 * as they stand in the table, and are replaced, never changed, so that their encodings can be kept.
 */
interface Entry {
  endpoints: Map<string, NetworkEndpoint>;
  /** Tasks on the network per node. */
  nodes: Map<string, number>;
  services: Map<string, NetworkService>;
  version: number;
  /** Its members encrypt: tables name their keys. */
  encrypted: boolean;
  built: NetworkTable | undefined;
}

/** Fields of a delta, in a table that is none. */
const WHOLE = { base_version: 0, removed_task_ids: [], removed_service_ids: [], removed_node_ids: [] };

const LABEL_PREDEFINED = 'com.docker.swarm.predefined';

/** Whether hosts need a table of this network: overlays do, predefined `host` and `bridge` do not. */
export function isOverlay(network: Network): boolean {
  if (network.spec?.annotations?.labels[LABEL_PREDEFINED] === 'true') return false;
  const driver = network.driver_state?.name || network.spec?.driver_config?.name || 'overlay';
  return driver === 'overlay';
}

/** Whether packets between hosts are to be encrypted (`--opt encrypted`). */
function isEncrypted(network: Network): boolean {
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
function endpointsOf(task: Task | undefined, vtep: string): Map<string, NetworkEndpoint> {
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
function peerOf(node: Node): NetworkPeer | undefined {
  const vtep = node.description?.data_path_addr || hostOf(node.status?.addr ?? '');
  if (vtep === '') return undefined;
  return NetworkPeer.create({
    node_id: node.id,
    vtep,
    wireguard_key: node.description?.wireguard_key ?? new Uint8Array(0),
  });
}

/** What hosts must know of a service on one network. */
function serviceOn(networkId: string, service: Service, aliases: readonly string[]): NetworkService {
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

/** Networks that a service names in its spec, by id, with its aliases there. */
function namedNetworks(view: ReadView, service: Service): Map<string, readonly string[]> {
  const ofTask = service.spec?.task?.networks ?? [];
  const configs = ofTask.length > 0 ? ofTask : (service.spec?.networks ?? []);
  const found = new Map<string, readonly string[]>();
  for (const config of configs) {
    const network = view.get('network', config.target) ?? view.byName('network', config.target);
    if (network !== undefined) found.set(network.id, config.aliases);
  }
  return found;
}

/**
 * The overlay networks of the cluster, kept up to date commit by commit: who has a place on which network, and the
 * table that hosts on it are sent. Every change costs in proportion to the object that changed; a table is put together
 * only when it is asked for.
 */
export class NetworkIndex {
  #entries = new Map<string, Entry>();
  #taskEndpoints = new Map<string, Map<string, NetworkEndpoint>>();
  #nodeNetworks = new Map<string, Map<string, number>>();
  #serviceNetworks = new Map<string, Set<string>>();
  /** Nodes whose tunnel end point is known. */
  #peers = new Map<string, NetworkPeer>();
  /** The same without keys, for networks that do not encrypt. */
  #keyless = new Map<string, NetworkPeer>();
  #dirty = new Set<string>();
  #ingress: string | undefined;

  /** Reads everything anew. `version` must not be below any version that was given before. */
  rebuild(view: ReadView, version: number): void {
    const known = [...this.#entries.keys()];
    this.#entries.clear();
    this.#taskEndpoints.clear();
    this.#nodeNetworks.clear();
    this.#serviceNetworks.clear();
    this.#peers.clear();
    this.#keyless.clear();
    this.#ingress = undefined;
    for (const network of view.list('network')) this.#setNetwork(network, version);
    for (const node of view.list('node')) this.#setNode(node.id, node, version);
    for (const service of view.list('service')) this.#setService(view, service.id, service, version);
    for (const task of view.list('task')) this.#setTask(task.id, task, version);
    for (const id of known) this.#dirty.add(id);
  }

  /** Takes one change in. `version` is the index of its commit. */
  apply(view: ReadView, change: Change, version: number): void {
    const present = change.action !== 'remove';
    switch (change.kind) {
      case 'task':
        return this.#setTask(change.object.id, present ? change.object : undefined, version);
      case 'node':
        return this.#setNode(change.object.id, present ? change.object : undefined, version);
      case 'service':
        return this.#setService(view, change.object.id, present ? change.object : undefined, version);
      case 'network':
        return present ? this.#setNetwork(change.object, version) : this.#removeNetwork(change.object.id);
      case 'cluster':
      case 'secret':
      case 'config':
      case 'revision':
        return undefined;
      default:
        return unreachable(change);
    }
  }

  /** Networks whose table changed since the last call. */
  takeDirty(): Set<string> {
    const dirty = this.#dirty;
    this.#dirty = new Set();
    return dirty;
  }

  /** Networks whose table a node must have: those with a task on it, and the ingress network. */
  networksOf(nodeId: string): Set<string> {
    const found = new Set(this.#nodeNetworks.get(nodeId)?.keys());
    if (this.#ingress !== undefined) found.add(this.#ingress);
    return found;
  }

  /** Nodes that must have a network's table; `all` for the ingress network. */
  nodesOn(networkId: string): 'all' | string[] {
    if (networkId === this.#ingress) return 'all';
    return [...(this.#entries.get(networkId)?.nodes.keys() ?? [])];
  }

  /** Endpoints and peers times nodes that receive them: what one change of the table costs to send. */
  fanOutCost(networkId: string): number {
    const entry = this.#entries.get(networkId);
    if (entry === undefined) return 0;
    const nodes = networkId === this.#ingress ? this.#peers.size : entry.nodes.size;
    return entry.endpoints.size === 0 ? 0 : (entry.endpoints.size + nodes) * nodes;
  }

  /** The network's table as of now, or undefined when there is no such network. Shared: do not change it. */
  table(view: ReadView, networkId: string): NetworkTable | undefined {
    const network = view.get('network', networkId);
    const entry = this.#entries.get(networkId);
    if (network === undefined || entry === undefined) return undefined;
    entry.built ??= {
      network_id: networkId,
      version: entry.version,
      network,
      endpoints: [...entry.endpoints.values()],
      services: [...entry.services.values()],
      peers: this.#peersOn(networkId, entry),
      ...WHOLE,
    };
    return entry.built;
  }

  #peersOn(networkId: string, entry: Entry): NetworkPeer[] {
    // With nobody to reach on it, the ingress network needs no tunnels; else each node that joins would be told to all.
    if (entry.endpoints.size === 0) return [];
    const ids = networkId === this.#ingress ? this.#peers.keys() : entry.nodes.keys();
    const known = entry.encrypted ? this.#peers : this.#keyless;
    return [...ids].map((nodeId) => known.get(nodeId) ?? NetworkPeer.create({ node_id: nodeId }));
  }

  #entry(networkId: string): Entry {
    let entry = this.#entries.get(networkId);
    if (entry === undefined) {
      entry = {
        endpoints: new Map(),
        nodes: new Map(),
        services: new Map(),
        version: 0,
        encrypted: false,
        built: undefined,
      };
      this.#entries.set(networkId, entry);
    }
    return entry;
  }

  #touch(networkId: string, version: number): void {
    const entry = this.#entry(networkId);
    entry.version = Math.max(entry.version, version);
    entry.built = undefined;
    this.#dirty.add(networkId);
  }

  #setNetwork(network: Network, version: number): void {
    if (!isOverlay(network)) return;
    if (network.spec?.ingress === true) this.#ingress = network.id;
    this.#entry(network.id).encrypted = isEncrypted(network);
    this.#touch(network.id, version);
  }

  #removeNetwork(networkId: string): void {
    if (this.#ingress === networkId) this.#ingress = undefined;
    // What tasks and services still say of it is kept in their own records and goes when they go.
    this.#entries.delete(networkId);
    this.#dirty.add(networkId);
  }

  #setTask(taskId: string, task: Task | undefined, version: number): void {
    const before = this.#taskEndpoints.get(taskId);
    const after = endpointsOf(task, this.#peers.get(task?.node_id ?? '')?.vtep ?? '');
    if (before === undefined && after.size === 0) return;
    for (const [networkId, old] of before ?? []) {
      if (!after.has(networkId)) this.#dropEndpoint(networkId, old, version);
    }
    for (const [networkId, endpoint] of after) {
      const old = before?.get(networkId);
      if (NetworkEndpoint.equal(old, endpoint)) continue;
      if (old !== undefined) this.#dropEndpoint(networkId, old, version);
      const entry = this.#entry(networkId);
      entry.endpoints.set(taskId, endpoint);
      count(entry.nodes, endpoint.node_id, 1);
      this.#countNode(endpoint.node_id, networkId, 1);
      this.#touch(networkId, version);
    }
    if (after.size === 0) this.#taskEndpoints.delete(taskId);
    else this.#taskEndpoints.set(taskId, after);
  }

  #dropEndpoint(networkId: string, endpoint: NetworkEndpoint, version: number): void {
    this.#countNode(endpoint.node_id, networkId, -1);
    const entry = this.#entries.get(networkId);
    if (entry === undefined) return;
    entry.endpoints.delete(endpoint.task_id);
    count(entry.nodes, endpoint.node_id, -1);
    this.#touch(networkId, version);
  }

  #countNode(nodeId: string, networkId: string, by: 1 | -1): void {
    const networks = this.#nodeNetworks.get(nodeId) ?? new Map<string, number>();
    count(networks, networkId, by);
    if (networks.size === 0) this.#nodeNetworks.delete(nodeId);
    else this.#nodeNetworks.set(nodeId, networks);
  }

  #setNode(nodeId: string, node: Node | undefined, version: number): void {
    const peer = node === undefined ? undefined : peerOf(node);
    const before = this.#peers.get(nodeId);
    if (NetworkPeer.equal(peer, before)) return;
    if (peer === undefined) {
      this.#peers.delete(nodeId);
      this.#keyless.delete(nodeId);
    } else {
      this.#peers.set(nodeId, peer);
      if (peer.vtep !== before?.vtep) {
        this.#keyless.set(nodeId, NetworkPeer.create({ node_id: nodeId, vtep: peer.vtep }));
      }
    }
    const vtep = peer?.vtep ?? '';
    for (const networkId of this.networksOf(nodeId)) {
      const { endpoints, encrypted } = this.#entry(networkId);
      const same = vtep === (before?.vtep ?? '');
      // A new key is told to those only who encrypt with it.
      if (endpoints.size === 0 || (same && !encrypted)) continue;
      for (const [taskId, endpoint] of same ? [] : endpoints) {
        if (endpoint.node_id !== nodeId) continue;
        const moved = { ...endpoint, vtep };
        endpoints.set(taskId, moved);
        this.#taskEndpoints.get(taskId)?.set(networkId, moved);
      }
      this.#touch(networkId, version);
    }
  }

  #setService(view: ReadView, serviceId: string, service: Service | undefined, version: number): void {
    const after = new Map(service === undefined ? [] : namedNetworks(view, service));
    for (const vip of service?.endpoint?.virtual_ips ?? []) {
      if (!after.has(vip.network_id)) after.set(vip.network_id, []);
    }
    for (const networkId of this.#serviceNetworks.get(serviceId) ?? []) {
      if (after.has(networkId) || !this.#entries.has(networkId)) continue;
      this.#entry(networkId).services.delete(serviceId);
      this.#touch(networkId, version);
    }
    for (const [networkId, aliases] of after) {
      if (service === undefined) continue;
      const { services } = this.#entry(networkId);
      const told = serviceOn(networkId, service, aliases);
      // Most changes of a service, such as its scale or image, are of no concern to networks.
      if (NetworkService.equal(services.get(serviceId), told)) continue;
      services.set(serviceId, told);
      this.#touch(networkId, version);
    }
    if (after.size === 0) this.#serviceNetworks.delete(serviceId);
    else this.#serviceNetworks.set(serviceId, new Set(after.keys()));
  }
}

function count(counts: Map<string, number>, key: string, by: 1 | -1): void {
  const next = (counts.get(key) ?? 0) + by;
  if (next <= 0) counts.delete(key);
  else counts.set(key, next);
}
