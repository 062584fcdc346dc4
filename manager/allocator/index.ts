export {
  checkAddressPools,
  DEFAULT_ADDRESS_POOL,
  DEFAULT_SUBNET_PREFIX,
  nodeInside,
  type AddressPools,
} from './address-pools.ts';
export { bitsOf, formatSubnet, macForAddress, overlaps, parseSubnet, type Subnet } from './address.ts';
export { createAllocator, type AllocatorDeps } from './allocator.ts';
export { AddressPool } from './ipam.ts';
export { sharesAddress } from './ports.ts';
export { boundPort } from './services.ts';
export { withoutNeeds } from './tasks.ts';
