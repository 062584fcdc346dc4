/** The nft tables of the host's own namespace as text (nft(8)), one for each family. Pure, as plan.ts. */
import type { Loopback6Rules } from './loopback6.ts';
import { chain, wholeTable } from './plan-nft.ts';
import { rotate } from './plan.ts';
import { boundAddress, nftFamilyOf, type NftFamily, type PortRule } from './published.ts';

/** A local network as the host's rules see it. */
export interface BridgeRule {
  name: string;
  subnet: string;
  /** IPv6 subnet; empty or absent when the network has none. */
  subnet6?: string;
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
  /** Where connections from ::1 to ports of bridges make a turn; left out: they go straight. */
  loopback6?: Loopback6Rules | undefined;
  /** Tunnel port, the family tunnels go by, and the only hosts that may send to it. */
  dataPath: { port: number; family: NftFamily; peers: readonly string[] } | undefined;
  /** Turns lists of targets, so that hosts differ. */
  seed: number;
}

/** A port's chain: the narrower address first; a rule for all addresses would hide it. */
function portChains(rules: HostRules, family: NftFamily): { chains: string[]; elements: string[] } {
  const byPort = new Map<string, { rule: PortRule; address: string }[]>();
  for (const rule of rules.ports) {
    const address = boundAddress(rule, family);
    if (address === undefined || !rule.targets.some((target) => nftFamilyOf(target.address) === family)) continue;
    const key = `${rule.protocol}_${rule.port}`;
    const list = byPort.get(key);
    if (list === undefined) byPort.set(key, [{ rule, address }]);
    else list.push({ rule, address });
  }
  const chains: string[] = [];
  const elements: string[] = [];
  for (const [key, list] of [...byPort].sort(([a], [b]) => (a < b ? -1 : 1))) {
    const ordered = list.sort((a, b) => (a.address < b.address ? 1 : a.address > b.address ? -1 : 0));
    chains.push(
      ...chain(
        `p_${key}`,
        ordered.flatMap(({ rule, address }) => portRule(rule, address, rules, family)),
      ),
    );
    elements.push(`${key.replace('_', ' . ')} : goto p_${key}`);
  }
  return { chains, elements };
}

function portRule(rule: PortRule, address: string, rules: HostRules, family: NftFamily): string[] {
  const lines: string[] = [];
  const match = address === '' ? '' : `${family} daddr ${address} `;
  if (rule.ingress) {
    lines.push(`${match}ct mark set ${rules.mark}`);
    lines.push(`${match}iifname "${rules.ingressLink ?? ''}" ct mark set ${rules.mark + 1}`);
    lines.push(`${match}meta mark set ${rules.mark}`);
  }
  const own = rule.targets.filter((target) => nftFamilyOf(target.address) === family);
  if (!rule.ingress && rules.loopback6 !== undefined && family === 'ip6' && ['', '::1'].includes(address)) {
    const { mark } = rules.loopback6;
    lines.push(`ip6 daddr ::1 ct mark set ${mark}`, `ip6 daddr ::1 meta mark set ${mark}`);
  }
  const targets = rotate(own, rules.seed);
  const [only] = targets;
  if (only === undefined) return lines;
  const host = family === 'ip6' ? `[${only.address}]` : only.address;
  const to = targets.length === 1 ? `${host}:${only.port}` : turns(targets);
  lines.push(`${match}meta l4proto ${rule.protocol} dnat ${family} to ${to}`);
  return lines;
}

/** One target after the other; one of weight n gets n connections of each turn, as a range of the turn's numbers. */
function turns(targets: PortRule['targets']): string {
  let sum = 0;
  const elements = targets.map(({ address, port, weight = 1 }) => {
    const first = sum;
    sum += weight;
    return `${first}${weight === 1 ? '' : `-${sum - 1}`} : ${address} . ${port}`;
  });
  return `numgen inc mod ${sum} map { ${elements.join(', ')} }`;
}

/** The daemon's table in the host's namespace: published ports, masquerade, isolation, protection of the tunnel port. */
export function hostTable(rules: HostRules, family: NftFamily): string {
  const { chains, elements } = portChains(rules, family);
  const turn = family === 'ip6' ? rules.loopback6 : undefined;
  const ours = [
    ...rules.bridges.map((bridge) => bridge.name),
    ...(rules.ingressLink ? [rules.ingressLink] : []),
    ...(turn ? [turn.link] : []),
  ];
  const set = `{ ${ours.map((name) => `"${name}"`).join(', ')} }`;
  const dispatch = 'fib daddr type local meta l4proto . th dport vmap @ports';
  const body = [
    '  map ports {',
    '    type inet_proto . inet_service : verdict',
    ...(elements.length === 0 ? [] : [`    elements = { ${elements.join(', ')} }`]),
    '  }',
    ...chains,
    ...chain('guard', [
      'type filter hook prerouting priority raw; policy accept;',
      ...(ours.length === 0 ? [] : guardRules(rules, set, family)),
    ]),
    ...ingressMarks(rules),
    ...turnMarks(turn),
    ...chain('prerouting', ['type nat hook prerouting priority dstnat; policy accept;', dispatch]),
    ...chain('output', ['type nat hook output priority -100; policy accept;', dispatch]),
    ...chain('postrouting', [
      'type nat hook postrouting priority srcnat; policy accept;',
      ...sourceRules(rules, set, ours, family),
      ...(turn ? [`iifname "${turn.link}" masquerade`] : []),
    ]),
    ...chain('forward', [
      'type filter hook forward priority filter - 10; policy accept;',
      ...forwardRules(rules, turn),
    ]),
    ...tunnelGuard(rules, family),
  ];
  return wholeTable(rules.table, body, false, family);
}

