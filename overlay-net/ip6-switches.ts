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
    set('accept_dad', '0'),
    set('dad_transmits', '0'),
    ...(linkLocal ? [] : [set('addr_gen_mode', '1')]),
    set('disable_ipv6', '0'),
  ];
}
