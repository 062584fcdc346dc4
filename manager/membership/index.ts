export { withPort } from './advertised.ts';
export { createManagerStatus } from './manager-status.ts';
export { MemberList, memberContext, memberMessage, type Member } from './member-list.ts';
export type { MemberProgress, MembershipRaft } from './raft-port.ts';
export { createRoleManager } from './role-manager.ts';
export { completeAddress, HEALTH_RAFT, MembershipService, splitAddress } from './service.ts';
export { canRemove } from './quorum.ts';
export { QuorumWatch, type LastLeader, type LostManager, type QuorumLoss } from './quorum-watch.ts';
