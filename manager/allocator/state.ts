import type { Logger } from '../../base/index.ts';
import { PortConfig_PublishMode, TaskState, type Network, type Service, type Task } from '../../proto/index.ts';
import type { ReadView } from '../store/types.ts';
import { type Subnet } from './address.ts';
import { AddressPool } from './ipam.ts';
import { PortTable } from './ports.ts';
import type { SerialSet } from './serial-set.ts';
import { newVniSet, parseVnis, VNI_OPTION } from './vni.ts';

/** Driver of networks that span the cluster; any other one is a matter of each host alone. */
export const OVERLAY_DRIVER = 'overlay';

/** What is handed out on one network. */
export interface NetworkState {
  id: string;
  name: string;
  pools: AddressPool[];
  vnis: number[];
}

/** What one service or task holds. */
interface Holding {
  addresses: { networkId: string; address: string }[];
}

/** Address families of a network, IPv4 first. */
export function familiesOf(network: NetworkState): (32 | 128)[] {
  return ([32, 128] as const).filter((bits) => network.pools.some((pool) => pool.subnet.bits === bits));
}

export function networkName(network: Network): string {
  return network.spec?.annotations?.name ?? network.id;
}

/** Whether endpoints on the network get addresses from here. Predefined and host-local networks need none. */
export function isAddressed(network: Network): boolean {
  const driver = network.spec?.driver_config?.name ?? '';
  return (driver === '' || driver === OVERLAY_DRIVER) && (network.spec?.network ?? '') === '';
}

/** Whether the network has everything that tasks on it need. */
export function isAllocated(network: Network): boolean {
  return network.driver_state !== null && network.ipam !== null;
}

/** Whether a task has (or may still use) the addresses that it was given. */
export function holdsAddresses(task: Task): boolean {
  const state = task.status?.state ?? TaskState.NEW;
  if (state < TaskState.PENDING || state > TaskState.RUNNING) return false;
  return state >= TaskState.ASSIGNED || task.desired_state <= TaskState.COMPLETE;
}

/** Whether a task waits for its addresses. */
export function awaitsAllocation(task: Task): boolean {
  return (task.status?.state ?? TaskState.NEW) === TaskState.NEW && task.desired_state <= TaskState.COMPLETE;
}

/**
 * Everything handed out in the cluster: kept by the leader, and the same as what the stored objects tell, so that a new
 * leader (and this one, when a write failed) makes it anew from them.
 */
export class AllocatorState {
  readonly ports = new PortTable();
  readonly vnis: SerialSet = newVniSet();
  readonly #networks = new Map<string, NetworkState>();
  readonly #holdings = new Map<string, Holding>();
  readonly #log: Logger;

  constructor(log: Logger) {
    this.#log = log;
  }

  /** @returns the state that the stored objects tell. */
  static rebuild(view: ReadView, log: Logger): AllocatorState {
    const state = new AllocatorState(log);
    for (const network of view.list('network')) state.adoptNetwork(network);
    for (const service of view.list('service')) state.adoptService(service);
    for (const task of view.list('task')) state.adoptTask(task);
    return state;
  }

  network(id: string): NetworkState | undefined {
    return this.#networks.get(id);
  }

  addNetwork(network: NetworkState): void {
    this.#networks.set(network.id, network);
  }

