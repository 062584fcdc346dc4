import type { RaftMessage } from '../../proto/index.ts';
import type { PeerStatus } from './status.ts';

/** What a transport tells the member that it carries messages for. */
export interface RaftTransportReports {
  /** Messages to this member were lost. */
  unreachable(raftId: number): void;
  /** Fate of a snapshot sent to this member. */
  snapshot(raftId: number, delivered: boolean): void;
  /** A peer says that this member was removed from the cluster. */
  removed(): void;
}

/** Carries messages between members: unordered, lossy, bounded. */
export interface RaftTransport {
  /** Called once, before the first message. */
  attach(reports: RaftTransportReports): void;
  /** Never blocks; messages to members without an address are dropped. What is sent in one turn leaves at its end. */
  send(messages: readonly RaftMessage[]): void;
  addPeer(raftId: number, address: string): void;
  updatePeer(raftId: number, address: string): void;
  removePeer(raftId: number): void;
  /** How the ways to the peers are, where the transport knows. */
  status?(): PeerStatus[];
  stop(): Promise<void>;
}
