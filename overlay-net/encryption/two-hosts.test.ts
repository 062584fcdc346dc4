import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { directSpawner, runChecked } from '../../base/index.ts';
import type { NetworkTable } from '../../proto/index.ts';
import { macOf } from '../ip4.ts';
import {
  ask,
  connectEcho,
  makeTable,
  run,
  serve,
  serveEcho,
  startLab,
  type Lab,
  type TestHost,
} from '../testing/harness.ts';
import { configFile, parseDump, syncRequest } from './device.ts';
import { setRequest } from './uapi.ts';
import { addUnderlay6, underlay6 } from '../testing/dual.ts';
import type { SandboxResult } from '../types.ts';

const NET = 'enc0123456789abcdef';
const VNI = 4097;
const PORT = 4_789;
/** Said over the network in every test; never to be seen on the wire. */
const MARK = 'PLAINTEXT-MARK';

let lab: Lab;
let a: TestHost;
let b: TestHost;
let capture: ChildProcess;
let version = 0;
const stops: (() => void)[] = [];
const sandbox: Record<string, SandboxResult> = {};
const inside = (host: TestHost): string => sandbox[host.name]?.namespacePath ?? '';
const secure = (host: TestHost): string => join(host.execRoot, 'netns', 'secure');
const wire = (): string => join(lab.root, 'wire.pcap');

const clusterKeys = (from: number): { key: string; lamportTime: number }[] =>
  [0, 1, 2].map((n) => ({
    key: String(from + n)
      .padStart(2, '0')
      .repeat(16),
    lamportTime: from + n,
  }));

async function table(): Promise<NetworkTable> {
  return makeTable({
    id: NET,
    name: 'back',
    version: ++version,
    vni: VNI,
    subnet: '10.9.1.0/24',
    gateway: '10.9.1.1',
    vip: '10.9.1.2',
    hosts: lab.hosts,
    tasks: [
      { id: 't1', host: a, address: '10.9.1.5' },
      { id: 't2', host: b, address: '10.9.1.6' },
    ],
    keys: [await a.network.wireguardKey(), await b.network.wireguardKey()],
  });
}

async function tell(): Promise<void> {
  const next = await table();
  for (const host of lab.hosts) await host.network.setTable(next);
}

const linkOf = (host: TestHost): string => /: (sh\w+w\w+):/.exec(run(secure(host), 'ip', '-o', 'link').out)?.[1] ?? '';

function programOf(host: TestHost): number {
  const { stdout } = spawnSync('pgrep', ['-f', `^wireguard-go ${linkOf(host)}$`], { encoding: 'utf8' });
  return Number(stdout.trim().split('\n')[0]);
}

beforeAll(async () => {
  lab = await startLab(2);
  [a, b] = lab.hosts as [TestHost, TestHost];
  const args = [`--net=${join(lab.root, 'hub')}`, 'tcpdump', '-i', 'br0', '-U', '-s0', '-Z', 'root', '-w', wire()];
  capture = spawn('nsenter', args, { stdio: ['ignore', 'ignore', 'pipe'] });
  await new Promise<void>((resolve) => capture.stderr?.once('data', () => resolve()));
  for (const host of lab.hosts) {
    await host.network.start();
    await host.network.setUnderlay({ vtep: host.address, dataPathPort: PORT, nodeId: host.nodeId });
    await host.network.setNetworkKeys(clusterKeys(1));
  }
  await tell();
  for (const [host, name, address] of [
    [a, '1'.repeat(64), '10.9.1.5'],
    [b, '2'.repeat(64), '10.9.1.6'],
  ] as const) {
    await host.network.waitForNetwork(NET, 1000);
    sandbox[host.name] = await host.network.createSandbox({
      id: name,
      names: [`c-${host.name}`],
      endpoints: [{ networkId: NET, address: `${address}/24`, mac: macOf(address), aliases: [] }],
      ports: [],
      dns: ['192.0.2.99'],
    });
    stops.push(await serve(inside(host), `${MARK}-${host.name}`, 8080), await serveEcho(inside(host), 9000));
    stops.push(await serve(inside(host), `${MARK}-${host.name}`, 5353, 'UDP'));
  }
}, 60_000);

afterAll(async () => {
  for (const stop of stops) stop();
  capture.kill('SIGKILL');
  await lab.close();
});

