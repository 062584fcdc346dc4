import * as grpc from '@grpc/grpc-js';
import { assert } from '../../base/index.ts';
import type { Clock, Logger, Random } from '../../base/index.ts';
import { RaftMessageType } from '../../proto/index.ts';
import type { RaftMessage } from '../../proto/index.ts';
import { helloMetadata, type Hello } from './hello.ts';
import { Link } from './link.ts';
import { Peer } from './peer.ts';
import { SNAPSHOT_BYTES_PER_SECOND, SnapshotSender } from './snapshot-sender.ts';
import type { PeerStatus } from './status.ts';
import type { RaftTransport, RaftTransportReports } from './transport.ts';

export interface GrpcRaftTransportOptions {
  /** Called for each new connection, so that renewed certificates are used. */
  credentials: () => grpc.ChannelCredentials;
  /** Added to, and overriding, the transport's own. */
  channelOptions: grpc.ChannelOptions;
  clock: Clock;
  random: Random;
  log: Logger;
  /** Who this member is, and where it can be reached: told to each peer, so that a new address is learnt. */
  self?: () => Hello | undefined;
  /** Why a certificate (DER) is not that of the member `raftId`, or undefined if it is. Default: it always is. */
  checkPeer?: (raftId: number, certificate: Uint8Array | undefined) => string | undefined;
  /** Bound for all snapshots together. Default SNAPSHOT_BYTES_PER_SECOND. */
  snapshotBytesPerSecond?: number;
}

/** A peer that is cut off is noticed after about the sum of the first two. */
const CHANNEL_OPTIONS: grpc.ChannelOptions = {
  'grpc.keepalive_time_ms': 1000,
  'grpc.keepalive_timeout_ms': 1500,
  'grpc.keepalive_permit_without_calls': 1,
  // A connection of one's own: others' failures must not delay this one.
  'grpc.use_local_subchannel_pool': 1,
  'grpc.enable_retries': 0,
  'grpc.service_config_disable_resolution': 1,
  'grpc.enable_channelz': 0,
};
/** Time for a member to say where another is, ms. */
const RESOLVE_TIMEOUT_MS = 2_000;

/** Carries raft messages over gRPC: `Raft/StreamRaftMessage`, one long-lived stream per peer. */
export class GrpcRaftTransport implements RaftTransport {
  readonly #options: GrpcRaftTransportOptions;
  readonly #peers = new Map<number, Peer>();
  readonly #snapshots: SnapshotSender;
  /** Peers with new messages. */
  readonly #dirty = new Set<Peer>();
  #reports: RaftTransportReports | null = null;
  #stopped = false;

  constructor(options: GrpcRaftTransportOptions) {
    this.#options = { ...options, channelOptions: { ...CHANNEL_OPTIONS, ...options.channelOptions } };
    const { clock, random, log } = options;
    this.#snapshots = new SnapshotSender({
      clock,
      random,
      log,
      bytesPerSecond: options.snapshotBytesPerSecond ?? SNAPSHOT_BYTES_PER_SECOND,
      report: (raftId, delivered) => this.#reports?.snapshot(raftId, delivered),
      removed: () => this.#reports?.removed(),
      link: (raftId, offer, events) => this.#snapshotLink(raftId, helloMetadata(options.self?.(), offer), events),
    });
  }

  attach(reports: RaftTransportReports): void {
    assert(this.#reports === null, 'a transport serves one member');
    this.#reports = reports;
  }

  send(messages: readonly RaftMessage[]): void {
    if (this.#stopped) return;
    const clean = this.#dirty.size === 0;
    for (const message of messages) {
      const peer = this.#peers.get(message.to);
      if (peer === undefined) {
        this.#options.log.debug('raft message to a member without address', { to: message.to });
      } else if (message.type === RaftMessageType.MsgSnap) {
        this.#snapshots.send(message);
      } else {
        peer.send(message);
        this.#dirty.add(peer);
      }
    }
    // At the end of the turn, without a timer: what is sent until then shares a gRPC message.
    if (clean && this.#dirty.size > 0) queueMicrotask(() => this.#flush());
  }

  #flush(): void {
    const dirty = [...this.#dirty];
    this.#dirty.clear();
    for (const peer of dirty) peer.flush();
  }

  #check(raftId: number): (certificate: Uint8Array | undefined) => string | undefined {
    return (certificate) => this.#options.checkPeer?.(raftId, certificate);
  }

  #snapshotLink(
    raftId: number,
    metadata: grpc.Metadata,
    events: Pick<ConstructorParameters<typeof Link>[0], 'onUp' | 'onAnswer' | 'onEnd'>,
  ): Link | undefined {
    const address = this.#peers.get(raftId)?.address;
    if (address === undefined) return undefined;
    const { credentials, channelOptions, clock } = this.#options;
    const check = this.#check(raftId);
    return new Link({ address, credentials, channelOptions, clock, metadata, check, ...events });
  }

  /** Makes a member reachable at `host:port`; a new address replaces the old one. */
  addPeer(raftId: number, address: string): void {
    if (this.#stopped) return;
    const known = this.#peers.get(raftId);
    if (known !== undefined) {
      known.setAddress(address);
      return;
    }
    // The member may add peers while it applies its log, before anything is sent.
    const reports: RaftTransportReports = {
      unreachable: (id) => this.#reports?.unreachable(id),
      snapshot: (id, delivered) => this.#reports?.snapshot(id, delivered),
      removed: () => this.#reports?.removed(),
    };
    const { credentials, channelOptions, clock, random, log } = this.#options;
    const peer = new Peer({
      raftId,
      address,
      credentials,
      channelOptions,
      clock,
      random,
      log,
      reports,
      self: () => this.#options.self?.(),
      check: this.#check(raftId),
      resolve: () => this.#resolve(raftId),
      snapshot: () => this.#snapshots.progress(raftId),
    });
    this.#peers.set(raftId, peer);
  }

  updatePeer(raftId: number, address: string): void {
    this.addPeer(raftId, address);
  }

  /** The member itself said where it is; it is sought there first, and at its former addresses after that. */
  learnAddress(raftId: number, address: string): void {
    this.#peers.get(raftId)?.suggest(address, true);
  }

  /** Asks the members that can be reached where another one is. */
  #resolve(raftId: number): void {
    for (const [id, peer] of this.#peers) {
      if (id === raftId) continue;
      peer.link?.resolve(raftId, RESOLVE_TIMEOUT_MS, (address) => {
        if (address !== undefined && address !== '') this.#peers.get(raftId)?.suggest(address, false);
      });
    }
  }

  removePeer(raftId: number): void {
    this.#snapshots.cancel(raftId);
    this.#peers.get(raftId)?.close();
    this.#peers.delete(raftId);
  }

  /** Where a peer was found, or is sought; undefined when it is not known. */
  addressOf(raftId: number): string | undefined {
    return this.#peers.get(raftId)?.address;
  }

  status(): PeerStatus[] {
    return [...this.#peers.values()].map((peer) => peer.status());
  }

  // oxlint-disable-next-line require-await -- a promise by contract
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#snapshots.cancel();
    for (const peer of this.#peers.values()) peer.abort();
    this.#peers.clear();
  }
}
