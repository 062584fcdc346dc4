export { macForAddress } from './address.ts';
export { createAllocator, type AllocatorDeps } from './allocator.ts';
export { withoutNeeds } from './tasks.ts';
