import { arch, availableParallelism, hostname, totalmem } from 'node:os';
import { invalidArgument } from '../base/index.ts';
import { issuerInfo } from '../identity/index.ts';
import type { HostNetworks } from '../overlay-net/index.ts';
import { NodeDescription, PROTOCOLS_BY_NAME, type GenericResource, type Partially } from '../proto/index.ts';
import type { DaemonConfig } from './config.ts';
import { hostSubnets } from './host-subnets.ts';

/** uname's word for the processor, as agents report it. */
export function machineArchitecture(): string {
  const words: Record<string, string> = { x64: 'x86_64', arm64: 'aarch64', ia32: 'i686', arm: 'armv7l' };
  return words[arch()] ?? arch();
}

/** Plugins that are built in; the scheduler's plugin filter reads them. */
export const PLUGINS = {
  Volume: ['local'],
  Network: ['bridge', 'host', 'null', 'overlay'],
  Log: ['journald', 'json-file', 'local', 'none', 'syslog'],
} as const;

/**
 * `--node-generic-resource` values: a number makes a discrete resource, words make named ones (`gpu=UUID1`).
 * @throws ShoalError InvalidArgument for values without `=`, and for a kind that is both discrete and named
 */
export function parseGenericResources(values: readonly string[]): Partially<GenericResource>[] {
  const kinds = new Map<string, 'discrete' | 'named'>();
  return values
    .flatMap((text) => text.split(','))
    .map((text) => {
      const [kind = '', value = ''] = text.split('=');
      if (kind === '' || value === '') {
        throw invalidArgument(`invalid generic resource "${text}": kind=value is expected`);
      }
      const form = /^\d+$/.test(value) ? 'discrete' : 'named';
      const before = kinds.get(kind);
      if (before !== undefined && (before !== form || form === 'discrete')) {
        throw invalidArgument(`generic resource "${kind}" is given more than once: one number, or several names`);
      }
      kinds.set(kind, form);
      if (form === 'discrete') return { discrete_resource_spec: { kind, value: Number(value) } };
      return { named_resource_spec: { kind, value } };
    });
}

/** What this node tells the managers of itself. */
export function describeNode(
  config: Pick<DaemonConfig, 'labels' | 'genericResources'>,
  facts: {
    engineVersion: string;
    rootCa: string;
    dataPathAddr: string;
    wireguardKey: Uint8Array;
    portClashes: ReturnType<HostNetworks['meshClashes']>;
  },
): NodeDescription {
  const issuer = issuerInfo(facts.rootCa);
  return NodeDescription.create({
    hostname: hostname(),
    platform: { architecture: machineArchitecture(), os: 'linux' },
    resources: {
      nano_cpus: availableParallelism() * 1e9,
      memory_bytes: totalmem(),
      generic: parseGenericResources(config.genericResources),
    },
    engine: {
      engine_version: facts.engineVersion,
      labels: config.labels,
      plugins: Object.entries(PLUGINS).flatMap(([type, names]) => names.map((name) => ({ type, name }))),
    },
    tls_info: {
      trust_root: Buffer.from(facts.rootCa),
      cert_issuer_subject: issuer.subject,
      cert_issuer_public_key: issuer.publicKey,
    },
    data_path_addr: facts.dataPathAddr,
    wireguard_key: facts.wireguardKey,
    host_subnets: hostSubnets(),
    port_clashes: facts.portClashes.map(({ protocol, port, hostIp, holder }) => {
      return { protocol: PROTOCOLS_BY_NAME[protocol], port, host_ip: hostIp, holder };
    }),
  });
}
