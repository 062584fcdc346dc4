/** What encrypted networks run over, and IPv6 of networks, changed by hand: seen, told and repaired like everything else. */
import { spawnSync } from 'node:child_process';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { macOf } from '../ip4.ts';
import { NetworkTable } from '../../proto/index.ts';
import {
  ask,
  connectEcho,
  makeTable,
  run,
  serve,
  serveEcho,
  startLab,
  type EchoClient,
  type Lab,
  type TestHost,
} from '../testing/harness.ts';
import type { SandboxResult } from '../types.ts';

let lab: Lab;
let a: TestHost;
let b: TestHost;
let one: SandboxResult;
let connection: EchoClient;
const stops: (() => void)[] = [];
const NET = 'net0123456789abcdef';
const PREFIX = 'fd00:9:1::';

const secure = (): string => `${a.execRoot}/netns/secure`;
const overlay = (): string => `${a.execRoot}/netns/ov-${NET.slice(0, 12)}`;

/** An encrypted network of both families. */
async function table(): Promise<NetworkTable> {
  const plain = makeTable({
    ...{ version: 1, hosts: lab.hosts, id: NET, name: 'vault', vni: 4097 },
    ...{ subnet: '10.9.1.0/24', gateway: '10.9.1.1', vip: '10.9.1.2' },
    tasks: [
      { id: 't1', host: a, address: '10.9.1.5' },
      { id: 't2', host: b, address: '10.9.1.6' },
    ],
    keys: [await a.network.wireguardKey(), await b.network.wireguardKey()],
  });
  plain.network?.ipam?.configs.push({
    ...plain.network.ipam.configs[0]!,
    subnet: `${PREFIX}/64`,
    gateway: `${PREFIX}1`,
  });
  for (const [i, endpoint] of plain.endpoints.entries()) endpoint.address6 = `${PREFIX}${5 + i}/64`;
  for (const service of plain.services) service.vip6 = `${PREFIX}2`;
  return plain;
}

beforeAll(async () => {
  lab = await startLab(2);
  [a, b] = lab.hosts as [TestHost, TestHost];
  const keys = [1, 2, 3].map((n) => ({ key: `0${n}`.repeat(16), lamportTime: n }));
  for (const host of lab.hosts) {
    await host.network.start();
    await host.network.setUnderlay({ vtep: host.address, dataPathPort: 4789, nodeId: host.nodeId });
    await host.network.setNetworkKeys(keys);
  }
  const made = await table();
  for (const host of lab.hosts) await host.network.setTable(made);
  const sandboxes: SandboxResult[] = [];
  for (const [i, host] of lab.hosts.entries()) {
    await host.network.waitForNetwork(NET, 1000);
    const [address, address6] = [`10.9.1.${5 + i}`, `${PREFIX}${5 + i}/64`];
    const endpoint = { networkId: NET, address: `${address}/24`, address6, mac: macOf(address), aliases: [] };
    const spec = { id: String(i + 1).repeat(64), names: [`c${i + 1}`], endpoints: [endpoint], ports: [], dns: [] };
    sandboxes.push(await host.network.createSandbox(spec));
  }
  const [first, second] = sandboxes as [SandboxResult, SandboxResult];
  one = first;
  stops.push(await serve(second.namespacePath, 'two', 8080), await serveEcho(second.namespacePath, 9000));
  connection = connectEcho(one.namespacePath, '10.9.1.6', 9000);
  expect(await connection.echoes('begin')).toBe(true);
}, 60_000);

afterAll(async () => {
  connection.close();
  for (const stop of stops) stop();
  await lab.close();
});

