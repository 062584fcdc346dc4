import { networkInterfaces, type NetworkInterfaceInfo } from 'node:os';
import { formatSubnet, parseSubnet } from '../manager/index.ts';

/** Links that engines make, by the beginning of their name: their subnets are a matter of their host alone. */
const OWN_LINKS = /^(lo$|sh|docker|br-|veth|vxlan|vx-|wg)/;
/** Subnets that a node tells of at most. */
const SUBNETS_MAX = 32;

/** Link-local addresses are on every link and in nobody's way. */
const isLinkLocal = (cidr: string): boolean => /^(fe[89ab][0-9a-f]:|169\.254\.)/i.test(cidr);

/**
 * Subnets that this host is in, in CIDR form, sorted: managers keep the networks of the swarm off them. Those of
 * containers' links are left out.
 */
export function hostSubnets(interfaces: NodeJS.Dict<NetworkInterfaceInfo[]> = networkInterfaces()): string[] {
  const found = new Set<string>();
  for (const [name, addresses] of Object.entries(interfaces)) {
    if (OWN_LINKS.test(name)) continue;
    for (const { cidr, internal } of addresses ?? []) {
      if (cidr !== null && !internal && !isLinkLocal(cidr)) {
        // Not the address: it may change from hour to hour (RFC 8981), the subnet does not.
        found.add(formatSubnet(parseSubnet(cidr)));
      }
    }
  }
  return [...found].sort().slice(0, SUBNETS_MAX);
}
