import { invalidArgument } from '../../base/index.ts';
import { NetworkSpec, timestampToIso, type IPAMOptions, type Network, type Partially } from '../../proto/index.ts';
import type { ContainerFacts, JsonObject, LocalNetworkFacts, LocalNetworkRequestFacts } from '../ports.ts';
import { endpointId } from './container.ts';
import { Fields } from './fields.ts';

function ipamToJson(ipam: IPAMOptions | null): JsonObject {
  return {
    Driver: ipam?.driver?.name ?? 'default',
    Options: ipam?.driver?.options ?? null,
    Config: (ipam?.configs ?? []).map((config) => ({
      Subnet: config.subnet,
      ...(config.range === '' ? {} : { IPRange: config.range }),
      ...(config.gateway === '' ? {} : { Gateway: config.gateway }),
      ...(Object.keys(config.reserved).length === 0 ? {} : { AuxiliaryAddresses: config.reserved }),
    })),
  };
}

function hasIpv6(network: Network): boolean {
  return (network.ipam?.configs ?? []).some((config) => config.subnet.includes(':'));
}

/** Docker's JSON of a swarm network. */
export function networkToJson(network: Network): JsonObject {
  const { spec } = network;
  const labels = spec?.annotations?.labels ?? {};
  const driver = spec?.driver_config?.name || network.driver_state?.name || 'overlay';
  return {
    Name: spec?.annotations?.name ?? '',
    Id: network.id,
    Created: timestampToIso(network.meta?.created_at),
    Scope: 'swarm',
    Driver: driver,
    EnableIPv4: true,
    EnableIPv6: spec?.ipv6_enabled === true || hasIpv6(network),
    IPAM: ipamToJson(network.ipam ?? spec?.ipam ?? null),
    Internal: spec?.internal ?? false,
    Attachable: spec?.attachable ?? false,
    Ingress: spec?.ingress ?? false,
    ConfigFrom: { Network: '' },
    ConfigOnly: false,
    Containers: null,
    Options: { ...spec?.driver_config?.options, ...network.driver_state?.options },
    Labels: labels,
  };
}

/** The network object inside a task's attachment. */
export function attachedNetworkToJson(network: Network): JsonObject {
  const { spec } = network;
  return {
    ID: network.id,
    Version: { Index: network.meta?.version?.index ?? 0 },
    CreatedAt: timestampToIso(network.meta?.created_at),
    UpdatedAt: timestampToIso(network.meta?.updated_at),
    Spec: {
      Name: spec?.annotations?.name ?? '',
      Labels: spec?.annotations?.labels ?? {},
      DriverConfiguration: { Name: spec?.driver_config?.name ?? 'overlay' },
      IPv6Enabled: spec?.ipv6_enabled === true ? true : undefined,
      Internal: spec?.internal === true ? true : undefined,
      Ingress: spec?.ingress === true ? true : undefined,
      Attachable: spec?.attachable === true ? true : undefined,
      Scope: 'swarm',
    },
    DriverState: { Name: network.driver_state?.name ?? '', Options: network.driver_state?.options ?? {} },
    IPAMOptions: {
      Driver: { Name: network.ipam?.driver?.name ?? 'default' },
      Configs: (network.ipam?.configs ?? []).map((c) => ({ Subnet: c.subnet, Gateway: c.gateway })),
    },
  };
}

/** Subnets of a network of this host, with ranges and addresses of others. */
function localConfigs(network: LocalNetworkFacts): JsonObject[] {
  const families = [
    { six: false, Subnet: network.subnet, IPRange: network.ipRange, Gateway: network.gateway },
    { six: true, Subnet: network.subnet6, IPRange: network.ipRange6, Gateway: network.gateway6 },
  ];
  return families
    .filter(({ Subnet }) => Subnet !== '')
    .map(({ six, Subnet, IPRange, Gateway }) => {
      const aux = Object.entries(network.auxAddresses).filter(([, address]) => address.includes(':') === six);
      const range = IPRange === '' ? {} : { IPRange };
      const others = aux.length === 0 ? {} : { AuxiliaryAddresses: Object.fromEntries(aux) };
      return { Subnet, ...range, Gateway, ...others };
    });
}

