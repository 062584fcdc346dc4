export { HostNetwork, type HostNetworkOptions } from './host-network.ts';
export type { AddressPool } from './local-networks.ts';
export { DRIFT_KINDS, type DriftKind } from './reconcile/compare.ts';
export type { NetworkRepair, NetworkRepairs } from './reconcile/repairs.ts';
export * from './types.ts';
export { servedPorts, type ServedProtocol } from './kernel/served-ports.ts';
