import { errorMessage, invalidArgument, ShoalError } from '../../base/index.ts';
import { Driver, IPAMConfig, IPAMConfig_AddressFamily, IPAMOptions, type Network } from '../../proto/index.ts';
import type { ReadView } from '../store/types.ts';
import { chooseForNetwork } from './address-pools.ts';
import { bitsOf, formatSubnet, overlaps } from './address.ts';
import { AddressPool } from './ipam.ts';
import { isAddressed, networkName, OVERLAY_DRIVER, type AllocatorState } from './state.ts';
import { parseVnis, VNI_OPTION } from './vni.ts';

const IPAM_DRIVER = 'default';

/** A new object to store, or why there is none. */
export type Outcome<T> = { object: T } | { err: string };

interface Subnets {
  pools: AddressPool[];
  configs: IPAMConfig[];
}

/** Families that the network shall have: IPv4 always, IPv6 when it is wished or a subnet of it is given. */
function wantedConfigs(network: Network): IPAMConfig[] {
  const asked = network.spec?.ipam?.configs ?? [];
  const has = (bits: 32 | 128): boolean => asked.some((config) => familyOf(config) === bits);
  const wanted = has(32) ? [...asked] : [IPAMConfig.create({ family: IPAMConfig_AddressFamily.IPV4 }), ...asked];
  if (network.spec?.ipv6_enabled === true && !has(128)) {
    wanted.push(IPAMConfig.create({ family: IPAMConfig_AddressFamily.IPV6 }));
  }
  return wanted;
}

function familyOf(config: IPAMConfig): 32 | 128 {
  if (config.subnet !== '') return bitsOf(config.subnet);
  return config.family === IPAMConfig_AddressFamily.IPV6 ? 128 : 32;
}

/** The network's subnets: the given ones, checked, and one from the pools for each family of which none is given. */
function allocateSubnets(state: AllocatorState, view: ReadView, network: Network): Subnets {
  const others = state.subnets(network.id);
  const pools: AddressPool[] = [];
  const configs: IPAMConfig[] = [];
  for (const config of wantedConfigs(network)) {
    const avoid = [...others, ...pools.map((pool) => pool.subnet)];
    const subnet = config.subnet === '' ? chooseForNetwork(view, familyOf(config), avoid) : config.subnet;
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

/** VXLAN ids, one per IPv4 subnet (IPv6 goes with the first); those that the user names are taken when they are free. */
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
    const segments = pools.filter((pool) => pool.subnet.bits === 32).length;
    const vnis = allocateVnis(state, segments, parseVnis(options[VNI_OPTION] ?? ''));
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
