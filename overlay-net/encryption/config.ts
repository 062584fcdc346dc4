/** What the device and the rules of encrypted networks shall hold, computed from tables as data. Pure. */
import type { NetworkTable } from '../../proto/index.ts';
import { addressBits, canonicalIp, familyOf } from '../ip.ts';
import { INNER_TABLE } from '../plan-nft.ts';
import { overlayFacts, peersOf, type Underlay } from '../plan.ts';
import { KEY_BYTES, keyInUse, presharedKey, publicKeyOf, type NetworkKey } from './keys.ts';

/** One other node, as WireGuard knows it. Keys are hexadecimal. */
export interface WireguardPeer {
  publicKey: string;
  presharedKey: string;
  /** Its address, outside and (alone in its namespace) inside. */
  vtep: string;
}

/** A WireGuard device, whole. */
export interface WireguardConfig {
  privateKey: string;
  listenPort: number;
  peers: readonly WireguardPeer[];
}

/** Outer IPv6 and UDP headers, WireGuard's header and tag: what wg-quick(8) subtracts too. */
export const WIREGUARD_OVERHEAD_BYTES = 80;
/** Seconds between signs of life; a new peer's first one begins the handshake at once. */
export const KEEPALIVE_S = 25;

/** A node's address alone, with mask. */
export function hostPrefix(address: string): string {
  return `${address}/${addressBits(familyOf(address))}`;
}

/** Where a node's WireGuard device listens, as an address and a port. */
export function endpointOf(vtep: string, port: number): string {
  return familyOf(vtep) === 6 ? `[${vtep}]:${port}` : `${vtep}:${port}`;
}

/** UDP port of a node's WireGuard device: that after the cluster's data path port, so every node knows it of all. */
export function wireguardPort(dataPathPort: number): number {
  return dataPathPort + 1;
}

/**
 * The device for these encrypted networks: one peer for each other node on one of them whose key is known.
 * @param memo pre-shared keys that were derived before
 */
export function wireguardConfig(
  tables: readonly NetworkTable[],
  underlay: Underlay,
  privateKey: string,
  networkKeys: readonly NetworkKey[],
  memo = new Map<string, string>(),
): WireguardConfig {
  const listenPort = wireguardPort(underlay.dataPathPort);
  const clusterKey = keyInUse(networkKeys);
  // Without the managers' key nobody is spoken to.
  if (clusterKey === undefined) return { privateKey, listenPort, peers: [] };
  const own = publicKeyOf(privateKey);
  const byVtep = new Map<string, WireguardPeer & { nodeId: string; version: number }>();
  for (const table of tables) {
    for (const { node_id: nodeId, vtep: text, wireguard_key: key } of table.peers) {
      const vtep = canonicalIp(text);
      if (nodeId === underlay.nodeId || vtep === '' || vtep === canonicalIp(underlay.vtep) || key.length !== KEY_BYTES)
        continue;
      const publicKey = Buffer.from(key).toString('hex');
      const known = byVtep.get(vtep);
      // The table that was made last knows best; of one table, the lower id, so that all choose alike.
      const older = known !== undefined && known.version > table.version;
      if (older || (known?.version === table.version && known.nodeId < nodeId)) continue;
      if (publicKey === own) continue;
      const pair = `${clusterKey.lamportTime} ${own} ${publicKey}`;
      const psk = memo.get(pair) ?? presharedKey(clusterKey, own, publicKey);
      memo.set(pair, psk);
      byVtep.set(vtep, { publicKey, presharedKey: psk, vtep, nodeId, version: table.version });
    }
  }
  const seen = new Set<string>();
  const peers: WireguardPeer[] = [];
  for (const { publicKey, presharedKey: psk, vtep } of [...byVtep.values()].sort((a, b) =>
    a.vtep < b.vtep ? -1 : 1,
  )) {
    if (seen.has(publicKey)) continue;
    seen.add(publicKey);
    peers.push({ publicKey, presharedKey: psk, vtep });
  }
  return { privateKey, listenPort, peers };
}

/** The public key by which the managers' tables know this node, hexadecimal; undefined when they name none. */
export function ownKeyIn(tables: readonly NetworkTable[], underlay: Underlay): string | undefined {
  const newest = [...tables].sort((a, b) => b.version - a.version);
  for (const table of newest) {
    const own = table.peers.find((peer) => peer.node_id === underlay.nodeId);
    if (own !== undefined && own.wireguard_key.length === KEY_BYTES)
      return Buffer.from(own.wireguard_key).toString('hex');
  }
  return undefined;
}

/**
 * Rules of the namespace that tunnels of encrypted networks run in: datagrams of each VXLAN id (bits 96 to 119 after the
 * start of the UDP header) are taken from the members of that network only and by the WireGuard device only; nothing else
 * comes in or leaves.
 */
export function secureRules(device: string, tables: readonly NetworkTable[], underlay: Underlay | undefined): string {
  const lines: string[] = [];
  const port = underlay?.dataPathPort ?? 0;
  for (const table of [...tables].sort((a, b) => (a.network_id < b.network_id ? -1 : 1))) {
    const peers = peersOf(table, underlay);
    const { vni } = overlayFacts(table);
    if (peers.length === 0 || underlay === undefined) continue;
    const family = familyOf(underlay.vtep) === 6 ? 'ip6' : 'ip';
    lines.push(
      `    iifname "${device}" udp dport ${port} @th,96,24 ${vni} ${family} saddr { ${peers.join(', ')} } accept`,
    );
  }
  return [
    `add table inet ${INNER_TABLE}`,
    `delete table inet ${INNER_TABLE}`,
    `table inet ${INNER_TABLE} {`,
    '  chain input {',
    '    type filter hook input priority filter; policy drop;',
    ...lines,
    '  }',
    '  chain output {',
    '    type filter hook output priority filter; policy drop;',
    ...(underlay === undefined ? [] : [`    oifname "${device}" udp dport ${port} accept`]),
    '  }',
    '  chain forward {',
    '    type filter hook forward priority filter; policy drop;',
    '  }',
    '}',
    '',
  ].join('\n');
}
