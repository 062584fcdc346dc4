/** Networks of `run`: `--network` with the options that stand for its first network. */
import type { Flags } from './options.ts';
import { isMac, runNetwork, type RunNetwork } from './run-values.ts';

/** A network of a container, as the API takes it. */
export interface EndpointSettings {
  IPAMConfig: Record<string, unknown> | null;
  Links: string[] | null;
  Aliases: string[] | null;
  MacAddress: string;
  DriverOpts: Record<string, string> | null;
  GwPriority: number;
  [field: string]: unknown;
}

const isUserDefined = (target: string): boolean =>
  !['default', 'bridge', 'host', 'none'].includes(target) && !target.startsWith('container:');

/** Facts that the daemon finds; the client sends them empty. */
const FOUND_BY_DAEMON = {
  ...{ NetworkID: '', EndpointID: '', Gateway: '', IPAddress: '', IPPrefixLen: 0 },
  ...{ IPv6Gateway: '', GlobalIPv6Address: '', GlobalIPv6PrefixLen: 0, DNSNames: null },
};

/** The first network with the options that name no network of their own. @throws Error when both say the same */
function withOptions(network: RunNetwork, flags: Flags): RunNetwork {
  const conflict = (option: string, what: string): never => {
    throw new Error(`conflicting options: cannot specify both --${option} and per-network ${what}`);
  };
  const aliases = flags.list('network-alias');
  const linkLocal = flags.list('link-local-ip');
  if (network.aliases.length > 0 && aliases.length > 0) conflict('network-alias', 'alias');
  if (network.ip !== '' && flags.string('ip') !== '') conflict('ip', 'IPv4 address');
  if (network.ip6 !== '' && flags.string('ip6') !== '') conflict('ip6', 'IPv6 address');
  if (network.mac !== '' && flags.string('mac-address') !== '') conflict('mac-address', 'MAC address');
  if (network.linkLocal.length > 0 && linkLocal.length > 0) conflict('link-local-ip', 'link-local IP addresses');
  return {
    ...network,
    aliases: aliases.length > 0 ? aliases : network.aliases,
    links: isUserDefined(network.target) ? flags.list('link') : [],
    ip: flags.string('ip') || network.ip,
    ip6: flags.string('ip6') || network.ip6,
    mac: flags.string('mac-address') || network.mac,
    linkLocal: linkLocal.length > 0 ? linkLocal : network.linkLocal,
  };
}

function settings(network: RunNetwork): EndpointSettings {
  const { target, aliases, links, ip, ip6, linkLocal, mac, driverOpts, gwPriority } = network;
  if (target.trim() === '') throw new Error('no name set for network');
  if (!isUserDefined(target)) {
    if (aliases.length > 0) throw new Error('network-scoped aliases are only supported for user-defined networks');
    if (links.length > 0) throw new Error('links are only supported for user-defined networks');
  }
  if (mac !== '' && !isMac(mac.trim())) throw new Error(`${mac} is not a valid mac address`);
  const ipam = {
    ...(ip === '' ? {} : { IPv4Address: ip }),
    ...(ip6 === '' ? {} : { IPv6Address: ip6 }),
    ...(linkLocal.length === 0 ? {} : { LinkLocalIPs: linkLocal }),
  };
  return {
    IPAMConfig: Object.keys(ipam).length === 0 ? null : ipam,
    Links: links.length === 0 ? null : links,
    Aliases: aliases.length === 0 ? null : aliases,
    MacAddress: mac,
    DriverOpts: Object.keys(driverOpts).length === 0 ? null : driverOpts,
    GwPriority: gwPriority,
    ...FOUND_BY_DAEMON,
  };
}

const isPlain = ({ IPAMConfig, Links, Aliases, MacAddress, DriverOpts, GwPriority }: EndpointSettings): boolean =>
  (IPAMConfig ?? Links ?? Aliases ?? DriverOpts) === null && MacAddress === '' && GwPriority === 0;

/** Mode and networks of a container. @throws Error in docker's words for options that contradict each other */
export function runNetworks(flags: Flags): { mode: string; endpoints: Record<string, EndpointSettings> } {
  const given = flags.list<RunNetwork>('network');
  const [first = runNetwork('default'), ...others] = given;
  const endpoints: Record<string, EndpointSettings> = {};
  for (const [i, network] of [first, ...others].entries()) {
    const endpoint = settings(i === 0 ? withOptions(network, flags) : network);
    if (Object.hasOwn(endpoints, network.target)) {
      throw new Error(`network ${JSON.stringify(network.target)} is specified multiple times`);
    }
    // One network about which nothing is said goes as the mode alone.
    if (given.length === 1 && isPlain(endpoint)) continue;
    endpoints[network.target] = endpoint;
  }
  const kinds = new Set(given.map((network) => isUserDefined(network.target)));
  if (kinds.size > 1) {
    throw new Error('conflicting options: cannot attach both user-defined and non-user-defined network-modes');
  }
  return { mode: first.target, endpoints };
}
