import { createHash } from 'node:crypto';
import { invalidArgument, ShoalError } from '../../base/index.ts';
import type { Cluster, Node } from '../../proto/index.ts';
import type { ReadView } from '../store/types.ts';
import {
  formatAddress,
  formatSubnet,
  overlaps,
  parseAddress,
  parseSubnet,
  withoutPrefix,
  type Subnet,
} from './address.ts';
import { chooseSubnet } from './ipam.ts';

/** Docker's default address pool for overlay networks, and the prefix length of what is cut from it. */
export const DEFAULT_ADDRESS_POOL = '10.0.0.0/8';
export const DEFAULT_SUBNET_PREFIX = 24;
/** Prefix lengths that IPv4 subnets of the pools may have. */
const SUBNET_PREFIX_MIN = 8;
const SUBNET_PREFIX_MAX = 30;
/** Prefix length of IPv6 subnets (RFC 4291 §2.5.1); smaller pools are cut into 2^16 parts where they have room. */
const SUBNET6_PREFIX = 64;
const SUBNET6_PREFIX_MAX = 112;
/** Address pools that a cluster can have. */
const POOLS_MAX = 64;

/** Where the networks of a cluster get their subnets when they name none. */
export interface AddressPools {
  /** Subnets of both families; a family that is missing has its default. */
  pools: readonly string[];
  /** Prefix length of IPv4 subnets; 0 means the default. */
  subnetPrefix: number;
}

/**
 * The pool of unique local addresses (RFC 4193 §3.2) of a cluster that has no IPv6 pool of its own: a /48 whose global
 * id comes from the cluster's id, so that clusters that meet one day do not collide.
 */
export function uniqueLocalPool(clusterId: string): string {
  const hash = createHash('sha256').update(`shoal networks of cluster ${clusterId}`).digest();
  const globalId = BigInt(`0x${hash.subarray(0, 5).toString('hex')}`);
  return formatSubnet({ bits: 128, base: (0xfdn << 120n) | (globalId << 80n), prefix: 48 });
}

/** The pools of one family, and the prefix length of what is cut from each. */
function poolsOf(cluster: Cluster | undefined, bits: 32 | 128): { pools: string[]; prefix: (pool: Subnet) => number } {
  const configured = (cluster?.defaultAddressPool ?? []).filter((pool) => parseSubnet(pool).bits === bits);
  if (bits === 32) {
    const prefix = (cluster?.subnetSize ?? 0) === 0 ? DEFAULT_SUBNET_PREFIX : (cluster?.subnetSize ?? 0);
    return { pools: configured.length > 0 ? configured : [DEFAULT_ADDRESS_POOL], prefix: () => prefix };
  }
  return {
    pools: configured.length > 0 ? configured : [uniqueLocalPool(cluster?.id ?? '')],
    prefix: (pool) => (pool.prefix < SUBNET6_PREFIX ? SUBNET6_PREFIX : Math.min(pool.prefix + 16, SUBNET6_PREFIX_MAX)),
  };
}

function tryPick(cluster: Cluster | undefined, bits: 32 | 128, avoid: readonly Subnet[]): string | undefined {
  const { pools, prefix } = poolsOf(cluster, bits);
  for (const pool of pools) {
    const subnet = chooseSubnet([pool], prefix(parseSubnet(pool)), avoid);
    if (subnet !== undefined) return formatSubnet(subnet);
  }
  return undefined;
}

/**
 * A free subnet of the cluster's pools.
 * @throws ShoalError ResourceExhausted when there is none.
 */
function pickSubnet(cluster: Cluster | undefined, bits: 32 | 128, avoid: readonly Subnet[]): string {
  const subnet = tryPick(cluster, bits, avoid);
  if (subnet !== undefined) return subnet;
  const { pools, prefix } = poolsOf(cluster, bits);
  const sizes = [...new Set(pools.map((pool) => `/${prefix(parseSubnet(pool))}`))].join(' or ');
  throw new ShoalError(
    'ResourceExhausted',
    `no free ${sizes} subnet is left in the default address pool ${pools.join(', ')}: remove unused networks, ` +
      'give the network a subnet of its own, or add a pool with `shoal swarm update --default-addr-pool`',
  );
}