test('TCP and UDP cross, also by the virtual address and from the first moment', () => {
  expect(ask(inside(a), '10.9.1.6', 8080)).toBe(`${MARK}-host2 10.9.1.5`);
  expect(ask(inside(b), '10.9.1.5', 8080)).toBe(`${MARK}-host1 10.9.1.6`);
  expect(ask(inside(a), '10.9.1.2', 8080)).toContain(MARK);
  const udp = run(inside(a), 'sh', '-c', `echo ${MARK} | socat -t2 -T2 - UDP4:10.9.1.6:5353`).out;
  expect(udp.trim()).toBe(`${MARK}-host2 10.9.1.5`);
});

test('a packet as large as the link allows crosses whole', () => {
  const mtu = Number(/mtu (\d+)/.exec(run(inside(a), 'ip', 'link', 'show', 'eth0').out)?.[1]);
  expect(mtu).toBe(1500 - 80 - 50);
  const big = spawnSync('nsenter', [`--net=${inside(a)}`, 'socat', '-t3', '-', 'TCP4:10.9.1.6:9000'], {
    input: Buffer.from(`${MARK} `.repeat(20_000)),
  });
  expect(big.stdout.length).toBe(15 * 20_000);
});

/** A datagram to a task's UDP port, in a frame, in VXLAN. */
function forged(text: string): Buffer {
  const data = Buffer.from(`${text}\n`);
  const mac = (ip: string): Buffer => Buffer.from(macOf(ip).replaceAll(':', ''), 'hex');
  const ip = Buffer.alloc(20);
  Buffer.from('45000000000040004011', 'hex').copy(ip);
  ip.writeUInt16BE(28 + data.length, 2);
  Buffer.from([10, 9, 1, 5, 10, 9, 1, 6]).copy(ip, 12);
  let sum = 0;
  for (let i = 0; i < 20; i += 2) sum += ip.readUInt16BE(i);
  sum = (sum & 0xffff) + (sum >>> 16);
  ip.writeUInt16BE(~((sum & 0xffff) + (sum >>> 16)) & 0xffff, 10);
  const udp = Buffer.alloc(8);
  udp.writeUInt16BE(7777, 0);
  udp.writeUInt16BE(6000, 2);
  udp.writeUInt16BE(8 + data.length, 4);
  const vxlan = Buffer.from([8, 0, 0, 0, VNI >> 16, (VNI >> 8) & 255, VNI & 255, 0]);
  return Buffer.concat([vxlan, mac('10.9.1.6'), mac('10.9.1.5'), Buffer.from('0800', 'hex'), ip, udp, data]);
}

function send(namespace: string, to: string, text: string, prefix: readonly string[] = []): void {
  const args = [`--net=${namespace}`, ...prefix, 'socat', '-u', '-', `UDP4-SENDTO:${to}:${PORT}`];
  spawnSync('nsenter', args, { input: forged(text) });
}

test('VXLAN that a non-member, a member outside of WireGuard or a local user forges never arrives', async () => {
  const heard = join(lab.root, 'heard');
  const args = [`--net=${inside(b)}`, 'socat', '-u', 'UDP4-RECV:6000', `CREATE:${heard}`];
  const listener = spawn('nsenter', args, { stdio: 'ignore' });
  await expect.poll(() => run(inside(b), 'busybox', 'netstat', '-lun').out).toContain(':6000 ');
  const nobody = ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups'];
  send(lab.client, b.address, 'from-non-member');
  send(a.namespace, b.address, 'from-member-host');
  send(a.namespace, b.address, 'from-member-user', nobody);
  send(b.namespace, b.address, 'from-local-root');
  send(b.namespace, b.address, 'from-local-user', nobody);
  send(b.namespace, '127.0.0.1', 'from-loopback', nobody);
  // What comes through WireGuard from a member does arrive, so the frame itself is sound.
  send(secure(a), b.address, 'through-wireguard');
  await expect.poll(() => readFileSync(heard, 'utf8')).toContain('through-wireguard');
  expect(readFileSync(heard, 'utf8')).toBe('through-wireguard\n');
  listener.kill('SIGKILL');
});

test('a member of another encrypted network may not send into this one', () => {
  const rules = run(secure(b), 'nft', 'list', 'table', 'inet', 'shoal').out;
  expect(rules).toMatch(new RegExp(`${linkOf(b)}.*${a.address}.*accept`));
  expect(rules.match(/policy drop/g)).toHaveLength(3);
});

