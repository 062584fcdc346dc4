import { BlockList, isIP } from 'node:net';
import { olderVersion, segment } from './client.ts';
import {
  atLeast,
  exactly,
  FILTER,
  INSPECT_FORMAT,
  FORMAT,
  NO_TRUNC,
  option,
  QUIET,
  type CommandGroup,
} from './command.ts';
import { say, type Context } from './context.ts';
import { inspect } from './inspect.ts';
import type { Flags } from './options.ts';
import { confirmed, removeEach } from './remove.ts';
import { headers, renderListing } from './table.ts';
import { Row } from './template-values.ts';
import { goTime, naturalOrder, shortId } from './units.ts';
import { cut, keyValues } from './words.ts';

interface Network {
  Id: string;
  Name: string;
  Driver: string;
  Scope: string;
  Created: string;
  EnableIPv4?: boolean;
  EnableIPv6: boolean;
  Internal: boolean;
  Ingress?: boolean;
  Labels: Record<string, string> | null;
}

interface IpamConfig {
  Subnet?: string;
  IPRange?: string;
  Gateway?: string;
  AuxiliaryAddresses?: Record<string, string>;
}

const COLUMNS = '{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}';
const HEADERS = headers(
  'ID=NETWORK ID',
  'Name',
  'Driver',
  'Scope',
  'IPv4=IPV4',
  'IPv6=IPV6',
  'Internal',
  'Labels',
  'CreatedAt=CREATED AT',
);

/** Labels in one line, in order. */
export function labelLine(labels: Record<string, string> | null | undefined): string {
  return Object.entries(labels ?? {})
    .map(([key, value]) => `${key}=${value}`)
    .toSorted()
    .join(',');
}

async function list(context: Context, flags: Flags): Promise<void> {
  const networks = await context.client.get<Network[]>('/networks', { filters: flags.filters });
  networks.sort((a, b) => naturalOrder(a.Name, b.Name));
  const rows = networks.map(
    (network) =>
      new Row('*network.networkContext', {
        ID: flags.bool('no-trunc') ? network.Id : shortId(network.Id),
        Name: network.Name,
        Driver: network.Driver,
        Scope: network.Scope,
        IPv4: String(network.EnableIPv4 ?? true),
        IPv6: String(network.EnableIPv6),
        Internal: String(network.Internal),
        Labels: labelLine(network.Labels),
        CreatedAt: goTime(network.Created),
        Label: (name: string) => network.Labels?.[name] ?? '',
      }),
  );
  const quiet = flags.bool('quiet') ? 'ID' : undefined;
  context.out.write(renderListing({ rows, columns: COLUMNS, headers: HEADERS, format: flags.string('format'), quiet }));
}

/** Whether a subnet holds an address or all of another subnet. What is neither, the daemon judges. */
function contains(subnet: string, text: string): boolean {
  const [base = '', length = ''] = subnet.split('/');
  const [address = '', inner] = text.split('/');
  const family = isIP(base);
  if (family === 0 || isIP(address) !== family || !/^\d{1,3}$/.test(length)) return false;
  const bits = family === 4 ? 32 : 128;
  if (Number(length) > bits || Number(inner ?? bits) < Number(length)) return false;
  const list = new BlockList();
  const kind = family === 4 ? 'ipv4' : 'ipv6';
  list.addSubnet(base, Number(length), kind);
  return list.check(address, kind);
}

export function ipamConfigs(flags: Pick<Flags, 'list'>): IpamConfig[] {
  const subnets = flags.list('subnet');
  const ranges = flags.list('ip-range');
  const gateways = flags.list('gateway');
  const aux = keyValues(flags.list('aux-address'));
  if (subnets.length < ranges.length || subnets.length < gateways.length) {
    throw new Error('every ip-range or gateway must have a corresponding subnet');
  }
  const configs = new Map<string, IpamConfig>();
  for (const subnet of subnets) {
    for (const other of configs.keys()) {
      if (contains(subnet, other) || contains(other, subnet))
        throw new Error('multiple overlapping subnet configuration is not supported');
    }
    configs.set(subnet, { Subnet: subnet, AuxiliaryAddresses: {} });
  }
  const owner = (text: string): IpamConfig | undefined =>
    configs.get(subnets.find((subnet) => contains(subnet, text)) ?? '');
  for (const range of ranges) {
    const config = owner(range);
    if (config === undefined) throw new Error(`no matching subnet for range ${range}`);
    if (config.IPRange !== undefined)
      throw new Error(
        `cannot configure multiple ranges (${range}, ${config.IPRange}) on the same subnet (${config.Subnet})`,
      );
    config.IPRange = range;
  }
  for (const gateway of gateways) {
    const config = owner(gateway);
    if (config === undefined) throw new Error(`no matching subnet for gateway ${gateway}`);
    if (config.Gateway !== undefined)
      throw new Error(
        `cannot configure multiple gateways (${gateway}, ${config.Gateway}) for the same subnet (${config.Subnet})`,
      );
    config.Gateway = gateway;
  }
  for (const [name, address] of Object.entries(aux)) {
    const config = owner(address);
    if (config === undefined) throw new Error(`no matching subnet for aux-address ${address}`);
    (config.AuxiliaryAddresses ??= {})[name] = address;
  }
  return [...configs.values()];
}

