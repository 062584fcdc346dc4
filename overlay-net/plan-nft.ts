/** nftables rule sets as text (nft(8)). Pure, as plan.ts. */
import { BRIDGE_LINK, HOST_LINK, LOCAL_ENTRY_MARK, rotate, VXLAN_LINK, type PortRule } from './plan.ts';
import { idOfIp, macOf } from './ip.ts';

/** Table of Shoal inside namespaces of its own. */
export const INNER_TABLE = 'shoal';

/** A local network as the host's rules see it. */
export interface BridgeRule {
  name: string;
  subnet: string;
  internal: boolean;
  masquerade: boolean;
  /** Its containers may not talk to each other. */
  apart: boolean;
}

export interface HostRules {
  table: string;
  /** Mark of packets that must be routed into the ingress namespace; `mark + 1` is its hairpin form. */
  mark: number;
  bridges: readonly BridgeRule[];
  /** The host's end of the pair to the ingress namespace, when there is one. */
  ingressLink: string | undefined;
  ports: readonly PortRule[];
  /** Tunnel port, and the only hosts that may send to it. */
  dataPath: { port: number; peers: readonly string[] } | undefined;
  /** Turns lists of targets, so that hosts differ. */
  seed: number;
}

export function chain(name: string, lines: readonly string[]): string[] {
  return [`  chain ${name} {`, ...lines.map((line) => `    ${line}`), '  }'];
}

/** Replaces a whole table in one transaction; connections go on, since their NAT is kept with each connection. */
export function wholeTable(name: string, body: readonly string[], fresh = false, family = 'ip'): string {
  const before = fresh ? [] : [`add table ${family} ${name}`, `delete table ${family} ${name}`];
  return [...before, `table ${family} ${name} {`, ...body, '}', ''].join('\n');
}

function portChains(rules: HostRules): { chains: string[]; elements: string[] } {
  const byPort = new Map<string, PortRule[]>();
  for (const rule of rules.ports) {
    const key = `${rule.protocol}_${rule.port}`;
    const list = byPort.get(key);
    if (list === undefined) byPort.set(key, [rule]);
    else list.push(rule);
  }
  const chains: string[] = [];
  const elements: string[] = [];
  for (const [key, list] of [...byPort].sort(([a], [b]) => (a < b ? -1 : 1))) {
    // The narrower address first; a rule for all addresses would hide it.
    const ordered = list.sort((a, b) => (a.hostIp < b.hostIp ? 1 : a.hostIp > b.hostIp ? -1 : 0));
    chains.push(
      ...chain(
        `p_${key}`,
        ordered.flatMap((rule) => portRule(rule, rules)),
      ),
    );
    const [first] = ordered;
    if (first !== undefined) elements.push(`${first.protocol} . ${first.port} : goto p_${key}`);
  }
  return { chains, elements };
}

function portRule(rule: PortRule, rules: HostRules): string[] {
  const lines: string[] = [];
  const match = rule.hostIp === '' || rule.hostIp === '0.0.0.0' ? '' : `ip daddr ${rule.hostIp} `;
  if (rule.ingress) {
    lines.push(`${match}ct mark set ${rules.mark}`);
    lines.push(`${match}iifname "${rules.ingressLink ?? ''}" ct mark set ${rules.mark + 1}`);
    lines.push(`${match}meta mark set ${rules.mark}`);
  }
  const targets = rotate(rule.targets, rules.seed);
  const [only] = targets;
  if (only === undefined) return lines;
  const to =
    targets.length === 1
      ? `${only.address}:${only.port}`
      : `numgen inc mod ${targets.length} map { ${targets.map((t, i) => `${i} : ${t.address} . ${t.port}`).join(', ')} }`;
  lines.push(`${match}meta l4proto ${rule.protocol} dnat ip to ${to}`);
  return lines;
}