test('the WireGuard process is killed: it comes back by itself, and connections go on', async () => {
  const client = connectEcho(inside(a), '10.9.1.6', 9000);
  expect(await client.echoes(`${MARK}-before`)).toBe(true);
  const pid = programOf(a);
  expect(pid).toBeGreaterThan(1);
  process.kill(pid, 'SIGKILL');
  await expect.poll(() => programOf(a), { timeout: 10_000 }).not.toBe(pid);
  await expect.poll(() => ask(inside(a), '10.9.1.6', 8080), { timeout: 20_000 }).toBe(`${MARK}-host2 10.9.1.5`);
  // TCP bridges the pause.
  await expect.poll(() => client.echoes(`${MARK}-after`), { timeout: 20_000 }).toBe(true);
  client.close();
}, 60_000);

test('with the process dead and no daemon to begin another, nothing passes in any form', async () => {
  await a.network.stop();
  const link = linkOf(a);
  process.kill(programOf(a), 'SIGKILL');
  await expect.poll(() => run(secure(a), 'ip', '-o', 'link').out).not.toContain(link);
  expect(ask(inside(a), '10.9.1.6', 8080)).not.toContain(MARK);
  send(secure(a), b.address, 'into-the-void');
  await a.restart(true);
  await a.network.start();
  await expect.poll(() => ask(inside(a), '10.9.1.6', 8080), { timeout: 20_000 }).toBe(`${MARK}-host2 10.9.1.5`);
}, 40_000);

test('a restart of the daemon takes the running device over', async () => {
  const pid = programOf(b);
  const client = connectEcho(inside(a), '10.9.1.6', 9000);
  expect(await client.echoes(`${MARK}-1`)).toBe(true);
  await b.restart(true);
  expect(await client.echoes(`${MARK}-2`)).toBe(true);
  await b.network.start();
  expect(await client.echoes(`${MARK}-3`)).toBe(true);
  expect(programOf(b)).toBe(pid);
  client.close();
});

test('new keys of the cluster and of a node cut no connection', async () => {
  const client = connectEcho(inside(a), '10.9.1.6', 9000);
  expect(await client.echoes(`${MARK}-k1`)).toBe(true);
  await a.network.setNetworkKeys(clusterKeys(2));
  await b.network.setNetworkKeys(clusterKeys(2));
  expect(await client.echoes(`${MARK}-k2`)).toBe(true);
  // A day passes for host1.
  const file = join(a.execRoot, 'wireguard.json');
  const secrets = JSON.parse(readFileSync(file, 'utf8')) as { own: { createdMs: number; privateKey: string } };
  writeFileSync(file, JSON.stringify({ ...secrets, own: { ...secrets.own, createdMs: 0 } }));
  await a.restart(false);
  await a.network.start();
  const before = await a.network.wireguardKey();
  await a.network.reconcile();
  const after = await a.network.wireguardKey();
  expect(Buffer.compare(before, after)).not.toBe(0);
  // Until the managers tell it, the old key serves.
  expect(await client.echoes(`${MARK}-k3`)).toBe(true);
  const began = Date.now();
  await tell();
  expect(await client.echoes(`${MARK}-k4`)).toBe(true);
  if (process.env['SHOAL_TEST_LOG']) console.log(`echo after a change of keys: ${Date.now() - began} ms`);
  const now = JSON.parse(readFileSync(file, 'utf8')) as { own: { privateKey: string }; next?: unknown };
  expect(now.own.privateKey).not.toBe(secrets.own.privateKey);
  expect(now.next).toBeUndefined();
  client.close();
}, 30_000);

test('lost rules and a changed device are made whole', async () => {
  run(secure(a), 'nft', 'delete', 'table', 'inet', 'shoal');
  run(secure(a), 'ip', 'route', 'flush', 'table', 'main');
  await a.network.reconcile();
  expect(run(secure(a), 'nft', 'list', 'tables').out).toContain('inet shoal');
  expect(ask(inside(a), '10.9.1.6', 8080)).toBe(`${MARK}-host2 10.9.1.5`);
});

