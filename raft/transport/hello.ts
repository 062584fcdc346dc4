import * as grpc from '@grpc/grpc-js';
import { SnapshotOffer } from '../../proto/index.ts';

/*
 * What two managers tell each other when a stream begins, as gRPC metadata. A manager that does not know these keys
 * ignores them and says nothing, and then gets one message at a time and whole snapshots.
 */
const FROM = 'shoal-raft-from';
const ADDRESS = 'shoal-raft-address';
const VERSION = 'shoal-raft';
const OFFER = 'shoal-snapshot-bin';
const OFFSET = 'shoal-snapshot-offset';

/** What this side understands: batches, and snapshots that go on where they broke off. */
const CURRENT_VERSION = 1;

/** Who opens a stream. */
export interface Hello {
  raftId: number;
  /** Where the opener can be reached, `host:port`; empty when it does not say. */
  address: string;
}

function number(metadata: grpc.Metadata, key: string): number | undefined {
  const text = metadata.get(key)[0];
  if (typeof text !== 'string' || !/^\d{1,16}$/.test(text)) return undefined;
  const value = Number(text);
  return Number.isSafeInteger(value) ? value : undefined;
}

export function helloMetadata(hello: Hello | undefined, offer?: SnapshotOffer): grpc.Metadata {
  const metadata = new grpc.Metadata();
  if (hello !== undefined) {
    metadata.set(FROM, String(hello.raftId));
    if (hello.address !== '') metadata.set(ADDRESS, hello.address);
  }
  if (offer !== undefined) metadata.set(OFFER, Buffer.from(SnapshotOffer.encode(offer)));
  return metadata;
}

export function helloOf(metadata: grpc.Metadata): Hello | undefined {
  const raftId = number(metadata, FROM);
  const address = metadata.get(ADDRESS)[0];
  return raftId === undefined ? undefined : { raftId, address: typeof address === 'string' ? address : '' };
}

/** The snapshot that a stream will carry, if it carries one. @throws Error when the bytes are no offer. */
export function offerOf(metadata: grpc.Metadata): SnapshotOffer | undefined {
  const bytes = metadata.get(OFFER)[0];
  return bytes === undefined || typeof bytes === 'string' ? undefined : SnapshotOffer.decode(bytes);
}

/** The receiver's answer. @param offset where an offered snapshot is to go on, bytes. */
export function answerMetadata(offset?: number): grpc.Metadata {
  const metadata = new grpc.Metadata();
  metadata.set(VERSION, String(CURRENT_VERSION));
  if (offset !== undefined) metadata.set(OFFSET, String(offset));
  return metadata;
}

/** Version of the receiver (0: it knows no extensions), and where an offered snapshot goes on, if it says so. */
export function answerOf(metadata: grpc.Metadata): { version: number; offset: number | undefined } {
  return { version: number(metadata, VERSION) ?? 0, offset: number(metadata, OFFSET) };
}