  /** Subnets of all networks but one. */
  subnets(exceptId: string): Subnet[] {
    return [...this.#networks.values()]
      .filter((network) => network.id !== exceptId)
      .flatMap((network) => network.pools.map((pool) => pool.subnet));
  }

  /** Takes over what a stored network has. Idempotent. */
  adoptNetwork(network: Network): void {
    if (!isAllocated(network) || !isAddressed(network) || this.#networks.has(network.id)) return;
    try {
      const pools = (network.ipam?.configs ?? []).map((config) => new AddressPool(config));
      const vnis = parseVnis(network.driver_state?.options[VNI_OPTION] ?? '');
      for (const vni of vnis) {
        this.vnis.add(vni);
        this.vnis.continueAfter(vni);
      }
      this.#networks.set(network.id, { id: network.id, name: networkName(network), pools, vnis });
    } catch (error) {
      this.#log.error('a stored network cannot be read', { network: network.id, error });
    }
  }

  /** Takes over what a stored service has. Idempotent. */
  adoptService(service: Service): void {
    for (const port of service.endpoint?.ports ?? []) {
      if (port.publish_mode !== PortConfig_PublishMode.INGRESS || port.published_port === 0) continue;
      if (this.ports.restore(port.protocol, port.published_port, port.host_ip, service.id)) continue;
      this.#log.error('two services have one published port', { service: service.id, port: port.published_port });
    }
    for (const vip of service.endpoint?.virtual_ips ?? []) this.#adopt(service.id, vip.network_id, vip.addr);
  }

  /** Takes over what a stored task has. Idempotent. */
  adoptTask(task: Task): void {
    if (!holdsAddresses(task)) return;
    for (const attachment of task.networks) {
      for (const address of attachment.addresses) this.#adopt(task.id, attachment.network?.id ?? '', address);
    }
  }

  #adopt(ownerId: string, networkId: string, address: string): void {
    const pool = this.#networks.get(networkId)?.pools.find((candidate) => candidate.covers(address));
    if (pool === undefined || this.holds(ownerId, networkId, address)) return;
    if (pool.restore(address)) this.#hold(ownerId, networkId, address);
    else this.#log.error('an address is in use twice', { owner: ownerId, network: networkId, address });
  }

  holds(ownerId: string, networkId: string, address: string): boolean {
    const held = this.#holdings.get(ownerId)?.addresses ?? [];
    return held.some((entry) => entry.networkId === networkId && entry.address === address);
  }

  #hold(ownerId: string, networkId: string, address: string): void {
    const holding = this.#holdings.get(ownerId);
    if (holding === undefined) this.#holdings.set(ownerId, { addresses: [{ networkId, address }] });
    else holding.addresses.push({ networkId, address });
  }

  /** The next free address of one family on a network, given to the owner; undefined when all are in use. */
  takeAddress(network: NetworkState, ownerId: string, bits: 32 | 128): string | undefined {
    for (const pool of network.pools) {
      const address = pool.subnet.bits === bits ? pool.allocate() : undefined;
      if (address === undefined) continue;
      this.#hold(ownerId, network.id, address);
      return address;
    }
    return undefined;
  }

  /** A certain address, given to the owner; undefined when it is of no subnet of the network or in use. */
  takeRequested(network: NetworkState, ownerId: string, text: string): string | undefined {
    const pool = network.pools.find((candidate) => candidate.covers(text));
    const address = pool?.canonical(text);
    if (pool === undefined || address === undefined || !pool.reserve(address)) return undefined;
    this.#hold(ownerId, network.id, address);
    return address;
  }

  /** Gives one address back. */
  releaseAddress(ownerId: string, networkId: string, address: string): void {
    const holding = this.#holdings.get(ownerId);
    const at =
      holding?.addresses.findIndex((entry) => entry.networkId === networkId && entry.address === address) ?? -1;
    if (holding === undefined || at < 0) return;
    holding.addresses.splice(at, 1);
    if (holding.addresses.length === 0) this.#holdings.delete(ownerId);
    for (const pool of this.#networks.get(networkId)?.pools ?? []) if (pool.release(address)) return;
  }

  /** Gives back every address of a service or task; whether it had any. */
  releaseOwner(ownerId: string): boolean {
    const holding = this.#holdings.get(ownerId);
    if (holding === undefined) return false;
    for (const { networkId, address } of [...holding.addresses]) this.releaseAddress(ownerId, networkId, address);
    return true;
  }

  releaseService(service: Service): boolean {
    let released = this.releaseOwner(service.id);
    for (const port of service.endpoint?.ports ?? []) {
      if (this.ports.release(port.protocol, port.published_port, service.id)) released = true;
    }
    return released;
  }

  releaseNetwork(networkId: string): boolean {
    const network = this.#networks.get(networkId);
    if (network === undefined) return false;
    for (const vni of network.vnis) this.vnis.delete(vni);
    return this.#networks.delete(networkId);
  }

  /** Everything handed out, sorted; for comparing a live state with a rebuilt one. */
  dump(): string[] {
    const lines = this.ports.dump().map((line) => `port ${line}`);
    for (const vni of this.vnis.values()) lines.push(`vni ${vni}`);
    for (const { id, pools } of this.#networks.values()) {
      for (const pool of pools) for (const address of pool.used()) lines.push(`address ${id} ${address}`);
    }
    for (const [owner, { addresses }] of this.#holdings) {
      for (const { networkId, address } of addresses) lines.push(`holding ${owner} ${networkId} ${address}`);
    }
    return lines.sort();
  }
}