const CASES: [name: string, within: () => string, command: string, said: RegExp][] = [
  ['rules gone', secure, 'nft flush ruleset', /nft table inet shoal of encrypted networks was missing/],
  ['rules emptied', secure, 'nft flush chain inet shoal input', /chain input of encrypted networks was changed/],
  ['route gone', secure, 'ip route flush table main', /route 0.0.0.0\/0 of encrypted networks was missing/],
  ['address gone', secure, 'ip addr flush dev WG', /address 192.0.2.1\/32 of sh\S+ of encrypted networks was missing/],
  ['device down', secure, 'ip link set WG down', /link sh\S+ of encrypted networks was (changed|missing)/],
  ['device gone', secure, 'ip link del WG', /link sh\S+ of encrypted networks was missing/],
  [
    'peers gone',
    secure,
    'for key in $(wg show WG peers); do wg set WG peer $key remove; done',
    /peers of link sh\S+ of encrypted networks was changed/,
  ],
  ['tunnel gone', overlay, 'ip link del vxlan0', /link vxlan0 on network vault was missing/],
  [
    'IPv6 neighbour gone',
    overlay,
    `ip -6 neigh del ${PREFIX}6 dev vxlan0`,
    /neighbour fd00:9:1::6 on network vault was/,
  ],
  [
    'IPv6 route gone',
    () => one.namespacePath,
    'ip -6 route flush dev eth0',
    /route fd00:9:1::\/64 in container c1 was/,
  ],
  ['IPv6 address gone', () => one.namespacePath, 'ip -6 addr flush dev eth0', /address fd00:9:1::5\/64 of eth0 in con/],
  ['IPv4 routes gone', () => one.namespacePath, 'ip route flush table main', /route 10.9.1.0\/24 in container c1 was/],
];

const says = (): Promise<string[]> => a.network.takeRepairs();
const ping6 = (): boolean => run(one.namespacePath, 'busybox', 'ping', '-6', '-c1', '-W1', `${PREFIX}6`).code === 0;

test.each(CASES)(
  '%s',
  async (_name, within, command, said) => {
    await says();
    const link = /: (sh\w+):/.exec(run(secure(), 'ip', '-o', 'link').out)?.[1] ?? '';
    const done = run(within(), 'sh', '-c', command.replaceAll('WG', link));
    expect(done).toEqual({ code: 0, out: '' });
    const heard: string[] = [];
    await expect.poll(async () => heard.push(...(await says())) && heard.join('\n'), { timeout: 8_000 }).toMatch(said);
    await expect.poll(() => ask(one.namespacePath, '10.9.1.6', 8080), { timeout: 8_000 }).toBe('two 10.9.1.5');
    await expect.poll(ping6, { timeout: 5_000 }).toBe(true);
    expect(await connection.echoes(`after ${command}`)).toBe(true);
  },
  30_000,
);

test('a WireGuard process that hangs is replaced, and keeps nothing else from its repair', async () => {
  const link = /: (sh\w+):/.exec(run(secure(), 'ip', '-o', 'link').out)?.[1] ?? '';
  const pid = Number(run(a.namespace, 'pgrep', '-f', `^wireguard-go ${link}$`).out.trim().split('\n')[0]);
  // A kernel with WireGuard needs no process.
  if (pid === 0) return;
  process.kill(pid, 'SIGSTOP');
  await says();
  const heard: string[] = [];
  const told = async (): Promise<string> => {
    heard.push(...(await says()));
    return heard.join('\n');
  };
  try {
    for (let i = 0; i < 3; i++) {
      expect(run(overlay(), 'bridge', 'fdb', 'del', '02:42:0a:09:01:06', 'dev', 'vxlan0', 'self').code).toBe(0);
      const count = (): number => heard.filter((words) => words.startsWith('network repaired: fdb entry')).length;
      await expect.poll(async () => (await told(), count()), { timeout: 2_000 }).toBe(i + 1);
    }
    await expect.poll(told, { timeout: 12_000 }).toMatch(/link sh\S+ of encrypted networks was missing/);
  } finally {
    spawnSync('kill', ['-KILL', String(pid)]);
  }
  await expect.poll(() => ask(one.namespacePath, '10.9.1.6', 8080), { timeout: 5_000 }).toBe('two 10.9.1.5');
  expect(await connection.echoes('after the hang')).toBe(true);
}, 30_000);

test('a pass over a network in order repairs nothing', async () => {
  await a.network.reconcile();
  await says();
  await a.network.reconcile();
  expect(await says()).toEqual([]);
});
