export { WIREGUARD_OVERHEAD_BYTES } from './config.ts';
export { SecureTunnel, type SecureTunnelOptions } from './tunnel.ts';
export type { NetworkKey } from './keys.ts';