/** The subnet that an address alone is, and that of an address with prefix; undefined when the text is neither. */
function subnetOf(text: string): Subnet | undefined {
  const bare = text.startsWith('[') ? text.slice(1, text.indexOf(']')) : text;
  const v4 = /^(\d+\.\d+\.\d+\.\d+)(:\d+)?$/.exec(bare)?.[1];
  const address = parseAddress(withoutPrefix(v4 ?? bare));
  if (address === undefined) return undefined;
  if (!bare.includes('/')) return { bits: address.bits, base: address.value, prefix: address.bits };
  try {
    return parseSubnet(bare);
  } catch {
    return undefined;
  }
}

/** Addresses by which other nodes reach a node. */
function addressesOf(node: Node): Subnet[] {
  const texts = [node.status?.addr, node.description?.data_path_addr, node.manager_status?.addr];
  return texts.map((text) => subnetOf(text ?? '')).filter((subnet) => subnet !== undefined);
}

function subnetsOf(node: Node): Subnet[] {
  return (node.description?.host_subnets ?? []).map(subnetOf).filter((subnet) => subnet !== undefined);
}

/**
 * A free subnet for a network that names none. It keeps off the subnets that the nodes say they are in, since a network
 * on top of one would hide the hosts, or what is near them, from its tasks; where hosts fill all of the pools (10.0.0.0/8
 * is one LAN), at least off the addresses of nodes.
 * @param avoid subnets of other networks.
 * @throws ShoalError ResourceExhausted
 */
export function chooseForNetwork(view: ReadView, bits: 32 | 128, avoid: readonly Subnet[]): string {
  const cluster = view.list('cluster')[0];
  const nodes = view.list('node');
  const addresses = [...avoid, ...nodes.flatMap(addressesOf)];
  const all = [...addresses, ...nodes.flatMap(subnetsOf)];
  return tryPick(cluster, bits, all) ?? pickSubnet(cluster, bits, addresses);
}

/** The node that has an address in the subnet, and the address. */
export function nodeInside(view: ReadView, subnet: Subnet): { node: Node; address: string } | undefined {
  for (const node of view.list('node')) {
    const hit = addressesOf(node).find((address) => overlaps(subnet, address));
    if (hit !== undefined) return { node, address: formatAddress({ bits: hit.bits, value: hit.base }) };
  }
  return undefined;
}

/**
 * Checks the address pools of a cluster.
 * @throws ShoalError InvalidArgument that says what is wrong with which pool.
 */
export function checkAddressPools({ pools, subnetPrefix }: AddressPools): void {
  if (pools.length > POOLS_MAX) throw invalidArgument(`at most ${POOLS_MAX} default address pools can be given`);
  if (subnetPrefix !== 0 && (subnetPrefix < SUBNET_PREFIX_MIN || subnetPrefix > SUBNET_PREFIX_MAX)) {
    throw invalidArgument(
      `subnet size is out of range: ${subnetPrefix} is not between ${SUBNET_PREFIX_MIN} and ${SUBNET_PREFIX_MAX}`,
    );
  }
  const prefix = subnetPrefix === 0 ? DEFAULT_SUBNET_PREFIX : subnetPrefix;
  const parsed: Subnet[] = [];
  for (const text of pools) {
    const pool = parseSubnet(text);
    const most = pool.bits === 32 ? prefix : SUBNET6_PREFIX_MAX;
    if (pool.prefix > most) {
      throw invalidArgument(`default address pool ${text} is too small: its prefix may be at most ${most}`);
    }
    const rival = parsed.find((other) => overlaps(other, pool));
    if (rival !== undefined) {
      throw invalidArgument(`default address pool ${text} overlaps with ${formatSubnet(rival)}`);
    }
    parsed.push(pool);
  }
}