async function create(context: Context, flags: Flags, words: readonly string[]): Promise<void> {
  const configFrom = flags.string('config-from');
  const body = {
    Name: words[0] ?? '',
    // Newer daemons always look for a network of the same name; older ones must be told.
    ...(olderVersion(await context.client.version(), '1.44') ? { CheckDuplicate: true } : {}),
    Driver: flags.string('driver'),
    Scope: flags.string('scope'),
    ...(flags.changed('ipv4') ? { EnableIPv4: flags.bool('ipv4') } : {}),
    ...(flags.changed('ipv6') ? { EnableIPv6: flags.bool('ipv6') } : {}),
    IPAM: {
      Driver: flags.string('ipam-driver'),
      Options: keyValues(flags.list('ipam-opt')),
      Config: ipamConfigs(flags),
    },
    Internal: flags.bool('internal'),
    Attachable: flags.bool('attachable'),
    Ingress: flags.bool('ingress'),
    ConfigOnly: flags.bool('config-only'),
    ConfigFrom: configFrom === '' ? null : { Network: configFrom },
    Options: keyValues(flags.list('opt')),
    Labels: keyValues(flags.list('label')),
  };
  const answer = await context.client.post<{ Id: string; Warning?: string }>('/networks/create', body);
  if ((answer.Warning ?? '') !== '') say(context.err, `WARNING: ${answer.Warning}`);
  say(context.out, answer.Id);
}

async function show(context: Context, flags: Flags, words: readonly string[]): Promise<void> {
  const query = {
    verbose: flags.bool('verbose'),
    scope: flags.string('scope') === '' ? undefined : flags.string('scope'),
  };
  await inspect(context, words, flags.string('format'), (name) =>
    context.client.text({ method: 'GET', path: `/networks/${segment(name)}`, query }),
  );
}

const INGRESS_QUESTION =
  'WARNING! Before removing the routing-mesh network, make sure all the nodes in your swarm run the same docker engine version. ' +
  'Otherwise, removal may not be effective and functionality of newly create ingress networks will be impaired.\nAre you sure you want to continue?';

function remove(context: Context, flags: Flags, words: readonly string[]): Promise<number> {
  return removeEach(context, words, async (name) => {
    try {
      const network = await context.client.get<Network>(`/networks/${segment(name)}`);
      if (network.Ingress === true && !(await confirmed(context, INGRESS_QUESTION))) return;
      await context.client.delete(`/networks/${segment(name)}`);
    } catch (error) {
      if (flags.bool('force')) return;
      throw error;
    }
    say(context.out, name);
  });
}

async function prune(context: Context, flags: Flags): Promise<void> {
  const warning = 'WARNING! This will remove all custom networks not used by at least one container.';
  if (!flags.bool('force') && !(await confirmed(context, `${warning}\nAre you sure you want to continue?`))) return;
  const answer = await context.client.post<{ NetworksDeleted: string[] | null }>('/networks/prune', undefined, {
    filters: flags.filters,
  });
  const names = answer.NetworksDeleted ?? [];
  if (names.length > 0) context.out.write(`Deleted Networks:\n${names.map((name) => `${name}\n`).join('')}\n`);
}

/** Settings of one end of a container on a network. */
function endpoint(flags: Flags): object {
  return {
    IPAMConfig: {
      IPv4Address: flags.string('ip'),
      IPv6Address: flags.string('ip6'),
      LinkLocalIPs: flags.list('link-local-ip'),
    },
    Links: flags.list('link'),
    Aliases: flags.list('alias'),
    DriverOpts: keyValues(flags.list('driver-opt')),
    GwPriority: flags.number('gw-priority') ?? 0,
  };
}

