import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ContainerConfig } from '../types.ts';

/** Where the embedded resolver of a sandbox answers. */
const SANDBOX_RESOLVER = '127.0.0.11';

export interface EtcFilesRequest {
  config: Pick<ContainerConfig, 'network' | 'extraHosts' | 'dns' | 'dnsSearch' | 'dnsOptions'>;
  hostname: string;
  /** Addresses (without mask) of the container's own interfaces. */
  addresses: readonly string[];
  /** Address for `host-gateway` in extra hosts. */
  gateway: string | undefined;
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
  for (const address of request.addresses) lines.push(`${address}\t${request.hostname}`);
  return `${lines.join('\n')}\n`;
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

/** Text of a resolv.conf(5): the sandbox's resolver, or the host's with what the user set replacing it. */
export function resolvConfText(request: EtcFilesRequest, hostText: string): string {
  const { dns, dnsSearch, dnsOptions, network } = request.config;
  const host = hostText.split('\n').map((line) => line.trim().split(/\s+/));
  const values = (keyword: string): string[] => host.filter(([first]) => first === keyword).flatMap((l) => l.slice(1));
  const sandbox = network.mode === 'sandbox';
  const nameservers = sandbox ? [SANDBOX_RESOLVER] : dns.length > 0 ? dns : values('nameserver');
  const search = dnsSearch.length > 0 ? dnsSearch.filter((domain) => domain !== '.') : values('search');
  const options = dnsOptions.length > 0 ? [...dnsOptions] : values('options');
  if (sandbox && !options.some((option) => option.startsWith('ndots:'))) options.push('ndots:0');
  const lines = nameservers.map((server) => `nameserver ${server}`);
  if (search.length > 0) lines.push(`search ${search.join(' ')}`);
  if (options.length > 0) lines.push(`options ${options.join(' ')}`);
  return `${lines.join('\n')}\n`;
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
    writeFile(paths.resolvConf, resolvConfText(request, await hostFile('/etc/resolv.conf')), { mode: 0o644 }),
  ]);
  return paths;
}