/** The daemon's table in the host's namespace: published ports, masquerade, isolation, protection of the tunnel port. */
export function hostTable(rules: HostRules): string {
  const { chains, elements } = portChains(rules);
  const ours = [...rules.bridges.map((bridge) => bridge.name), ...(rules.ingressLink ? [rules.ingressLink] : [])];
  const set = `{ ${ours.map((name) => `"${name}"`).join(', ')} }`;
  const map = elements.length === 0 ? '' : `elements = { ${elements.join(', ')} }`;
  const dispatch = 'fib daddr type local meta l4proto . th dport vmap @ports';
  const body = [
    '  map ports {',
    '    type inet_proto . inet_service : verdict',
    ...(map === '' ? [] : [`    ${map}`]),
    '  }',
    ...chains,
    ...chain('guard', [
      'type filter hook prerouting priority raw; policy accept;',
      ...(ours.length === 0 ? [] : [`iifname ${set} ip daddr 127.0.0.0/8 drop`]),
    ]),
    ...ingressMarks(rules),
    ...chain('prerouting', ['type nat hook prerouting priority dstnat; policy accept;', dispatch]),
    ...chain('output', ['type nat hook output priority -100; policy accept;', dispatch]),
    ...chain('postrouting', [
      'type nat hook postrouting priority srcnat; policy accept;',
      ...sourceRules(rules, set, ours),
    ]),
    ...chain('forward', ['type filter hook forward priority filter - 10; policy accept;', ...forwardRules(rules)]),
    ...tunnelGuard(rules),
  ];
  return wholeTable(rules.table, body);
}

/** Which packets are routed into the ingress namespace: those of connections that were sent there or began there. */
function ingressMarks(rules: HostRules): string[] {
  const { mark, ingressLink } = rules;
  if (ingressLink === undefined) return [];
  return [
    ...chain('mark_in', [
      'type filter hook prerouting priority mangle; policy accept;',
      `iifname "${ingressLink}" ct state new ct mark set ${mark}`,
      `ct mark ${mark + 1} meta mark set ${mark}`,
      `iifname != "${ingressLink}" ct mark ${mark} meta mark set ${mark}`,
    ]),
    ...chain('mark_out', [
      'type route hook output priority mangle; policy accept;',
      `ct mark { ${mark}, ${mark + 1} } meta mark set ${mark}`,
    ]),
  ];
}

function sourceRules(rules: HostRules, set: string, ours: readonly string[]): string[] {
  const lines: string[] = [];
  if (ours.length > 0) lines.push(`ip saddr 127.0.0.0/8 oifname ${set} masquerade`);
  for (const bridge of rules.bridges) {
    if (bridge.masquerade && !bridge.internal) {
      lines.push(`ip saddr ${bridge.subnet} oifname != "${bridge.name}" masquerade`);
    }
    lines.push(`ip saddr ${bridge.subnet} oifname "${bridge.name}" ct status dnat masquerade`);
  }
  if (rules.ingressLink !== undefined) lines.push(`iifname "${rules.ingressLink}" masquerade`);
  return lines;
}

function forwardRules(rules: HostRules): string[] {
  const lines = ['ct state established,related accept', 'ct status dnat accept'];
  if (rules.ingressLink !== undefined) lines.push(`oifname "${rules.ingressLink}" drop`);
  for (const bridge of rules.bridges) {
    if (bridge.internal) lines.push(`iifname "${bridge.name}" oifname != "${bridge.name}" drop`);
    lines.push(`oifname "${bridge.name}" ${bridge.apart ? '' : `iifname != "${bridge.name}" `}drop`);
  }
  return lines;
}

function tunnelGuard(rules: HostRules): string[] {
  if (rules.dataPath === undefined) return [];
  const { port, peers } = rules.dataPath;
  const from = peers.length === 0 ? '' : `ip saddr != { ${peers.join(', ')} } `;
  const line = `udp dport ${port} ${from}drop`;
  return chain('tunnel', ['type filter hook input priority filter - 10; policy accept;', line]);
}

/** The ingress namespace's table: connections remember the host they entered by, replies are marked with it. */
export function ingressTable(peers: readonly string[]): string {
  const hex = (vtep: string): string => `0x${idOfIp(vtep).toString(16).padStart(8, '0')}`;
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
