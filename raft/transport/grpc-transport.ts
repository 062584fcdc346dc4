import * as grpc from '@grpc/grpc-js';
import { assert } from '../../base/index.ts';
import type { Clock, Logger, Random } from '../../base/index.ts';
import type { RaftMessage } from '../../proto/index.ts';
import { Peer } from './peer.ts';
import type { RaftTransport, RaftTransportReports } from './transport.ts';

export interface GrpcRaftTransportOptions {
  /** Called for each new connection, so that renewed certificates are used. */
  credentials: () => grpc.ChannelCredentials;
  /** Added to, and overriding, the transport's own. */
  channelOptions: grpc.ChannelOptions;
  clock: Clock;
  random: Random;
  log: Logger;
}

/** A peer that is cut off is noticed after about the sum of the first two. */
const CHANNEL_OPTIONS: grpc.ChannelOptions = {
  'grpc.keepalive_time_ms': 1000,
  'grpc.keepalive_timeout_ms': 1500,
  'grpc.keepalive_permit_without_calls': 1,
  'grpc.initial_reconnect_backoff_ms': 50,
  'grpc.min_reconnect_backoff_ms': 50,
  'grpc.max_reconnect_backoff_ms': 1000,
  // A connection of one's own: others' failures must not delay this one.
  'grpc.use_local_subchannel_pool': 1,
  'grpc.enable_retries': 0,
};

/** Carries raft messages over gRPC: `Raft/StreamRaftMessage`, one long-lived stream per peer. */
export class GrpcRaftTransport implements RaftTransport {
  readonly #options: GrpcRaftTransportOptions;
  readonly #peers = new Map<number, Peer>();
  #reports: RaftTransportReports | null = null;
  #stopped = false;

  constructor(options: GrpcRaftTransportOptions) {
    this.#options = { ...options, channelOptions: { ...CHANNEL_OPTIONS, ...options.channelOptions } };
  }

  attach(reports: RaftTransportReports): void {
    assert(this.#reports === null, 'a transport serves one member');
    this.#reports = reports;
  }

  send(messages: readonly RaftMessage[]): void {
    if (this.#stopped) return;
    for (const message of messages) {
      const peer = this.#peers.get(message.to);
      if (peer !== undefined) peer.send(message);
      else this.#options.log.debug('raft message to a member without address', { to: message.to });
    }
  }

  /** Makes a member reachable at `host:port`; a new address replaces the old one. */
  addPeer(raftId: number, address: string): void {
    if (this.#stopped) return;
    const known = this.#peers.get(raftId);
    if (known?.address === address) return;
    known?.close();
    // The member may add peers while it applies its log, before anything is sent.
    const reports: RaftTransportReports = {
      unreachable: (id) => this.#reports?.unreachable(id),
      snapshot: (id, delivered) => this.#reports?.snapshot(id, delivered),
      removed: () => this.#reports?.removed(),
    };
    this.#peers.set(raftId, new Peer({ ...this.#options, raftId, address, reports }));
  }

  updatePeer(raftId: number, address: string): void {
    this.addPeer(raftId, address);
  }

  removePeer(raftId: number): void {
    this.#peers.get(raftId)?.close();
    this.#peers.delete(raftId);
  }

  /** Address of a peer, if it is known. */
  addressOf(raftId: number): string | undefined {
    return this.#peers.get(raftId)?.address;
  }

  // oxlint-disable-next-line require-await -- a promise by contract
  async stop(): Promise<void> {
    this.#stopped = true;
    for (const peer of this.#peers.values()) peer.abort();
    this.#peers.clear();
  }
}