test('wg(8), by which a device of the kernel is set, takes the same settings', async () => {
  const link = linkOf(a);
  const shown = (): string => run(secure(a), 'wg', 'show', link, 'dump').out;
  const state = parseDump(shown());
  expect(state.listenPort).toBe(PORT + 1);
  expect([...state.peers.values()]).toMatchObject([{ allowedIps: [`${b.address}/32`], keepaliveS: 25 }]);
  const peers = [...state.peers].map(([publicKey, { presharedKey }]) => ({ publicKey, presharedKey, vtep: b.address }));
  const config = { privateKey: state.privateKey, listenPort: state.listenPort, peers };
  for (const keepaliveS of [0, 25]) {
    await runChecked(directSpawner, syncRequest(secure(a), link, configFile(config, keepaliveS)));
    expect([...parseDump(shown()).peers.values()]).toMatchObject([{ keepaliveS }]);
  }
  expect(setRequest(parseDump(shown()), config)).toBe('');
  expect(ask(inside(a), '10.9.1.6', 8080)).toBe(`${MARK}-host2 10.9.1.5`);
});

test('a host that can no longer encrypt refuses the network, and takes it again when it can', async () => {
  const hidden = join(lab.root, 'port');
  // Another program takes the port while the device is away.
  await a.network.stop();
  process.kill(programOf(a), 'SIGKILL');
  const listening = (): string => run(a.namespace, 'busybox', 'netstat', '-lun').out;
  await expect.poll(listening).not.toContain(`:${PORT + 1} `);
  const args = [`--net=${a.namespace}`, 'socat', '-u', `UDP4-RECV:${PORT + 1}`, `CREATE:${hidden}`];
  const thief = spawn('nsenter', args, { stdio: 'ignore' });
  await expect.poll(listening).toContain(`:${PORT + 1} `);
  await a.restart(true);
  await a.network.start();
  await expect(a.network.waitForNetwork(NET, 1000)).rejects.toThrow(`UDP port ${PORT + 1}, which encrypted networks`);
  thief.kill('SIGKILL');
  await expect.poll(listening).not.toContain(`:${PORT + 1} `);
  await a.network.reconcile();
  await a.network.waitForNetwork(NET, 1000);
  await expect.poll(() => ask(inside(a), '10.9.1.6', 8080), { timeout: 15_000 }).toBe(`${MARK}-host2 10.9.1.5`);
}, 40_000);

test('the hosts may speak IPv6 to each other', async () => {
  addUnderlay6(lab.hosts);
  const next = await table();
  const over6 = {
    ...next,
    peers: next.peers.map((peer, i) => ({ ...peer, vtep: underlay6(i + 1).toUpperCase() })),
    endpoints: next.endpoints.map((endpoint, i) => ({ ...endpoint, vtep: underlay6(i + 1) })),
  };
  for (const [i, host] of lab.hosts.entries()) {
    await host.network.setUnderlay({ vtep: underlay6(i + 1), dataPathPort: PORT, nodeId: host.nodeId });
    await host.network.setTable(over6);
  }
  await expect.poll(() => ask(inside(a), '10.9.1.6', 8080), { timeout: 15_000 }).toBe(`${MARK}-host2 10.9.1.5`);
}, 30_000);

test('the wire never saw a clear byte, also while the network ended', async () => {
  const loop = `while :; do echo ${MARK}; sleep 0.01; done | socat -u - UDP4-SENDTO:10.9.1.6:6001`;
  const talk = spawn('nsenter', [`--net=${inside(a)}`, 'sh', '-c', loop], { stdio: 'ignore', detached: true });
  await new Promise((resolve) => setTimeout(resolve, 100));
  for (const stop of stops.splice(0)) stop();
  const links = lab.hosts.map(linkOf);
  await b.network.destroy();
  await a.network.destroy();
  try {
    process.kill(-(talk.pid as number), 'SIGKILL');
  } catch {
    // It ended with the network.
  }
  await new Promise((resolve) => setTimeout(resolve, 100));
  capture.kill('SIGTERM');
  const bytes = readFileSync(wire());
  expect(bytes.includes(MARK)).toBe(false);
  // A packet is a line that begins with its time.
  const count = (filter: string): number => {
    const { stdout } = spawnSync('tcpdump', ['-Z', 'root', '-r', wire(), '-n', filter], { encoding: 'utf8' });
    return stdout.match(/^\d\d:/gm)?.length ?? 0;
  };
  expect(count(`udp port ${PORT + 1}`)).toBeGreaterThan(100);
  // On the tunnel's own port there was no more than what the tests forged.
  expect(count(`udp port ${PORT}`)).toBeLessThanOrEqual(3);
  expect(count(`udp port ${PORT} and src ${lab.clientAddress}`)).toBe(1);
  for (const link of links) {
    expect(link).not.toBe('');
    await expect.poll(() => spawnSync('pgrep', ['-f', `^wireguard-go ${link}$`]).status).toBe(1);
  }
}, 30_000);