/**
 * What may not come from containers at all: packets to the loopback network, and datagrams to a member's tunnel port.
 * Masqueraded, or under a forged address, the latter would look like a member's. Every packet of the host passes here:
 * what fails for most and costs least (an address or port; names of links are strings) comes first.
 */
function guardRules(rules: HostRules, set: string, family: NftFamily): string[] {
  const lines = [`${family} daddr ${family === 'ip' ? '127.0.0.0/8' : '::1'} iifname ${set} drop`];
  if (rules.dataPath?.family !== family) return lines;
  const { port, peers } = rules.dataPath;
  lines.push(`udp dport ${port} iifname ${set} fib daddr type local drop`);
  if (peers.length > 0) lines.push(`udp dport ${port} iifname ${set} ${family} daddr { ${peers.join(', ')} } drop`);
  return lines;
}

/** Which packets are routed into the ingress namespace: those of connections that were sent there or began there. */
function ingressMarks(rules: HostRules): string[] {
  const { mark, ingressLink } = rules;
  if (ingressLink === undefined) return [];
  return [
    ...chain('mark_in', [
      'type filter hook prerouting priority mangle; policy accept;',
      `ct state new iifname "${ingressLink}" ct mark set ${mark}`,
      `ct mark ${mark + 1} meta mark set ${mark}`,
      `ct mark ${mark} iifname != "${ingressLink}" meta mark set ${mark}`,
    ]),
    ...chain('mark_out', [
      'type route hook output priority mangle; policy accept;',
      // The mark is even: with or without its last bit, which says hairpin.
      `ct mark and 0xfffffffe == ${mark} meta mark set ${mark}`,
    ]),
  ];
}

/** Packets of this host's own connections from ::1 to its bridges' ports, on their way to the turn. */
function turnMarks(turn: Loopback6Rules | undefined): string[] {
  if (turn === undefined) return [];
  const { mark } = turn;
  const head = 'type route hook output priority mangle; policy accept;';
  return chain('mark_turn', [head, `ct mark ${mark} meta mark set ${mark}`]);
}

function sourceRules(rules: HostRules, set: string, ours: readonly string[], family: NftFamily): string[] {
  const lines: string[] = [];
  if (ours.length > 0) {
    lines.push(`${family} saddr ${family === 'ip' ? '127.0.0.0/8' : '::1'} oifname ${set} masquerade`);
  }
  for (const bridge of rules.bridges) {
    const subnet = family === 'ip' ? bridge.subnet : (bridge.subnet6 ?? '');
    if (subnet === '') continue;
    if (bridge.masquerade && !bridge.internal) {
      lines.push(`${family} saddr ${subnet} oifname != "${bridge.name}" masquerade`);
    }
    lines.push(`${family} saddr ${subnet} oifname "${bridge.name}" ct status dnat masquerade`);
  }
  if (rules.ingressLink !== undefined) lines.push(`iifname "${rules.ingressLink}" masquerade`);
  return lines;
}

function forwardRules(rules: HostRules, turn: Loopback6Rules | undefined): string[] {
  const lines = ['ct state established,related accept', 'ct status dnat accept'];
  if (turn !== undefined) lines.push(`iifname "${turn.link}" accept`, `oifname "${turn.link}" drop`);
  if (rules.ingressLink !== undefined) lines.push(`oifname "${rules.ingressLink}" drop`);
  for (const bridge of rules.bridges) {
    if (bridge.internal) lines.push(`iifname "${bridge.name}" oifname != "${bridge.name}" drop`);
    lines.push(`oifname "${bridge.name}" ${bridge.apart ? '' : `iifname != "${bridge.name}" `}drop`);
  }
  return lines;
}

/**
 * Tunnel datagrams come from members only, and only the kernel sends them: what a process sends has a socket with an
 * owner, which the kernel's tunnels have not (the encapsulated packet's own socket is of another namespace).
 */
function tunnelGuard(rules: HostRules, family: NftFamily): string[] {
  if (rules.dataPath?.family !== family) return [];
  const { port, peers } = rules.dataPath;
  const from = peers.length === 0 ? '' : `${family} saddr != { ${peers.join(', ')} } `;
  return [
    ...chain('tunnel', [
      'type filter hook input priority filter - 10; policy accept;',
      `udp dport ${port} ${from}drop`,
    ]),
    ...chain('tunnel_out', [
      'type filter hook output priority raw; policy accept;',
      `udp dport ${port} meta skuid >= 0 drop`,
    ]),
  ];
}
