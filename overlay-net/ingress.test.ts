import { spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { PortConfig, PortConfig_Protocol, PortConfig_PublishMode, type NetworkTable } from '../proto/index.ts';
import { macOf } from './ip4.ts';
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
} from './testing/harness.ts';

const INGRESS = 'ing0123456789abcdef';
const NET = 'net0123456789abcdef';
const PORT = 4789;
const TASKS = { t1: '10.0.0.5', t2: '10.0.0.6' } as const;

let lab: Lab;
let a: TestHost;
let b: TestHost;
let version = 0;
const stops: (() => void)[] = [];
const inside: Record<string, string> = {};

interface Wish {
  tasks?: (keyof typeof TASKS)[];
  ports: (Partial<PortConfig> & { published_port: number; target_port: number })[];
  preferLocal?: boolean;
  weights?: Partial<Record<keyof typeof TASKS, number>>;
}

function ingressTable(wish: Wish): NetworkTable {
  const tasks = wish.tasks ?? ['t1', 't2'];
  const table = makeTable({
    ...{ id: INGRESS, name: 'ingress', version: ++version, vni: 4096, ingress: true, vip: '10.0.0.2' },
    ...{ subnet: '10.0.0.0/24', gateway: '10.0.0.1', hosts: lab.hosts },
    tasks: tasks.map((id) => ({ id, host: id === 't1' ? a : b, address: TASKS[id] })),
  });
  for (const endpoint of table.endpoints) endpoint.weight = wish.weights?.[endpoint.task_id as keyof typeof TASKS] ?? 0;
  for (const service of table.services) {
    service.prefer_local = wish.preferLocal ?? false;
    const mesh = { publish_mode: PortConfig_PublishMode.INGRESS };
    service.ports = wish.ports.map((port) => PortConfig.create({ ...mesh, ...port }));
  }
  return table;
}

async function publish(wish: Wish): Promise<void> {
  const table = ingressTable(wish);
  for (const host of lab.hosts) await host.network.setTable(table);
}

const web = { published_port: 8000, target_port: 8080 };

beforeAll(async () => {
  lab = await startLab(2);
  [a, b] = lab.hosts as [TestHost, TestHost];
  run(a.namespace, 'ip', 'addr', 'add', '192.0.2.201/24', 'dev', 'eth0');
  run(a.namespace, 'ip', 'link', 'add', 'alt0', 'type', 'bridge');
  run(a.namespace, 'ip', 'addr', 'add', '198.51.100.1/24', 'dev', 'alt0');
  run(a.namespace, 'ip', 'link', 'set', 'alt0', 'up');
  run(lab.client, 'ip', 'route', 'add', '198.51.100.0/24', 'via', a.address);
  for (const host of lab.hosts) {
    await host.network.start();
    await host.network.setUnderlay({ vtep: host.address, dataPathPort: PORT, nodeId: host.nodeId });
  }
  await publish({ ports: [web] });
  for (const [host, id] of [
    [a, 't1'],
    [b, 't2'],
  ] as const) {
    const address = TASKS[id];
    const made = await host.network.createSandbox({
      id: id.repeat(32),
      names: [id],
      endpoints: [{ networkId: INGRESS, address: `${address}/24`, mac: macOf(address), aliases: [] }],
      ports: [],
      dns: [],
    });
    inside[id] = made.namespacePath;
    stops.push(await serve(made.namespacePath, id, 8080), await serveEcho(made.namespacePath, 9000));
  }
}, 60_000);

afterAll(async () => {
  for (const stop of stops) stop();
  await lab.close();
});

const asks = (host: string, port: number, times: number): string[] =>
  Array.from({ length: times }, () => ask(lab.client, host, port).split(' ')[0] ?? '').sort();

test('a port bound to one address or interface answers only there, and others may have the same port', async () => {
  await publish({
    ports: [
      { ...web, published_port: 8101, host_ip: '192.0.2.201' },
      { ...web, published_port: 8102, host_ip: 'alt0' },
      { target_port: 7070, published_port: 8103, host_ip: '192.0.2.201' },
      { ...web, published_port: 8103, host_ip: a.address },
      { ...web, published_port: 8104 },
    ],
  });
  for (const id of ['t1', 't2']) stops.push(await serve(inside[id] ?? '', 'seven', 7070));
  const client = lab.clientAddress;
  await expect.poll(() => ask(lab.client, a.address, 8104)).toMatch(/^t\d/);
  expect(ask(lab.client, '192.0.2.201', 8101)).toMatch(new RegExp(`^t\\d ${client}$`));
  expect(ask(lab.client, a.address, 8101)).toContain('refused');
  expect(ask(lab.client, b.address, 8101)).toContain('refused');
  expect(ask(a.namespace, '192.0.2.201', 8101)).toMatch(/^t\d/);
  expect(ask(lab.client, '198.51.100.1', 8102)).toMatch(new RegExp(`^t\\d ${client}$`));
  expect(ask(lab.client, a.address, 8102)).toContain('refused');
  expect(ask(lab.client, '192.0.2.201', 8103)).toBe(`seven ${client}`);
  expect(ask(lab.client, a.address, 8103)).toMatch(/^t\d/);
  expect(ask(lab.client, '198.51.100.1', 8103)).toContain('refused');
}, 30_000);

