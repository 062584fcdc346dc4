import { invalidArgument } from '../base/index.ts';
import { RaftConfChange, RaftConfChangeTransition, RaftConfChangeV2 } from '../proto/index.ts';

/** Bytes before each context: its length, big-endian. */
const LENGTH_BYTES = 4;
/** Members that one joint change names at the most. */
export const JOINT_CHANGES_MAX = 64;

/** Several changes as one joint change. The contexts of all stand one after the other in its context. */
export function jointChange(changes: readonly RaftConfChange[]): RaftConfChangeV2 {
  if (changes.length === 0 || changes.length > JOINT_CHANGES_MAX) {
    throw invalidArgument(`a joint change names 1 to ${JOINT_CHANGES_MAX} members, not ${changes.length}`);
  }
  const pieces: Uint8Array[] = [];
  for (const { context } of changes) {
    const length = Buffer.alloc(LENGTH_BYTES);
    length.writeUInt32BE(context.length);
    pieces.push(length, context);
  }
  return RaftConfChangeV2.create({
    transition: RaftConfChangeTransition.ConfChangeTransitionJointImplicit,
    changes: changes.map(({ type, node_id }) => ({ type, node_id })),
    context: Buffer.concat(pieces),
  });
}

/** The changes that a joint change is made of, each with its own context (empty when there is none). */
export function changesOf(joint: RaftConfChangeV2, index: number): RaftConfChange[] {
  const bytes = Buffer.from(joint.context.buffer, joint.context.byteOffset, joint.context.byteLength);
  let at = 0;
  return joint.changes.map(({ type, node_id }) => {
    const length = at + LENGTH_BYTES <= bytes.length ? bytes.readUInt32BE(at) : 0;
    const start = at + LENGTH_BYTES;
    at = start + length;
    return RaftConfChange.create({ id: index, type, node_id, context: bytes.subarray(start, at) });
  });
}
