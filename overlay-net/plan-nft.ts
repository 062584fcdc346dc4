/** nftables rule sets as text (nft(8)). Pure, as plan.ts. */
import { BRIDGE_LINK, HOST_LINK, LOCAL_ENTRY_MARK, rotate, VXLAN_LINK } from './plan.ts';
import { macOf, parseIp } from './ip4.ts';
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

/** The ingress namespace's table: connections remember the host they entered by, replies are marked with it. */
export function ingressTable(peers: readonly string[]): string {
  const hex = (vtep: string): string => `0x${parseIp(vtep).toString(16).padStart(8, '0')}`;
  const elements = peers.map((vtep) => `${macOf(vtep)} : ${hex(vtep)}`);
  return wholeTable(INNER_TABLE, [
    '  map entry {',
    '    type ether_addr : mark',
    ...(elements.length === 0 ? [] : [`    elements = { ${elements.join(', ')} }`]),
    '  }',
    ...chain('prerouting', [
      'type filter hook prerouting priority mangle; policy accept;',
      `iifname "${HOST_LINK}" ct state new ct mark set ${LOCAL_ENTRY_MARK}`,
      `iifname "${VXLAN_LINK}" ct state new ct mark set ether saddr map @entry`,
      'ct direction reply ct mark != 0 meta mark set ct mark',
    ]),
    ...chain('forward', [
      'type filter hook forward priority filter; policy accept;',
      `iifname "${HOST_LINK}" oifname != { "${BRIDGE_LINK}", "${VXLAN_LINK}" } drop`,
    ]),
  ]);
}

/** Serving addresses by virtual address, as one sandbox shall balance them. */
export type Balancing = ReadonlyMap<string, readonly string[]>;

function balancingChain(vip: string): string {
  return `v_${vip.replaceAll('.', '_')}`;
}

function balancingRule(backends: readonly string[], seed: number): string {
  const turned = rotate(backends, seed);
  if (turned.length === 1) return `dnat to ${turned[0]}`;
  return `dnat to numgen inc mod ${turned.length} map { ${turned.map((ip, i) => `${i} : ${ip}`).join(', ')} }`;
}

/**
 * A sandbox's whole table. The look-up of a virtual address costs the same for one service and for
 * thousands. @param fresh the namespace holds none yet.
 */
export function balancingTable(balancing: Balancing, seed: number, fresh: boolean): string {
  const alive = [...balancing].filter(([, backends]) => backends.length > 0);
  const dead = [...balancing].filter(([, backends]) => backends.length === 0).map(([vip]) => vip);
  const elements = alive.map(([vip]) => `${vip} : goto ${balancingChain(vip)}`);
  const body = [
    '  map vips {',
    '    type ipv4_addr : verdict',
    ...(elements.length === 0 ? [] : [`    elements = { ${elements.join(', ')} }`]),
    '  }',
    '  set dead {',
    '    type ipv4_addr',
    ...(dead.length === 0 ? [] : [`    elements = { ${dead.join(', ')} }`]),
    '  }',
    ...alive.flatMap(([vip, backends]) => chain(balancingChain(vip), [balancingRule(backends, seed)])),
    ...chain('output', ['type nat hook output priority -100; policy accept;', 'ip daddr vmap @vips']),
    ...chain('refuse', [
      'type filter hook output priority filter; policy accept;',
      'ip daddr @dead meta l4proto tcp reject with tcp reset',
      'ip daddr @dead reject',
    ]),
  ];
  return wholeTable(INNER_TABLE, body, fresh);
}

/** Commands that lead a sandbox's table from `before` to `after`; empty when they are alike. */
export function balancingDiff(before: Balancing, after: Balancing, seed: number): string {
  const lines: string[] = [];
  const table = `ip ${INNER_TABLE}`;
  for (const [vip, backends] of before) {
    const now = after.get(vip);
    const name = balancingChain(vip);
    if (backends.length === 0 && (now === undefined || now.length > 0))
      lines.push(`delete element ${table} dead { ${vip} }`);
    if (backends.length > 0 && (now === undefined || now.length === 0)) {
      lines.push(`delete element ${table} vips { ${vip} : goto ${name} }`);
      lines.push(`flush chain ${table} ${name}`, `delete chain ${table} ${name}`);
    }
  }
  for (const [vip, backends] of after) {
    const old = before.get(vip);
    const name = balancingChain(vip);
    if (backends.length === 0) {
      if (old === undefined || old.length > 0) lines.push(`add element ${table} dead { ${vip} }`);
    } else if (old === undefined || old.length === 0) {
      lines.push(`add chain ${table} ${name}`, `add rule ${table} ${name} ${balancingRule(backends, seed)}`);
      lines.push(`add element ${table} vips { ${vip} : goto ${name} }`);
    } else if (old.join() !== backends.join()) {
      lines.push(`flush chain ${table} ${name}`, `add rule ${table} ${name} ${balancingRule(backends, seed)}`);
    }
  }
  return lines.length === 0 ? '' : `${lines.join('\n')}\n`;
}