test('connections are shared by weight, and stay on the entry host when that is preferred', async () => {
  await publish({ ports: [{ ...web, published_port: 8201 }], weights: { t1: 3 } });
  await expect.poll(() => ask(lab.client, b.address, 8201)).toMatch(/^t\d/);
  expect(asks(a.address, 8201, 8)).toEqual(['t1', 't1', 't1', 't1', 't1', 't1', 't2', 't2']);
  await publish({ ports: [{ ...web, published_port: 8202 }], preferLocal: true });
  await expect.poll(() => ask(lab.client, b.address, 8202)).toMatch(/^t\d/);
  expect(asks(a.address, 8202, 4)).toEqual(['t1', 't1', 't1', 't1']);
  expect(asks(b.address, 8202, 4)).toEqual(['t2', 't2', 't2', 't2']);
  await publish({ ports: [{ ...web, published_port: 8203 }], preferLocal: true, tasks: ['t2'] });
  await expect.poll(() => ask(lab.client, a.address, 8203)).toMatch(/^t2/);
}, 30_000);

test('a UDP flow that never pauses leaves a task that is gone; TCP goes on', async () => {
  const ports = [
    { published_port: 5300, target_port: 5353, protocol: PortConfig_Protocol.UDP },
    { published_port: 9001, target_port: 9000 },
  ];
  for (const id of ['t1', 't2']) stops.push(await serve(inside[id] ?? '', id, 5353, 'UDP'));
  await publish({ ports });
  const one = (): string => {
    const sent = `echo x | socat -t1 -T1 - UDP4:${a.address}:5300,sourceport=40001,reuseaddr`;
    return run(lab.client, 'sh', '-c', sent).out.trim();
  };
  await expect.poll(one).toMatch(new RegExp(`^t\\d ${lab.clientAddress}$`));
  const first = one().split(' ')[0] as 't1' | 't2';
  expect(one()).toContain(first);
  const other = first === 't1' ? 't2' : 't1';
  const links = [connectEcho(lab.client, a.address, 9001), connectEcho(lab.client, a.address, 9001)];
  for (const link of links) expect(await link.echoes('before')).toBe(true);
  await publish({ ports, tasks: [other] });
  await expect.poll(one, { timeout: 5000 }).toBe(`${other} ${lab.clientAddress}`);
  // One of the two went to the task that is still there.
  const alive = await Promise.all(links.map((link) => link.echoes('after')));
  expect(alive).toContain(true);
  for (const link of links) link.close();
}, 30_000);

/** An SCTP INIT by hand (RFC 9260 3.3.2), since this kernel may have no SCTP sockets; and who hears it. */
const SCTP_SEND = `
import socket, struct, sys
def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8): crc = (crc >> 1) ^ (0x82f63b78 if crc & 1 else 0)
    return crc ^ 0xffffffff
chunk = struct.pack('!BBHIIHHI', 1, 0, 20, 7, 65536, 1, 1, 1)
head = struct.pack('!HHI', 5000, int(sys.argv[2]), 0)
packet = head + struct.pack('<I', crc32c(head + bytes(4) + chunk)) + chunk
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, 132)
s.sendto(packet, (sys.argv[1], 0))
`;
const SCTP_HEAR = `
import socket, struct, sys
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, 132)
s.settimeout(5)
print('ready', flush=True)
packet, peer = s.recvfrom(2048)
print(peer[0], struct.unpack('!HH', packet[20:24])[1], flush=True)
`;