async function connect(context: Context, flags: Flags, words: readonly string[]): Promise<void> {
  const [network = '', container = ''] = words;
  const body = { Container: container, EndpointConfig: endpoint(flags) };
  await context.client.post(`/networks/${segment(network)}/connect`, body);
}

async function disconnect(context: Context, flags: Flags, words: readonly string[]): Promise<void> {
  const [network = '', container = ''] = words;
  const body = { Container: container, Force: flags.bool('force') };
  await context.client.post(`/networks/${segment(network)}/disconnect`, body);
}

const parseAux = (text: string): string => {
  if (cut(text, '=')[1] === undefined) throw new Error(`invalid aux-address ${text}: a NAME=ADDRESS pair is expected`);
  return text;
};

const CREATE_OPTIONS = [
  option('driver,d', 'string', 'Driver of the network', { initial: 'bridge', shown: '"bridge"' }),
  option('opt,o', 'map', "The driver's own options", { shown: 'map[]' }),
  option('label', 'list', 'Labels of the network'),
  option('internal', 'bool', 'Keep the network apart from the outside'),
  option('ipv4', 'bool', 'Give IPv4 addresses', { initial: true, shown: 'true' }),
  option('ipv6', 'bool', 'Give IPv6 addresses'),
  option('attachable', 'bool', 'Let containers outside of services join'),
  option('ingress', 'bool', "Make it the swarm's network for published ports"),
  option('scope', 'string', 'Where the network is valid'),
  option('config-from', 'string', 'Network whose settings are taken'),
  option('config-only', 'bool', 'Keep settings only, make no network'),
  option('ipam-driver', 'string', 'Driver that gives addresses', { initial: 'default', shown: '"default"' }),
  option('subnet', 'strings', 'Subnet in CIDR form'),
  option('ip-range', 'strings', 'Part of the subnet that containers get addresses from'),
  option('gateway', 'strings', "The subnet's gateway"),
  option('aux-address', 'map', 'Addresses that are in use by others (NAME=ADDRESS)', {
    parse: parseAux,
    shown: 'map[]',
  }),
  option('ipam-opt', 'map', "The address driver's own options", { shown: 'map[]' }),
];

const CONNECT_OPTIONS = [
  option('alias', 'list', 'More names of the container on the network'),
  option('driver-opt', 'list', 'Options of the network driver'),
  option('gw-priority', 'int', 'The highest one carries the default route', { initial: 0 }),
  option('ip', 'string', 'IPv4 address (such as 172.30.100.104)'),
  option('ip6', 'string', 'IPv6 address (such as 2001:db8::33)'),
  option('link', 'list', 'Another container under a name that this one knows'),
  option('link-local-ip', 'list', 'Link-local address'),
];

export const networkCommands: CommandGroup = {
  connect: { usage: 'NETWORK CONTAINER', arguments: exactly(2), options: CONNECT_OPTIONS, run: connect },
  disconnect: {
    usage: 'NETWORK CONTAINER',
    arguments: exactly(2),
    options: [option('force,f', 'bool', 'Also when the container is gone')],
    run: disconnect,
  },
  create: { usage: 'NETWORK', arguments: exactly(1), options: CREATE_OPTIONS, run: create },
  ls: { usage: '', arguments: exactly(0), options: [FILTER, FORMAT, QUIET, NO_TRUNC], run: list },
  inspect: {
    usage: 'NETWORK [NETWORK...]',
    arguments: atLeast(1),
    options: [
      INSPECT_FORMAT,
      option('verbose,v', 'bool', 'Show what helps to find faults'),
      option('scope', 'string', 'Scope to look in', { hidden: true }),
    ],
    run: show,
  },
  rm: {
    usage: 'NETWORK [NETWORK...]',
    arguments: atLeast(1),
    options: [option('force,f', 'bool', 'No error for networks that do not exist')],
    run: remove,
  },
  prune: {
    usage: '',
    arguments: exactly(0),
    options: [
      option('filter', 'filter', 'Only networks that fit (until=…, label=…)'),
      option('force,f', 'bool', 'Do not ask'),
    ],
    run: prune,
  },
};
