/** Published ports as data: which targets a port of the host leads to. Pure: no I/O, clock or randomness. */
import { isIPv4, isIPv6 } from 'node:net';
import {
  PortConfig_PublishMode,
  PROTOCOL_NAMES,
  type NetworkEndpoint,
  type NetworkTable,
  type ProtocolName,
} from '../proto/index.ts';
import { addressesOf } from './plan.ts';

export type NftFamily = 'ip' | 'ip6';

export interface PortTarget {
  /** IPv4 or IPv6, without mask. */
  address: string;
  port: number;
  /** Share of new connections; default 1. */
  weight?: number;
}

/** One published port: connections to it are sent to `targets` in turn. */
export interface PortRule {
  protocol: 'tcp' | 'udp' | 'sctp';
  port: number;
  /** An address of the host; empty: all of them, 0.0.0.0 and ::: all of one family. */
  hostIp: string;
  /** Of both families; a client is sent to those of its own. */
  targets: PortTarget[];
  /** Reached through the ingress namespace, not by the host's own routes. */
  ingress: boolean;
}

/** The largest weight of one target; larger ones are cut to it. */
export const WEIGHT_MAX = 1000;

/** Another version's managers may know more. */
const PROTOCOLS: Readonly<Record<number, ProtocolName | undefined>> = PROTOCOL_NAMES;

export function nftFamilyOf(address: string): NftFamily {
  return address.includes(':') ? 'ip6' : 'ip';
}

/**
 * Ports that the services of the ingress network publish on every host and that have a serving task. A service that
 * prefers local tasks is sent to those of `nodeId` as long as one of them serves.
 */
export function ingressPorts(table: NetworkTable, drained: ReadonlySet<string>, nodeId: string): PortRule[] {
  const serving = new Map<string, NetworkEndpoint[]>();
  for (const endpoint of table.endpoints) {
    if (!endpoint.serving || addressesOf(endpoint).some((address) => drained.has(address))) continue;
    const list = serving.get(endpoint.service_id);
    if (list === undefined) serving.set(endpoint.service_id, [endpoint]);
    else list.push(endpoint);
  }
  const rules: PortRule[] = [];
  for (const service of table.services) {
    const all = serving.get(service.service_id) ?? [];
    const local = service.prefer_local ? all.filter((endpoint) => endpoint.node_id === nodeId) : [];
    const targets = (local.length > 0 ? local : all)
      .flatMap((endpoint) => addressesOf(endpoint).map((address) => ({ address, weight: weightOf(endpoint) })))
      .sort((a, b) => (a.address < b.address ? -1 : 1));
    if (targets.length === 0) continue;
    for (const port of service.ports) {
      const protocol = PROTOCOLS[port.protocol];
      if (port.publish_mode !== PortConfig_PublishMode.INGRESS || port.published_port === 0 || !protocol) continue;
      rules.push({
        protocol,
        port: port.published_port,
        hostIp: port.host_ip,
        targets: targets.map((target) => ({ ...target, port: port.target_port })),
        ingress: true,
      });
    }
  }
  return rules;
}

function weightOf(endpoint: NetworkEndpoint): number {
  return Math.min(Math.max(endpoint.weight, 1), WEIGHT_MAX);
}

/**
 * Rules bound to an interface become one rule for each of its addresses.
 * @param linkAddressesOf addresses that an interface of the host has now; empty when there is no such interface.
 */
export function boundRules(
  rules: readonly PortRule[],
  linkAddressesOf: (name: string) => readonly string[],
): PortRule[] {
  return rules.flatMap((rule) => {
    if (rule.hostIp === '' || isIPv4(rule.hostIp) || isIPv6(rule.hostIp)) return [rule];
    return linkAddressesOf(rule.hostIp).map((hostIp) => ({ ...rule, hostIp }));
  });
}

/** Where a rule stands in one family's table: undefined not at all, empty for all addresses, else one address. */
export function boundAddress(rule: PortRule, family: NftFamily): string | undefined {
  if (rule.hostIp === '') return '';
  if (nftFamilyOf(rule.hostIp) !== family) return undefined;
  return rule.hostIp === '0.0.0.0' || rule.hostIp === '::' ? '' : rule.hostIp;
}
