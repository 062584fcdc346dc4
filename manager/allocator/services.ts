import {
  Endpoint,
  EndpointSpec_ResolutionMode,
  PROTOCOL_NAMES,
  PortConfig_PublishMode,
  type Endpoint_VirtualIP,
  type Network,
  type NetworkAttachmentConfig,
  type PortConfig,
  type Service,
  type ServiceSpec,
  type TaskSpec,
} from '../../proto/index.ts';
import { publishAddressesOf, type PublishAddress } from '../settings/index.ts';
import { sameMessage } from '../store/dirty.ts';
import type { ReadView } from '../store/types.ts';
import { bitsOf, formatSubnet } from './address.ts';
import type { Outcome } from './networks.ts';
import { DYNAMIC_PORT_FIRST, DYNAMIC_PORT_LAST } from './ports.ts';
import { familiesOf, isAddressed, isAllocated, networkName, type AllocatorState, type NetworkState } from './state.ts';

/** A network that something is attached to, with what the user asked for there. */
export interface Attached {
  network: Network;
  config: NetworkAttachmentConfig | undefined;
}

/** Networks of a task template; those of the service when it names none (swarmkit.md §1.15). */
export function attachmentConfigs(
  spec: ServiceSpec | null | undefined,
  task: TaskSpec | null | undefined,
): readonly NetworkAttachmentConfig[] {
  return task !== null && task !== undefined && task.networks.length > 0 ? task.networks : (spec?.networks ?? []);
}

export function publishesIngress(ports: readonly PortConfig[]): boolean {
  return ports.some((port) => port.publish_mode === PortConfig_PublishMode.INGRESS);
}

function findNetwork(view: ReadView, target: string): Network | undefined {
  return view.get('network', target) ?? view.byName('network', target);
}

/** Finds attached networks, the ingress network first when it is needed. Each must be allocated. */
export function attachedNetworks(
  view: ReadView,
  configs: readonly NetworkAttachmentConfig[],
  ingress: boolean,
): Attached[] | { err: string } {
  const attached: Attached[] = [];
  if (ingress) {
    const network = view.list('network').find((candidate) => candidate.spec?.ingress === true);
    if (network === undefined) {
      return { err: 'no ingress network: create one with `docker network create --ingress`, or publish in host mode' };
    }
    attached.push({ network, config: undefined });
  }
  for (const config of configs) {
    const network = findNetwork(view, config.target);
    if (network === undefined) return { err: `network ${config.target} not found` };
    if (!attached.some((other) => other.network.id === network.id)) attached.push({ network, config });
  }
  const pending = attached.find(({ network }) => !isAllocated(network));
  return pending === undefined ? attached : { err: `network ${networkName(pending.network)} has no subnet yet` };
}

/** What users read when a network has no address of a family left. */
export function exhausted(network: NetworkState, bits: 32 | 128): string {
  const pools = network.pools.filter((pool) => pool.subnet.bits === bits);
  const subnets = pools.map((pool) => formatSubnet(pool.subnet)).join(', ');
  const usable = pools.reduce((sum, pool) => sum + pool.usable, 0);
  return (
    `network ${network.name} (${subnets}) has no free address: ${usable} of ${usable} in use; ` +
    'remove tasks or services from it, or use a network with a larger subnet'
  );
}

interface Undo {
  run: (() => void)[];
}

/** Addresses of a service, one per network and family in VIP mode; those that it has already stay. */
function allocateVips(
  state: AllocatorState,
  service: Service,
  attached: readonly Attached[],
  undo: Undo,
): Endpoint_VirtualIP[] | { err: string } {
  const vips: Endpoint_VirtualIP[] = [];
  for (const { network } of attached) {
    if (!isAddressed(network)) continue;
    const held = state.network(network.id);
    if (held === undefined) return { err: `network ${networkName(network)} has no subnet yet` };
    const had = service.endpoint?.virtual_ips.filter(
      (vip) => vip.network_id === network.id && state.holds(service.id, network.id, vip.addr),
    );
    for (const bits of familiesOf(held)) {
      const former = had?.find((vip) => bitsOf(vip.addr) === bits);
      if (former !== undefined) {
        vips.push(former);
        continue;
      }
      const addr = state.takeAddress(held, service.id, bits);
      if (addr === undefined) return { err: exhausted(held, bits) };
      undo.run.push(() => state.releaseAddress(service.id, network.id, addr));
      vips.push({ network_id: network.id, addr });
    }
  }
  return vips;
}

/** The dynamic port that the service had for the same target, unless it stands for another one already. */
function formerPort(service: Service, port: PortConfig, taken: readonly PortConfig[]): number | undefined {
  return service.endpoint?.ports.find(
    (former) =>
      former.publish_mode === PortConfig_PublishMode.INGRESS &&
      former.protocol === port.protocol &&
      former.target_port === port.target_port &&
      former.published_port >= DYNAMIC_PORT_FIRST &&
      former.published_port <= DYNAMIC_PORT_LAST &&
      !taken.some((other) => other.protocol === former.protocol && other.published_port === former.published_port),
  )?.published_port;
}

