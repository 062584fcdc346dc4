export { RaftNode } from './node.ts';
export type { StartMode } from './bootstrap.ts';
export type { RaftRole } from './core/index.ts';
export type { AppliedEntry, RaftNodeOptions, RaftStatus, StateMachine } from './options.ts';
export type { RaftStorage, RecoveredLog } from './storage.ts';
export { PENDING_PROPOSALS_MAX, PROPOSAL_BYTES_MAX } from './waiters.ts';
export { hasWal, removeWal } from './wal/wal.ts';
export type { RaftTransport, RaftTransportReports } from './transport/transport.ts';
export { GrpcRaftTransport, type GrpcRaftTransportOptions } from './transport/grpc-transport.ts';
export {
  raftServiceHandlers,
  type MessageReceiver,
  type RaftHandlerOptions,
  type RaftServiceHandlers,
} from './transport/handlers.ts';
export { REMOVED_MESSAGE } from './transport/peer.ts';
