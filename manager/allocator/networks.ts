import { errorMessage, invalidArgument, ShoalError } from '../../base/index.ts';
import {
  Driver,
  IPAMConfig,
  IPAMConfig_AddressFamily,
  IPAMOptions,
  type Cluster,
  type Network,
} from '../../proto/index.ts';
import type { ReadView } from '../store/types.ts';
import { formatSubnet, overlaps, parseAddress, type Subnet } from './address.ts';
import { AddressPool, chooseSubnet, DEFAULT_ADDRESS_POOL, DEFAULT_SUBNET_PREFIX } from './ipam.ts';
import { isAddressed, networkName, OVERLAY_DRIVER, type AllocatorState } from './state.ts';
import { parseVnis, VNI_OPTION } from './vni.ts';

const IPAM_DRIVER = 'default';

/** A new object to store, or why there is none. */
export type Outcome<T> = { object: T } | { err: string };

function subnetOfAddress(text: string): Subnet | undefined {
  const address = parseAddress(text);
  return address === undefined ? undefined : { bits: address.bits, base: address.value, prefix: address.bits };
}

/** Addresses of the hosts: a network on top of one of them would cut it off. */
function hostAddresses(view: ReadView): Subnet[] {
  return view
    .list('node')
    .map((node) => subnetOfAddress(node.status?.addr ?? ''))
    .filter((subnet) => subnet !== undefined);
}

function pickSubnet(cluster: Cluster | undefined, avoid: readonly Subnet[]): string {
  const configured = cluster?.defaultAddressPool ?? [];
  const pools = configured.length > 0 ? configured : [DEFAULT_ADDRESS_POOL];
  const prefix = (cluster?.subnetSize ?? 0) === 0 ? DEFAULT_SUBNET_PREFIX : (cluster?.subnetSize ?? 0);
  const subnet = chooseSubnet(pools, prefix, avoid);
  if (subnet !== undefined) return formatSubnet(subnet);
  throw new ShoalError(
    'ResourceExhausted',
    `no free /${prefix} subnet is left in the default address pool ${pools.join(', ')}: ` +
      'remove unused networks, or give the network a subnet of its own',
  );
}

interface Subnets {
  pools: AddressPool[];
  configs: IPAMConfig[];
}

/** The network's subnets: the given ones, checked, and one from the pool when none is given. */
function allocateSubnets(state: AllocatorState, view: ReadView, network: Network): Subnets {
  const others = state.subnets(network.id);
  const asked = network.spec?.ipam?.configs ?? [];
  const given = asked.length > 0 ? asked : [IPAMConfig.create({})];
  const pools: AddressPool[] = [];
  const configs: IPAMConfig[] = [];
  for (const config of given) {
    const avoid = [...others, ...pools.map((pool) => pool.subnet)];
    const chosen = config.subnet === '';
    const subnet = chosen ? pickSubnet(view.list('cluster')[0], [...avoid, ...hostAddresses(view)]) : config.subnet;
    const pool = new AddressPool({ ...config, subnet });
    const rival = avoid.find((other) => overlaps(pool.subnet, other));
    if (rival !== undefined) {
      throw invalidArgument(`Pool overlaps with other one on this address space: ${subnet} and ${formatSubnet(rival)}`);
    }
    pools.push(pool);
    const family = pool.subnet.bits === 32 ? IPAMConfig_AddressFamily.IPV4 : IPAMConfig_AddressFamily.IPV6;
    configs.push({ ...config, family, subnet: formatSubnet(pool.subnet), gateway: pool.gateway });
  }
  return { pools, configs };
}

/** One VXLAN id per subnet; those that the user names are taken when they are free. */
function allocateVnis(state: AllocatorState, count: number, asked: readonly number[]): number[] {
  const taken: number[] = [];
  const fail = (message: string): never => {
    for (const vni of taken) state.vnis.delete(vni);
    throw invalidArgument(message);
  };
  for (const vni of asked.slice(0, count)) {
    if (!state.vnis.add(vni)) fail(`VXLAN id ${vni} is already in use by another network`);
    taken.push(vni);
  }
  while (taken.length < count) {
    const vni = state.vnis.take() ?? fail('no VXLAN ids are left: remove unused networks');
    taken.push(vni);
  }
  return taken;
}

/** A network of each host alone: its driver is handed on, nothing is allocated. */
function hostLocal(network: Network): Network {
  const spec = network.spec;
  return {
    ...network,
    driver_state: Driver.create({
      name: spec?.driver_config?.name ?? '',
      options: spec?.driver_config?.options ?? {},
    }),
    ipam: IPAMOptions.create({
      driver: spec?.ipam?.driver ?? { name: IPAM_DRIVER },
      configs: spec?.ipam?.configs ?? [],
    }),
  };
}

/** Gives a network its subnets and VXLAN ids (swarmkit.md §1.13 says which fields must be set). */
export function allocateNetwork(state: AllocatorState, view: ReadView, network: Network): Outcome<Network> {
  if (!isAddressed(network)) return { object: hostLocal(network) };
  try {
    const { pools, configs } = allocateSubnets(state, view, network);
    const options = network.spec?.driver_config?.options ?? {};
    const vnis = allocateVnis(state, pools.length, parseVnis(options[VNI_OPTION] ?? ''));
    state.addNetwork({ id: network.id, name: networkName(network), pools, vnis });
    const driver_state = Driver.create({
      name: OVERLAY_DRIVER,
      options: { ...options, [VNI_OPTION]: vnis.join(',') },
    });
    const driver = network.spec?.ipam?.driver;
    const name = driver?.name === undefined || driver.name === '' ? IPAM_DRIVER : driver.name;
    const ipam = IPAMOptions.create({ driver: { name, options: driver?.options ?? {} }, configs });
    return { object: { ...network, driver_state, ipam } };
  } catch (error) {
    if (!(error instanceof ShoalError)) throw error;
    return { err: `network ${networkName(network)}: ${errorMessage(error)}` };
  }
}
