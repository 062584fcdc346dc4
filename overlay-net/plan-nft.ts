/** nftables rule sets as text (nft(8)). Pure, as plan.ts. */
import { idOfIp, macOf } from './ip.ts';
import { BRIDGE_LINK, HOST_LINK, LOCAL_ENTRY_MARK, VXLAN_LINK } from './plan.ts';
import type { NftFamily } from './published.ts';

/** Table of Shoal inside namespaces of its own. */
export const INNER_TABLE = 'shoal';

export function chain(name: string, lines: readonly string[]): string[] {
  return [`  chain ${name} {`, ...lines.map((line) => `    ${line}`), '  }'];
}

/** Replaces a whole table in one transaction; connections go on, since their NAT is kept with each connection. */
export function wholeTable(name: string, body: readonly string[], fresh = false, family: NftFamily = 'ip'): string {
  const before = fresh ? [] : [`add table ${family} ${name}`, `delete table ${family} ${name}`];
  return [...before, `table ${family} ${name} {`, ...body, '}', ''].join('\n');
}

/**
 * The ingress namespace's tables: connections remember the host they entered by, replies are marked with it.
 * @param six the network has IPv6.
 */
export function ingressTable(peers: readonly string[], six = false): string {
  return `${ingressFamilyTable(peers, 'ip')}${six ? ingressFamilyTable(peers, 'ip6') : ''}`;
}

function ingressFamilyTable(peers: readonly string[], family: NftFamily): string {
  const hex = (vtep: string): string => `0x${idOfIp(vtep).toString(16).padStart(8, '0')}`;
  const elements = peers.map((vtep) => `${macOf(vtep)} : ${hex(vtep)}`);
  const body = [
    '  map entry {',
    '    type ether_addr : mark',
    ...(elements.length === 0 ? [] : [`    elements = { ${elements.join(', ')} }`]),
    '  }',
    ...chain('prerouting', [
      'type filter hook prerouting priority mangle; policy accept;',
      `ct state new iifname "${HOST_LINK}" ct mark set ${LOCAL_ENTRY_MARK}`,
      `ct state new iifname "${VXLAN_LINK}" ct mark set ether saddr map @entry`,
      'ct direction reply ct mark != 0 meta mark set ct mark',
    ]),
    ...chain('forward', [
      'type filter hook forward priority filter; policy accept;',
      `iifname "${HOST_LINK}" oifname != { "${BRIDGE_LINK}", "${VXLAN_LINK}" } drop`,
    ]),
  ];
  return wholeTable(INNER_TABLE, body, false, family);
}
