export { createAddressKeeper } from './address-keeper.ts';
export { LearntAddresses } from './learnt-addresses.ts';
export { createManagerStatus } from './manager-status.ts';
export { MemberList, memberContext, memberMessage, type Member } from './member-list.ts';
export type { MemberProgress, MembershipRaft } from './raft-port.ts';
export { RaftAccess } from './raft-access.ts';
export { createRoleManager } from './role-manager.ts';
export { completeAddress, HEALTH_RAFT, MembershipService, splitAddress } from './service.ts';
export { canRemove } from './quorum.ts';
