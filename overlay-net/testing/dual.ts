/** The IPv6 half of the test harness: tables with IPv6 parts, servers and clients that speak it. */
import { spawn } from 'node:child_process';
import { familyOf } from '../ip.ts';
import { IPAMConfig, NetworkTable } from '../../proto/index.ts';
import { run, type TestHost } from './harness.ts';

/** Addresses of the lab's hosts on their common link. */
export const UNDERLAY6 = '2001:db8:77::';

export function underlay6(index: number): string {
  return `${UNDERLAY6}${index}`;
}

/** Gives each host of a lab an IPv6 address beside its IPv4 one. */
export function addUnderlay6(hosts: readonly TestHost[]): void {
  for (const [i, { namespace }] of hosts.entries()) {
    const added = run(namespace, 'ip', 'addr', 'add', `${underlay6(i + 1)}/64`, 'dev', 'eth0', 'nodad');
    if (added.code !== 0) throw new Error(added.out);
  }
}

/** A table with IPv6 parts: each task's address ends in the same number as its IPv4 address. */
export function withIp6(table: NetworkTable, prefix: string, change: { vtep6?: boolean } = {}): NetworkTable {
  const six = (address: string): string => `${prefix}${Number(address.split('/')[0]?.split('.')[3]).toString(16)}`;
  const vtep = (address: string): string =>
    change.vtep6 === true ? underlay6(Number(address.split('.')[3])) : address;
  const out = NetworkTable.clone(table);
  out.network?.ipam?.configs.push(IPAMConfig.create({ subnet: `${prefix}/64`, gateway: `${prefix}1` }));
  for (const endpoint of out.endpoints) {
    endpoint.address6 = `${six(endpoint.address)}/64`;
    endpoint.vtep = vtep(endpoint.vtep);
  }
  for (const service of out.services) if (service.vip !== '') service.vip6 = six(service.vip);
  for (const peer of out.peers) peer.vtep = vtep(peer.vtep);
  return out;
}

function socatAddress(address: string, port: number): string {
  return familyOf(address) === 6 ? `6:[${address}]:${port}` : `4:${address}:${port}`;
}

/**
 * Says a word to a server of either protocol and family; the line that it answers, or socat's own words. Ends with the
 * line: to wait for the end of an answer over UDP, which has none, would take a second each time.
 */
export function tell(namespace: string, address: string, port: number, protocol: 'TCP' | 'UDP' = 'TCP'): string {
  const target = `${protocol}${socatAddress(address, port)}${protocol === 'TCP' ? ',connect-timeout=2' : ''}`;
  // Over TCP the server ends first: the line shall be printed all the same.
  const after = protocol === 'TCP' ? '-t1' : '-t0';
  return run(namespace, 'socat', after, '-T2', target, 'SYSTEM:echo hello; head -n 1 >&2').out.trim();
}

/** A server on IPv6 that answers each client with its name and the client's address; returns what ends it. */
export async function serve6(namespace: string, name: string, port: number, protocol = 'TCP'): Promise<() => void> {
  const listen = `${protocol}6-LISTEN:${port},fork,reuseaddr,ipv6only=1`;
  const child = spawn(
    'nsenter',
    [`--net=${namespace}`, 'socat', listen, `SYSTEM:read x; echo ${name} $SOCAT_PEERADDR`],
    { stdio: 'ignore', detached: true },
  );
  return listening(child.pid as number, namespace, port, protocol);
}

/** A server on IPv6 that repeats what it is told. */
export async function serveEcho6(namespace: string, port: number): Promise<() => void> {
  const args = [`--net=${namespace}`, 'socat', `TCP6-LISTEN:${port},fork,reuseaddr,ipv6only=1`, 'EXEC:cat'];
  const child = spawn('nsenter', args, { stdio: 'ignore', detached: true });
  return listening(child.pid as number, namespace, port, 'TCP');
}

async function listening(pid: number, namespace: string, port: number, protocol: string): Promise<() => void> {
  const hex = `:${port.toString(16).toUpperCase().padStart(4, '0')} `;
  for (let i = 0; i < 100; i++) {
    if (run(namespace, 'cat', `/proc/net/${protocol.toLowerCase()}6`).out.includes(hex)) break;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return () => {
    try {
      process.kill(-pid, 'SIGKILL');
    } catch {
      // Already gone.
    }
  };
}
