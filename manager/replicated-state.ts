import { ShoalError } from '../base/index.ts';
import type { MemberList } from './membership/index.ts';

/** Bytes before the member list in a snapshot: its length, big-endian. */
const LENGTH_BYTES = 4;

/** What of the store belongs into snapshots. */
interface SnapshotPart {
  snapshot(): Uint8Array;
  restore(data: Uint8Array, index: number): void;
}

/** A snapshot of all replicated state: members (length first), then the store. */
export function encodeState(members: MemberList, store: SnapshotPart): Uint8Array {
  const list = members.snapshot();
  const length = Buffer.alloc(LENGTH_BYTES);
  length.writeUInt32BE(list.length);
  return Buffer.concat([length, list, store.snapshot()]);
}

/** Replaces all replicated state. @throws ShoalError DataLoss when the bytes are no snapshot. */
export function restoreState(data: Uint8Array, index: number, members: MemberList, store: SnapshotPart): void {
  const bytes = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
  const length = bytes.length < LENGTH_BYTES ? Number.NaN : bytes.readUInt32BE(0);
  if (!(LENGTH_BYTES + length <= bytes.length))
    throw new ShoalError('DataLoss', 'a snapshot of the cluster is cut short');
  members.restore(bytes.subarray(LENGTH_BYTES, LENGTH_BYTES + length));
  store.restore(bytes.subarray(LENGTH_BYTES + length), index);
}
