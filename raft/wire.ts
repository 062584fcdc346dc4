import { RaftMessageType } from '../proto/index.ts';

/** Types that may come from another member; the others are local to the algorithm. */
export const WIRE_TYPES: ReadonlySet<RaftMessageType> = new Set([
  RaftMessageType.MsgApp,
  RaftMessageType.MsgAppResp,
  RaftMessageType.MsgVote,
  RaftMessageType.MsgVoteResp,
  RaftMessageType.MsgSnap,
  RaftMessageType.MsgHeartbeat,
  RaftMessageType.MsgHeartbeatResp,
  RaftMessageType.MsgTimeoutNow,
  RaftMessageType.MsgReadIndex,
  RaftMessageType.MsgReadIndexResp,
  RaftMessageType.MsgPreVote,
  RaftMessageType.MsgPreVoteResp,
]);

/** Types that only a leader sends, and that every follower gets while there is one. */
export const LEADER_TYPES: ReadonlySet<RaftMessageType> = new Set([
  RaftMessageType.MsgApp,
  RaftMessageType.MsgSnap,
  RaftMessageType.MsgHeartbeat,
]);
