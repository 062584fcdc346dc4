export { HostNetwork, type HostNetworkOptions } from './host-network.ts';
export type { AddressPool } from './local-networks.ts';
export * from './types.ts';
