import { hashBytes } from './ip.ts';
import type { Op } from './kernel/ops.ts';

/**
 * Turns IPv6 on for one link, before it is up. Its addresses and routes are ours alone: nothing is learnt from router
 * advertisements, and no address waits for the detection of duplicates. @param linkLocal whether the kernel gives it one
 */
export function ip6Switches(link: string, linkLocal = true): Op[] {
  const set = (name: string, value: string): Op => ({
    kind: 'sysctl',
    path: `net/ipv6/conf/${link}/${name}`,
    value,
  });
  return [
    set('accept_ra', '0'),
    set('autoconf', '0'),
    set('router_solicitations', '0'),
    set('accept_redirects', '0'),
    set('accept_dad', '0'),
    set('dad_transmits', '0'),
    ...(linkLocal ? [] : [set('addr_gen_mode', '1')]),
    set('disable_ipv6', '0'),
  ];
}

const TABLE_LOCAL = 255;
const METRIC_BASE = 0x10000;

/**
 * Clients on ::1 of published ports are masqueraded behind a link; the kernel takes the replies, turned back to ::1, only
 * by a link that has a route to it (never by a bridge whose frames pass the host's rules: see loopback6.ts). Packets that say ::1 on the wire are dropped before any rule. The metric is the
 * link's own, so that links do not replace each other's route; the loopback link's comes first.
 */
export function loopback6Op(link: string): Op {
  const metric = METRIC_BASE + (hashBytes(Buffer.from(link)) & 0xffff);
  return { kind: 'route', to: '::1/128', dev: link, table: TABLE_LOCAL, local: true, metric };
}
