export { RaftNode } from './node.ts';
export type { StartMode } from './bootstrap.ts';
export type { RaftRole } from './core/index.ts';
export {
  DEFAULT_KEEP_ENTRIES,
  DEFAULT_SNAPSHOT_ENTRIES,
  DEFAULT_TICKS,
  type AppliedEntry,
  type RaftNodeOptions,
  type RaftStatus,
  type RaftTicks,
  type StateMachine,
} from './options.ts';
export type { LogRepair, RaftStorage, RecoveredLog } from './storage.ts';
export { LOG_KEY_BYTES, type LogKey, type LogKeyRing } from './wal/keys.ts';
export { PENDING_PROPOSALS_MAX, PROPOSAL_BYTES_MAX } from './proposals.ts';
export { hasWal, openWal, removeWal } from './wal/open.ts';
export {
  inspectLogDirectory,
  looksLikeLog,
  type InspectedSegment,
  type InspectedSnapshot,
  type LogInspection,
} from './wal/inspect.ts';
export type { RaftTransport, RaftTransportReports } from './transport/transport.ts';
export { GrpcRaftTransport, type GrpcRaftTransportOptions } from './transport/grpc-transport.ts';
export {
  newReceiveCounters,
  raftServiceDefinition,
  raftServiceHandlers,
  type MessageReceiver,
  type RaftHandlerOptions,
  type RaftReceiveCounters,
  type RaftServiceHandlers,
} from './transport/handlers.ts';
export { REMOVED_MESSAGE } from './transport/link.ts';
export { explainPeer, type PeerStatus } from './transport/status.ts';
