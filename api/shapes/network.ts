import { NetworkSpec, timestampToIso, type IPAMOptions, type Network, type Partially } from '../../proto/index.ts';
import type { JsonObject, LocalNetworkFacts } from '../ports.ts';
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

/** Docker's JSON of a network of this host. */
export function localNetworkToJson(network: LocalNetworkFacts): JsonObject {
  const config = network.subnet === '' ? [] : [{ Subnet: network.subnet, Gateway: network.gateway }];
  return {
    Name: network.name,
    Id: network.id,
    Created: new Date(network.createdMs).toISOString(),
    Scope: 'local',
    Driver: network.driver,
    EnableIPv4: true,
    EnableIPv6: false,
    IPAM: { Driver: 'default', Options: null, Config: config },
    Internal: network.internal,
    Attachable: false,
    Ingress: false,
    ConfigFrom: { Network: '' },
    ConfigOnly: false,
    Containers: {},
    Options: network.options,
    Labels: network.labels,
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
