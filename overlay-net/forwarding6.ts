import { readdirSync } from 'node:fs';
import { readFileIfExists } from '../base/index.ts';
import type { Op } from './kernel/ops.ts';

const CONF = '/proc/sys/net/ipv6/conf';

function read(link: string, name: string): string {
  return (readFileIfExists(`${CONF}/${link}/${name}`) ?? '').trim();
}

/**
 * Lets this host forward IPv6. A forwarding host takes no router advertisements any more unless told to (accept_ra 2),
 * and would lose its own default route with them; so links that took them go on doing so.
 */
export function forwarding6Ops(): Op[] {
  let links: string[];
  try {
    links = readdirSync(CONF);
  } catch {
    return [];
  }
  if (read('all', 'forwarding') === '1') return [];
  const told = links.filter((link) => link !== 'all' && read(link, 'accept_ra') === '1');
  return [
    ...told.map((link): Op => ({ kind: 'sysctl', path: `net/ipv6/conf/${link}/accept_ra`, value: '2' })),
    { kind: 'sysctl', path: 'net/ipv6/conf/all/forwarding', value: '1' },
  ];
}

/** Whether this host speaks IPv6 at all: the kernel has it, and nobody turned it off for all links. */
export function hostHasIp6(): boolean {
  return read('all', 'disable_ipv6') === '0' && readFileIfExists('/proc/net/if_inet6') !== undefined;
}