function allocatePort(
  state: AllocatorState,
  view: ReadView,
  service: Service,
  port: PortConfig,
  taken: readonly PortConfig[],
): PortConfig | { err: string } {
  const { protocol } = port;
  const addresses = publishAddressesOf(service.spec?.annotations?.labels);
  const bound = (published: number): PortConfig => boundPort(addresses, { ...port, published_port: published });
  const number = port.published_port === 0 ? formerPort(service, port, taken) : port.published_port;
  if (number !== undefined) {
    const asked = bound(number);
    if (state.ports.claim(protocol, number, asked.host_ip, service.id)) return asked;
  }
  if (port.published_port !== 0) {
    const { host_ip } = bound(port.published_port);
    const owner = state.ports.rival(protocol, port.published_port, host_ip, service.id) ?? '';
    const name = view.get('service', owner)?.spec?.annotations?.name ?? owner;
    return {
      err: `port '${port.published_port}' is already in use by service '${name}' (${owner}) as an ingress port`,
    };
  }
  const dynamic = state.ports.takeDynamic(protocol, bound(0).host_ip, service.id);
  const range = `${DYNAMIC_PORT_FIRST}-${DYNAMIC_PORT_LAST}`;
  return dynamic === undefined
    ? { err: `no ${PROTOCOL_NAMES[protocol]} port of the dynamic range ${range} is free: publish a port by number` }
    : bound(dynamic);
}

/** A port with the address of the hosts that it is bound to, by itself or by the label of its service; empty: all. */
export function boundPort(addresses: readonly PublishAddress[], port: PortConfig): PortConfig {
  const protocol = PROTOCOL_NAMES[port.protocol];
  const own = addresses.find((one) => one.port === port.published_port && one.protocol === protocol);
  const label = own ?? addresses.find((one) => one.port === undefined);
  return { ...port, host_ip: port.host_ip || (label?.address ?? '') };
}

/** The service's ports with every published one known. Host-mode ports are a matter of the scheduler. */
function allocatePorts(
  state: AllocatorState,
  view: ReadView,
  service: Service,
  undo: Undo,
): PortConfig[] | { err: string } {
  const ports: PortConfig[] = [];
  // Ports that are named go first, so that no dynamic one takes their number.
  const wanted = service.spec?.endpoint?.ports ?? [];
  const order = [...wanted].sort((a, b) => Number(a.published_port === 0) - Number(b.published_port === 0));
  const chosen = new Map<PortConfig, PortConfig>();
  const held = new Map(
    (service.endpoint?.ports ?? []).map(({ protocol, published_port: port }) => [
      `${protocol}/${port}`,
      state.ports.addressOf(protocol, port, service.id),
    ]),
  );
  for (const port of order) {
    if (port.publish_mode !== PortConfig_PublishMode.INGRESS) continue;
    const given = allocatePort(state, view, service, port, ports);
    if ('err' in given) return given;
    const { protocol, published_port: number } = given;
    const former = held.get(`${protocol}/${number}`);
    undo.run.push(() => {
      if (former === undefined) state.ports.release(protocol, number, service.id);
      else state.ports.claim(protocol, number, former, service.id);
    });
    chosen.set(port, given);
    ports.push(given);
  }
  const addresses = publishAddressesOf(service.spec?.annotations?.labels);
  return wanted.map((port) => chosen.get(port) ?? boundPort(addresses, port));
}

/** Gives back what the service had and does not have any more; whether that was anything. */
function releaseFormer(state: AllocatorState, service: Service, endpoint: Endpoint): boolean {
  let released = false;
  for (const vip of service.endpoint?.virtual_ips ?? []) {
    if (endpoint.virtual_ips.some((kept) => kept.network_id === vip.network_id && kept.addr === vip.addr)) continue;
    state.releaseAddress(service.id, vip.network_id, vip.addr);
    released = true;
  }
  for (const port of service.endpoint?.ports ?? []) {
    const kept = endpoint.ports.find(
      (other) =>
        other.publish_mode === PortConfig_PublishMode.INGRESS &&
        other.protocol === port.protocol &&
        other.published_port === port.published_port,
    );
    if (kept === undefined && state.ports.release(port.protocol, port.published_port, service.id)) released = true;
    if (kept !== undefined && kept.host_ip !== port.host_ip) released = true;
  }
  return released;
}

/** A service's endpoint as its spec wants it. */
export type ServiceOutcome = Outcome<Service> & { released?: boolean; unchanged?: boolean };

/**
 * Gives a service its published ports and virtual addresses; what it has and still needs stays. On an error it keeps
 * everything it had.
 */
export function allocateService(state: AllocatorState, view: ReadView, service: Service): ServiceOutcome {
  const wanted = service.spec?.endpoint;
  const ingress = publishesIngress(wanted?.ports ?? []);
  const attached = attachedNetworks(view, attachmentConfigs(service.spec, service.spec?.task), ingress);
  if ('err' in attached) return attached;
  const undo: Undo = { run: [] };
  const fail = (err: string): ServiceOutcome => {
    for (const run of undo.run) run();
    return { err };
  };
  const ports = allocatePorts(state, view, service, undo);
  if ('err' in ports) return fail(ports.err);
  const usesVips = (wanted?.mode ?? EndpointSpec_ResolutionMode.VIP) === EndpointSpec_ResolutionMode.VIP;
  const vips = usesVips ? allocateVips(state, service, attached, undo) : [];
  if ('err' in vips) return fail(vips.err);
  const endpoint = Endpoint.create({ spec: wanted ?? null, ports, virtual_ips: vips });
  const released = releaseFormer(state, service, endpoint);
  if (sameMessage(endpoint, service.endpoint)) return { object: service, unchanged: true };
  return { object: { ...service, endpoint }, released };
}
