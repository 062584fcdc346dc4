import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { systemRandom } from '../../base/index.ts';
import { NetworkTable } from '../../proto/index.ts';
import { ownKeyIn, secureRules, wireguardConfig } from './config.ts';
import { configFile, parseDump } from './device.ts';
import { keyInUse, newPrivateKey, presharedKey, publicKeyOf, type NetworkKey } from './keys.ts';
import { parseState, setRequest } from './uapi.ts';

const underlay = { vtep: '192.0.2.1', dataPathPort: 4789, nodeId: 'n1', mtu: 1500 };
const clusterKeys: NetworkKey[] = [1, 2, 3].map((lamportTime) => ({ key: `0${lamportTime}`.repeat(16), lamportTime }));
const keyOf = (n: number): Uint8Array => Buffer.alloc(32, n);
const hexOf = (n: number): string => Buffer.alloc(32, n).toString('hex');

function table(id: string, version: number, peers: { node_id: string; vtep: string; key: number }[]): NetworkTable {
  return NetworkTable.create({
    network_id: id,
    version,
    network: {
      driver_state: { options: { 'com.docker.network.driver.overlay.vxlanid_list': '4097' } },
      ipam: { configs: [{ subnet: '10.0.1.0/24' }] },
    },
    peers: peers.map(({ key, ...peer }) => ({ ...peer, wireguard_key: key === 0 ? new Uint8Array() : keyOf(key) })),
  });
}

describe('keys', () => {
  it('are the pairs that wg(8) makes', () => {
    const own = newPrivateKey(systemRandom);
    const input = Buffer.from(own, 'hex').toString('base64');
    const { stdout } = spawnSync('wg', ['pubkey'], { input, encoding: 'utf8' });
    expect(Buffer.from(publicKeyOf(own), 'hex').toString('base64')).toBe(stdout.trim());
    const bytes = Buffer.from(own, 'hex');
    expect([(bytes[0] ?? 0) & 7, (bytes[31] ?? 0) & 192]).toEqual([0, 64]);
  });

  it('of pairs are alike on both ends, and differ by pair and by cluster key', () => {
    const [a, b, c] = [hexOf(1), hexOf(2), hexOf(3)] as const;
    const [first, second] = clusterKeys as [NetworkKey, NetworkKey];
    expect(presharedKey(first, a, b)).toBe(presharedKey(first, b, a));
    const all = [presharedKey(first, a, b), presharedKey(first, a, c), presharedKey(second, a, b)];
    expect(new Set(all).size).toBe(3);
  });

  it('of the cluster: the one before the newest is in use, so a new one is everywhere before it counts', () => {
    expect(keyInUse(clusterKeys)?.lamportTime).toBe(2);
    const rotated = [...clusterKeys.slice(1), { key: '04'.repeat(16), lamportTime: 4 }];
    expect(keyInUse(rotated)?.lamportTime).toBe(3);
    expect(keyInUse([])).toBeUndefined();
  });
});

describe('the device', () => {
  const privateKey = newPrivateKey(systemRandom);

  it('has a peer for each other member with a key, and none before managers gave keys', () => {
    const tables = [
      table('a', 5, [
        { node_id: 'n1', vtep: '192.0.2.1', key: 1 },
        { node_id: 'n2', vtep: '192.0.2.2', key: 2 },
        { node_id: 'n3', vtep: '192.0.2.3', key: 0 },
      ]),
      // Made later: it knows the newer key of n2.
      table('b', 6, [{ node_id: 'n2', vtep: '192.0.2.2', key: 4 }]),
    ];
    expect(wireguardConfig(tables, underlay, privateKey, []).peers).toEqual([]);
    const { peers, listenPort } = wireguardConfig(tables, underlay, privateKey, clusterKeys);
    expect(listenPort).toBe(4790);
    expect(peers).toMatchObject([{ publicKey: hexOf(4), vtep: '192.0.2.2' }]);
    expect(wireguardConfig(tables.reverse(), underlay, privateKey, clusterKeys).peers).toEqual(peers);
    expect(ownKeyIn(tables, underlay)).toBe(hexOf(1));
  });

  it('is led from any state to any other, and told nothing when they are alike', () => {
    const config = wireguardConfig(
      [table('a', 1, [{ node_id: 'n2', vtep: '192.0.2.2', key: 2 }])],
      underlay,
      privateKey,
      clusterKeys,
    );
    const empty = parseState('private_key=\nerrno=0');
    const request = setRequest(empty, config);
    expect(request).toContain(`private_key=${privateKey}\nlisten_port=4790\npublic_key=${hexOf(2)}\n`);
    expect(request).toContain('endpoint=192.0.2.2:4790\nreplace_allowed_ips=true\nallowed_ip=192.0.2.2/32\n');
    const told = request.replace(/^set=1\n/, '').replace(/replace_allowed_ips=true\n/g, '');
    expect(setRequest(parseState(told), config)).toBe('');
    // A peer that is no member any more goes; a peer with a new key takes the address over.
    const moved = { ...config, peers: [{ ...config.peers[0]!, publicKey: hexOf(9) }] };
    expect(setRequest(parseState(told), moved)).toMatch(
      new RegExp(`^set=1\npublic_key=${hexOf(2)}\nremove=true\npublic_key=${hexOf(9)}\n`),
    );
    // With an own key changed, each peer begins anew at once.
    const rekeyed = { ...config, privateKey: newPrivateKey(systemRandom) };
    expect(setRequest(parseState(told), rekeyed)).toContain('persistent_keepalive_interval=0\n');
  });

  it('speaks the language of wg(8) where the kernel has WireGuard', () => {
    const psk = randomBytes(32);
    const peer = { publicKey: hexOf(2), presharedKey: psk.toString('hex'), vtep: '192.0.2.2' };
    const config = { privateKey, listenPort: 4790, peers: [peer] };
    const file = configFile(config, 25);
    expect(file).toContain(`PresharedKey = ${psk.toString('base64')}\nEndpoint = 192.0.2.2:4790\n`);
    const b64 = (hex: string): string => Buffer.from(hex, 'hex').toString('base64');
    const dump = [
      [b64(privateKey), b64(publicKeyOf(privateKey)), '4790', 'off'],
      [b64(hexOf(2)), psk.toString('base64'), '192.0.2.2:4790', '192.0.2.2/32', '0', '0', '0', '25'],
    ];
    const state = parseDump(`${dump.map((line) => line.join('\t')).join('\n')}\n`);
    expect(setRequest(state, config)).toBe('');
  });
});

it('rules take each network from its members only', () => {
  const rules = secureRules('wg', [table('a', 1, [{ node_id: 'n2', vtep: '192.0.2.2', key: 2 }])], underlay);
  expect(rules).toContain('iifname "wg" udp dport 4789 @th,96,24 4097 ip saddr { 192.0.2.2 } accept');
  expect(rules.match(/policy drop/g)).toHaveLength(3);
});