test('SCTP reaches a task on another host with the address of its client', async () => {
  const sctp = { published_port: 9100, target_port: 9200, protocol: PortConfig_Protocol.SCTP };
  await publish({ ports: [sctp, { ...web, published_port: 8301 }], tasks: ['t2'] });
  await expect.poll(() => ask(lab.client, a.address, 8301)).toMatch(/^t2/);
  const ear = spawn('nsenter', [`--net=${inside['t2'] ?? ''}`, '/usr/bin/python3', '-c', SCTP_HEAR], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let heard = '';
  ear.stdout.on('data', (data: Buffer) => (heard += data.toString()));
  await expect.poll(() => heard, { timeout: 5000 }).toContain('ready');
  expect(run(lab.client, '/usr/bin/python3', '-c', SCTP_SEND, a.address, '9100').code).toBe(0);
  await expect.poll(() => heard, { timeout: 5000 }).toContain(`${lab.clientAddress} 9200`);
}, 30_000);

/** A datagram as a member's tunnel would send it: VXLAN, Ethernet, IPv4, UDP to port 7777 of a task. */
const FORGE = `
import socket, struct, sys
target, vni, mac, ip = sys.argv[1], int(sys.argv[2]), bytes.fromhex(sys.argv[3].replace(':', '')), sys.argv[4]
data = sys.argv[5].encode() + b'\\n'
udp = struct.pack('!HHHH', 6666, 7777, 8 + len(data), 0) + data
head = struct.pack('!BBHHHBBH4s4s', 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0, socket.inet_aton('10.9.1.77'), socket.inet_aton(ip))
total = sum(struct.unpack('!10H', head))
total = (total & 0xffff) + (total >> 16)
head = head[:10] + struct.pack('!H', ~(total + (total >> 16)) & 0xffff) + head[12:]
frame = mac + bytes.fromhex('024200000077') + b'\\x08\\x00' + head + udp
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(struct.pack('!II', 0x08000000, vni << 8) + frame, (target, ${PORT}))
`;

/** A table of the overlay with its tasks in `ids`. */
function backTable(of: number, ids: readonly ('e1' | 'e2')[]): NetworkTable {
  const facts = { id: NET, name: 'back', version: of, vni: 4097, subnet: '10.9.1.0/24', gateway: '10.9.1.1' };
  const tasks = [
    { id: 'e1', host: a, address: '10.9.1.5' },
    { id: 'e2', host: b, address: '10.9.1.6' },
  ].filter(({ id }) => ids.some((one) => one === id));
  return makeTable({ ...facts, vip: '10.9.1.2', hosts: lab.hosts, tasks });
}

test('nobody but the kernel of a member speaks to the tunnel port', async () => {
  const tasks = [
    { id: 'e1', host: a, address: '10.9.1.5' },
    { id: 'e2', host: b, address: '10.9.1.6' },
  ];
  const table = backTable(1, ['e1', 'e2']);
  const spaces: string[] = [];
  for (const { id, host, address } of tasks) {
    await host.network.setTable(table);
    const made = await host.network.createSandbox({
      id: id.repeat(32),
      names: [id],
      endpoints: [{ networkId: NET, address: `${address}/24`, mac: macOf(address), aliases: [] }],
      ports: [],
      dns: [],
    });
    spaces.push(made.namespacePath);
    inside[id] = made.namespacePath;
  }
  const [mine = '', theirs = ''] = spaces;
  const file = join(lab.root, 'heard');
  const ear = spawn('nsenter', [`--net=${theirs}`, 'socat', '-u', 'UDP4-RECV:7777', `CREATE:${file}`], {
    stdio: 'ignore',
  });
  stops.push(() => void ear.kill('SIGKILL'));
  await expect.poll(() => run(theirs, 'busybox', 'netstat', '-lun').out).toContain(':7777 ');
  const heard = (): string => (existsSync(file) ? readFileSync(file, 'utf8') : '');
  const forge = (from: string, word: string, ...before: string[]): string =>
    run(from, ...before, '/usr/bin/python3', '-I', '-c', FORGE, b.address, '4097', macOf('10.9.1.6'), '10.9.1.6', word)
      .out;
  // util-linux' setpriv: a user with no rights at all.
  const nobody = ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups'];
  expect(forge(a.namespace, 'by-user', ...nobody)).toContain('Operation not permitted');
  expect(forge(a.namespace, 'by-root')).toContain('Operation not permitted');
  expect(forge(mine, 'by-container')).toBe('');
  expect(forge(lab.client, 'by-stranger')).toBe('');
  // Real traffic flows meanwhile, and what is heard proves that the ear hears.
  expect(run(mine, 'sh', '-c', 'echo by-task | socat - UDP4:10.9.1.6:7777').code).toBe(0);
  await expect.poll(heard).toContain('by-task');
  expect(heard()).toBe('by-task\n');
  // The forgery is good: without the sender's rules it arrives.
  const unguarded = (): string => {
    // The daemon may have made them again before the forger has begun.
    run(a.namespace, 'nft', 'delete', 'table', 'ip', `shoal-${a.tag}`);
    forge(a.namespace, 'unguarded', ...nobody);
    return heard();
  };
  await expect.poll(unguarded).toContain('unguarded');
  await a.network.reconcile();
  forge(a.namespace, 'guarded-again', ...nobody);
  expect(run(mine, 'sh', '-c', 'echo last | socat - UDP4:10.9.1.6:7777').code).toBe(0);
  await expect.poll(heard).toContain('last');
  expect(heard()).not.toContain('guarded-again');
}, 30_000);

test('a UDP flow to a virtual address leaves a task that is gone', async () => {
  const mine = inside['e1'] ?? '';
  for (const id of ['e1', 'e2']) stops.push(await serve(inside[id] ?? '', id, 5353, 'UDP'));
  const one = (): string => {
    const sent = 'echo x | socat -t1 -T1 - UDP4:10.9.1.2:5353,sourceport=40002,reuseaddr';
    return run(mine, 'sh', '-c', sent).out.split(' ')[0] ?? '';
  };
  const first = one() as 'e1' | 'e2';
  expect(['e1', 'e2']).toContain(first);
  expect(one()).toBe(first);
  const other = first === 'e1' ? 'e2' : 'e1';
  for (const host of lab.hosts) await host.network.setTable(backTable(2, [other]));
  await expect.poll(one, { timeout: 5000 }).toBe(other);
}, 30_000);
