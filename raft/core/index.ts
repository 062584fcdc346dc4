export { Raft } from './raft.ts';
export {
  changeMembership,
  changeMembershipJointly,
  confStateOf,
  isJoint,
  membershipAfter,
  membershipOf,
  membersOf,
  type Membership,
} from './conf-change.ts';
export { raftMessage } from './state.ts';
export {
  NONE,
  type InitialState,
  type ProposalResult,
  type RaftOptions,
  type RaftRole,
  type Ready,
  type Refusal,
} from './types.ts';
