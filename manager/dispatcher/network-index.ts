import { unreachable } from '../../base/index.ts';
import {
  NetworkEndpoint,
  NetworkPeer,
  NetworkService,
  type Network,
  type NetworkTable,
  type Node,
  type Service,
  type Task,
} from '../../proto/index.ts';
import type { Change, ReadView } from '../store/types.ts';
import { endpointsOf, isEncrypted, isOverlay, peerOf, serviceOn } from './network-members.ts';
import { TableJournal, type Noted, type TableBase } from './table-journal.ts';

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
  /** As of the last table; the same array as long as nothing in it changes. */
  peers: NetworkPeer[];
  peersKnown: boolean;
  journal: TableJournal;
}

/** Fields of a delta, in a table that is none. */
const WHOLE = { base_version: 0, removed_task_ids: [], removed_service_ids: [], removed_node_ids: [] };

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

  /** Nodes that receive a network's table. */
  fanOut(networkId: string): number {
    return networkId === this.#ingress ? this.#peers.size : (this.#entries.get(networkId)?.nodes.size ?? 0);
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
      peers: this.#currentPeers(networkId, entry),
      ...WHOLE,
    };
    return entry.built;
  }

  /** Version of the network's table as of now; undefined when there is no such network. */
  version(networkId: string): number | undefined {
    return this.#entries.get(networkId)?.version;
  }

  /**
   * What leads from a version that was sent to the table as of now; undefined when that is not known any more, or when
   * the whole table is not much longer. Shared: do not change it.
   */
  delta(view: ReadView, networkId: string, base: TableBase): NetworkTable | undefined {
    const network = view.get('network', networkId);
    const entry = this.#entries.get(networkId);
    if (network === undefined || entry === undefined) return undefined;
    const news = entry.journal.since(base.version);
    if (news === undefined || news.tasks.size + news.services.size > entry.endpoints.size / 2) return undefined;
    const parts = { ...entry, network, peers: this.#currentPeers(networkId, entry) };
    return entry.journal.delta(base, news, networkId, parts);
  }

  /** What an agent that is sent the table as of now has then. */
  base(view: ReadView, networkId: string): Pick<TableBase, 'network' | 'peers'> {
    const entry = this.#entries.get(networkId);
    const peers = entry === undefined ? [] : this.#currentPeers(networkId, entry);
    return { network: view.get('network', networkId) ?? null, peers };
  }

  /** The list that tables of now name; the one before when it says the same. */
  #currentPeers(networkId: string, entry: Entry): NetworkPeer[] {
    if (entry.peersKnown) return entry.peers;
    entry.peersKnown = true;
    const now = this.#peersOn(networkId, entry);
    const same = now.length === entry.peers.length && now.every((peer, i) => NetworkPeer.equal(peer, entry.peers[i]));
    return same ? entry.peers : (entry.peers = now);
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
        peers: [],
        peersKnown: false,
        journal: new TableJournal(),
      };
      this.#entries.set(networkId, entry);
    }
    return entry;
  }

  #touch(networkId: string, version: number, what: Noted = {}): void {
    const entry = this.#entry(networkId);
    entry.version = Math.max(entry.version, version);
    entry.built = undefined;
    entry.peersKnown = false;
    entry.journal.note(entry.version, what);
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
      this.#touch(networkId, version, { task: taskId });
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
    this.#touch(networkId, version, { task: endpoint.task_id });
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
        this.#touch(networkId, version, { task: taskId });
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
      this.#touch(networkId, version, { service: serviceId });
    }
    for (const [networkId, aliases] of after) {
      if (service === undefined) continue;
      const { services } = this.#entry(networkId);
      const told = serviceOn(networkId, service, aliases);
      // Most changes of a service, such as its scale or image, are of no concern to networks.
      if (NetworkService.equal(services.get(serviceId), told)) continue;
      services.set(serviceId, told);
      this.#touch(networkId, version, { service: serviceId });
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