/** Members of `Containers` of a network: those of this host that are on it now. */
export function networkContainers(networkId: string, containers: readonly ContainerFacts[]): JsonObject {
  const entries = containers.flatMap((container) => {
    const endpoint = container.endpoints.find((candidate) => candidate.networkId === networkId);
    if (endpoint === undefined) return [];
    const shown = {
      Name: container.config.name,
      EndpointID: endpointId(container.id, networkId),
      MacAddress: endpoint.mac,
      IPv4Address: endpoint.address,
      IPv6Address: endpoint.address6 ?? '',
    };
    return [[container.id, shown] as const];
  });
  return Object.fromEntries(entries);
}

/** Networks that every host has: nobody asked for options of theirs. */
const PREDEFINED: ReadonlySet<string> = new Set(['bridge', 'host', 'none']);

/** Docker's JSON of a network of this host. */
export function localNetworkToJson(network: LocalNetworkFacts): JsonObject {
  return {
    Name: network.name,
    Id: network.id,
    Created: new Date(network.createdMs).toISOString(),
    Scope: 'local',
    Driver: network.driver,
    EnableIPv4: true,
    EnableIPv6: network.subnet6 !== '',
    IPAM: { Driver: 'default', Options: PREDEFINED.has(network.name) ? null : {}, Config: localConfigs(network) },
    Internal: network.internal,
    Attachable: network.attachable,
    Ingress: false,
    ConfigFrom: { Network: '' },
    ConfigOnly: false,
    Containers: {},
    Options: network.options,
    Labels: network.labels,
  };
}

/** What the body of POST /networks/create asks of this host. @throws ShoalError InvalidArgument */
export function localNetworkFromJson(
  json: Fields,
  driver: LocalNetworkRequestFacts['driver'],
): LocalNetworkRequestFacts {
  const configs = json.object('IPAM')?.objects('Config') ?? [];
  const ipv6 = json.bool('EnableIPv6');
  const four = configs.filter((config) => !config.string('Subnet').includes(':'));
  // Without --ipv6 a subnet of that family is left aside, as Docker does.
  const six = ipv6 ? configs.filter((config) => config.string('Subnet').includes(':')) : [];
  if (four.length > 1 || six.length > 1) {
    throw invalidArgument(`${driver} networks take one subnet of each family; make one network for each subnet`);
  }
  const of = (list: Fields[], name: string): string => list[0]?.string(name) ?? '';
  return {
    name: json.string('Name'),
    driver,
    ...{ subnet: of(four, 'Subnet'), gateway: of(four, 'Gateway'), ipRange: of(four, 'IPRange') },
    ...{ subnet6: of(six, 'Subnet'), gateway6: of(six, 'Gateway'), ipRange6: of(six, 'IPRange'), ipv6 },
    auxAddresses: Object.assign({}, ...[...four, ...six].map((config) => config.stringMap('AuxiliaryAddresses'))),
    internal: json.bool('Internal'),
    attachable: json.bool('Attachable'),
    labels: json.stringMap('Labels'),
    options: json.stringMap('Options'),
  };
}

/** NetworkSpec from the body of POST /networks/create. @throws ShoalError InvalidArgument */
export function networkSpecFromJson(json: Fields): NetworkSpec {
  const ipam = json.object('IPAM');
  const configs = ipam?.objects('Config') ?? [];
  const spec: Partially<NetworkSpec> = {
    annotations: { name: json.string('Name'), labels: json.stringMap('Labels') },
    driver_config: { name: json.string('Driver'), options: json.stringMap('Options') },
    ipv6_enabled: json.bool('EnableIPv6'),
    internal: json.bool('Internal'),
    attachable: json.bool('Attachable'),
    ingress: json.bool('Ingress'),
    ipam:
      ipam === undefined
        ? null
        : {
            driver: { name: ipam.string('Driver') || 'default', options: ipam.stringMap('Options') },
            configs: configs.map((config) => ({
              family: config.string('Subnet').includes(':') ? 6 : 4,
              subnet: config.string('Subnet'),
              range: config.string('IPRange'),
              gateway: config.string('Gateway'),
              reserved: config.stringMap('AuxiliaryAddresses'),
            })),
          },
  };
  return NetworkSpec.create(spec);
}
