export { WIREGUARD_OVERHEAD_BYTES } from './config.ts';
export { SecureTunnel } from './tunnel.ts';
export type { NetworkKey } from './keys.ts';
