import { chown, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ContainerConfig } from '../types.ts';

/** Where the embedded resolver of a sandbox answers. */
const SANDBOX_RESOLVER = '127.0.0.11';
const SYSTEMD_STUB = '127.0.0.53';
const PUBLIC_RESOLVERS = ['8.8.8.8', '8.8.4.4'];

export interface EtcFilesRequest {
  config: Pick<ContainerConfig, 'network' | 'extraHosts' | 'dns' | 'dnsSearch' | 'dnsOptions' | 'domainname'>;
  hostname: string;
  /** Addresses (without mask) of the container's own interfaces. */
  addresses: readonly string[];
  /** Address for `host-gateway` in extra hosts. */
  gateway: string | undefined;
  /** The sandbox's own resolver serves: some network of it names its containers. */
  resolver: boolean;
  /** Lines of containers that it is linked to. */
  linkLines: readonly string[];
  /** Root of the container on the host, where that is another. */
  owner?: { uid: number; gid: number };
}

export interface EtcFiles {
  hostname: string;
  hosts: string;
  resolvConf: string;
}

function hostsText(request: EtcFilesRequest): string {
  const lines = ['127.0.0.1\tlocalhost', '::1\tlocalhost ip6-localhost ip6-loopback', 'fe00::\tip6-localnet'];
  lines.push('ff00::\tip6-mcastprefix', 'ff02::1\tip6-allnodes', 'ff02::2\tip6-allrouters');
  lines.push(...extraHostLines(request));
  lines.push(...request.linkLines, ...ownHostLines(request));
  return `${lines.join('\n')}\n`;
}

/** Lines of a hosts file that tell the container's own addresses. */
export function ownHostLines({ addresses, hostname, config }: EtcFilesRequest): string[] {
  const names = config.domainname ? `${hostname}.${config.domainname} ${hostname}` : hostname;
  return addresses.map((address) => `${address}\t${names}`);
}

/** `name:address` (or `name=address`) entries as lines of a hosts file. */
function extraHostLines(request: EtcFilesRequest): string[] {
  const lines: string[] = [];
  for (const entry of request.config.extraHosts) {
    const cut = entry.search(/[:=]/);
    if (cut <= 0) continue;
    const address = entry.slice(cut + 1);
    const real = address === 'host-gateway' ? request.gateway : address.replace(/^\[(.*)\]$/, '$1');
    if (real !== undefined) lines.push(`${real}\t${entry.slice(0, cut)}`);
  }
  return lines;
}

/**
 * Text of a resolv.conf(5): the sandbox's resolver, or the host's with what the user set replacing it. Resolvers on the
 * host's loopback are of no use in another namespace; when no other is left, public ones serve, as Docker has it.
 */
export function resolvConfText(request: EtcFilesRequest, hostText: string): string {
  const { dns, dnsSearch, dnsOptions, network } = request.config;
  const host = hostText.split('\n').map((line) => line.trim().split(/\s+/));
  const values = (keyword: string): string[] => host.filter(([first]) => first === keyword).flatMap((l) => l.slice(1));
  const sandbox = network.mode === 'sandbox';
  const own = sandbox && request.resolver;
  const found = values('nameserver');
  const reachable = sandbox ? found.filter((server) => !isLoopback(server)) : found;
  const usual = reachable.length > 0 || !sandbox ? reachable : PUBLIC_RESOLVERS;
  const nameservers = own ? [SANDBOX_RESOLVER] : dns.length > 0 ? dns : usual;
  const search = dnsSearch.length > 0 ? dnsSearch.filter((domain) => domain !== '.') : values('search');
  const options = dnsOptions.length > 0 ? [...dnsOptions] : values('options');
  if (own && !options.some((option) => option.startsWith('ndots:'))) options.push('ndots:0');
  const lines = nameservers.map((server) => `nameserver ${server}`);
  if (search.length > 0) lines.push(`search ${search.join(' ')}`);
  if (options.length > 0) lines.push(`options ${options.join(' ')}`);
  return `${lines.join('\n')}\n`;
}

function isLoopback(server: string): boolean {
  return server.startsWith('127.') || server === '::1';
}

/** The host's resolv.conf; where only a stub of systemd-resolved stands there, the one with the real servers. */
export async function hostResolvConf(): Promise<string> {
  const text = await hostFile('/etc/resolv.conf');
  const servers = [...text.matchAll(/^\s*nameserver\s+(\S+)/gm)].map((match) => match[1]);
  if (servers.length !== 1 || servers[0] !== SYSTEMD_STUB) return text;
  return (await hostFile('/run/systemd/resolve/resolv.conf')) || text;
}

async function hostFile(path: string): Promise<string> {
  return readFile(path, 'utf8').catch(() => '');
}

/** Writes hostname, hosts and resolv.conf of a container into `directory`; returns their paths. */
export async function writeEtcFiles(directory: string, request: EtcFilesRequest): Promise<EtcFiles> {
  const paths: EtcFiles = {
    hostname: join(directory, 'hostname'),
    hosts: join(directory, 'hosts'),
    resolvConf: join(directory, 'resolv.conf'),
  };
  const hosts =
    request.config.network.mode === 'host'
      ? `${(await hostFile('/etc/hosts')).trimEnd()}\n${extraHostLines(request).join('\n')}\n`
      : hostsText(request);
  await Promise.all([
    writeFile(paths.hostname, `${request.hostname}\n`, { mode: 0o644 }),
    writeFile(paths.hosts, hosts, { mode: 0o644 }),
    writeFile(paths.resolvConf, resolvConfText(request, await hostResolvConf()), { mode: 0o644 }),
  ]);
  const { owner } = request;
  if (owner !== undefined) {
    await Promise.all(Object.values(paths).map((path) => chown(path as string, owner.uid, owner.gid)));
  }
  return paths;
}
