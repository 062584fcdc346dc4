import { canonicalIp, maskLength } from './ip.ts';
import { contains, formatIp, macOf, parseIp, parsePrefix } from './ip4.ts';
import { ip6Switches, loopback6Op } from './ip6-switches.ts';
import type { Op } from './kernel/ops.ts';
import { BRIDGE_LINK, HOST_LINK, LOCAL_ENTRY_TABLE, type OverlayFacts } from './plan.ts';

const HOST_RULE_PRIORITY = 20_010;
/** Marks of Shoal begin with this byte; the daemon's tag makes the rest. */
const MARK_BASE = 0x5a000000;
/** Blocks of four addresses in 169.254.0.0/16; the first and last 256 addresses are reserved (RFC 3927 2.1). */
const BLOCK_FIRST = 64;
const BLOCK_COUNT = 16_256;
/** Where clouds keep their metadata service. */
const METADATA = '169.254.169.254';

/** Names, numbers and addresses by which one daemon joins its host to its ingress namespace. */
export interface IngressWiring {
  hostLink: string;
  hostAddress: string;
  innerAddress: string;
  /** The same for IPv6, of the unique local range (RFC 4193). */
  hostAddress6: string;
  innerAddress6: string;
  /** Packet mark (and route table) of what goes into the namespace; even, so `mark + 1` is its hairpin form. */
  mark: number;
}

/** FNV-1a, 32 bits. */
export function hash32(text: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193) >>> 0;
  return hash;
}

/** A network of the unique local range that belongs to one daemon. */
export function ulaOf(hash: number): string {
  return `fd5a:${(hash >>> 16).toString(16)}:${(hash & 0xffff).toString(16)}`;
}

export function ingressWiring(tag: string): IngressWiring {
  const hash = hash32(tag);
  let block = BLOCK_FIRST + (hash % BLOCK_COUNT);
  const baseOf = (index: number): number => parseIp('169.254.0.0') + index * 4;
  if (contains({ base: baseOf(block), length: 30 }, parseIp(METADATA))) block++;
  return {
    hostLink: `sh${tag}i`,
    hostAddress: formatIp(baseOf(block) + 1),
    innerAddress: formatIp(baseOf(block) + 2),
    hostAddress6: canonicalIp(`${ulaOf(hash)}::1`),
    innerAddress6: canonicalIp(`${ulaOf(hash)}::2`),
    mark: MARK_BASE + (hash % 0x7fffff) * 2,
  };
}

/** Inside the ingress namespace: the gateway of its tasks, and routes back to the host. */
export function innerOps(facts: OverlayFacts, wiring: IngressWiring, mtu: number): Op[] {
  const { length } = parsePrefix(facts.subnet);
  const toHost = { to: '0.0.0.0/0', via: wiring.hostAddress, dev: HOST_LINK };
  return [
    { kind: 'sysctl', path: 'net/ipv4/ip_forward', value: '1' },
    { kind: 'sysctl', path: 'net/ipv4/conf/all/rp_filter', value: '0' },
    { kind: 'sysctl', path: 'net/ipv4/conf/default/rp_filter', value: '0' },
    { kind: 'bridge', name: BRIDGE_LINK, mac: macOf(facts.gateway), mtu },
    { kind: 'sysctl', path: `net/ipv4/conf/${BRIDGE_LINK}/proxy_arp`, value: '1' },
    { kind: 'sysctl', path: `net/ipv4/conf/${BRIDGE_LINK}/send_redirects`, value: '0' },
    { kind: 'addr', dev: BRIDGE_LINK, address: `${facts.gateway}/${length}` },
    { kind: 'link', name: HOST_LINK, up: true },
    { kind: 'addr', dev: HOST_LINK, address: `${wiring.innerAddress}/30` },
    { kind: 'route', ...toHost },
    { kind: 'route', ...toHost, table: LOCAL_ENTRY_TABLE },
    ...(facts.subnet6 === '' ? [] : innerOps6(facts, wiring)),
    ...facts.moreSubnets.map((to): Op => ({ kind: 'route', to, dev: BRIDGE_LINK })),
  ];
}

function innerOps6(facts: OverlayFacts, wiring: IngressWiring): Op[] {
  const toHost = { to: '::/0', via: wiring.hostAddress6, dev: HOST_LINK };
  return [
    { kind: 'sysctl', path: 'net/ipv6/conf/all/forwarding', value: '1' },
    ...ip6Switches(BRIDGE_LINK),
    { kind: 'addr', dev: BRIDGE_LINK, address: `${facts.gateway6}/${maskLength(facts.subnet6)}` },
    ...ip6Switches(HOST_LINK),
    { kind: 'addr', dev: HOST_LINK, address: `${wiring.innerAddress6}/126` },
    { kind: 'route', ...toHost },
    { kind: 'route', ...toHost, table: LOCAL_ENTRY_TABLE },
  ];
}

/**
 * In the host's namespace, before `innerOps`. @param strict whether the host filters by reverse path.
 * @param six the network has IPv6.
 */
export function hostOps(wiring: IngressWiring, namespace: string, mtu: number, strict: boolean, six: boolean): Op[] {
  const { hostLink, hostAddress, innerAddress, mark } = wiring;
  return [
    { kind: 'veth', name: hostLink, mtu, peer: { name: HOST_LINK, namespace } },
    { kind: 'addr', dev: hostLink, address: `${hostAddress}/30` },
    // Replies come from addresses that the host has no plain route to.
    { kind: 'sysctl', path: `net/ipv4/conf/${hostLink}/rp_filter`, value: strict ? '2' : '0' },
    // Clients on 127.0.0.1 are masqueraded behind this link; their replies are turned back to it.
    { kind: 'sysctl', path: `net/ipv4/conf/${hostLink}/route_localnet`, value: '1' },
    { kind: 'route', to: '0.0.0.0/0', via: innerAddress, dev: hostLink, table: mark },
    { kind: 'rule', mark, table: mark, priority: HOST_RULE_PRIORITY },
    ...(six ? hostOps6(wiring) : []),
  ];
}

function hostOps6(wiring: IngressWiring): Op[] {
  const { hostLink, hostAddress6, innerAddress6, mark } = wiring;
  return [
    ...ip6Switches(hostLink),
    { kind: 'addr', dev: hostLink, address: `${hostAddress6}/126` },
    loopback6Op(hostLink),
    { kind: 'route', to: '::/0', via: innerAddress6, dev: hostLink, table: mark },
    { kind: 'rule', family: 6, mark, table: mark, priority: HOST_RULE_PRIORITY },
  ];
}

/** Takes away what `hostOps` made beyond the link. */
export function undoHostOps(wiring: IngressWiring, six: boolean): Op[] {
  const { hostLink, mark } = wiring;
  const rule = { kind: 'rule', del: true, mark, table: mark, priority: HOST_RULE_PRIORITY } as const;
  return [rule, ...(six ? [{ ...rule, family: 6 } as const] : []), { kind: 'link-del', name: hostLink }];
}
