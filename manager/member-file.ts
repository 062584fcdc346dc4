import { mkdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { readFileIfExists, ShoalError, writeFileDurably } from '../base/index.ts';
import type { Member } from './membership/index.ts';

/** What a manager must know before its log can tell: its own id in consensus, and where the others were last. */
export interface MemberFile {
  raftId: number;
  /** All members known, this one included. Only a hint: the log decides. */
  members: Member[];
}

const pathOf = (stateDir: string): string => join(stateDir, 'raft', 'member.json');

export function saveMemberFile(stateDir: string, file: MemberFile): void {
  const path = pathOf(stateDir);
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  writeFileDurably(path, `${JSON.stringify(file, undefined, 2)}\n`);
}

function isMember(value: unknown): value is Member {
  const member = value as Partial<Member> | null;
  return (
    typeof member === 'object' &&
    Number.isSafeInteger(member?.raftId) &&
    typeof member?.nodeId === 'string' &&
    typeof member?.addr === 'string'
  );
}

/** @throws ShoalError DataLoss when the file cannot be read, NotFound when there is none. */
export function loadMemberFile(stateDir: string): MemberFile {
  const path = pathOf(stateDir);
  const text = readFileIfExists(path);
  if (text === undefined) {
    throw new ShoalError('NotFound', `${path} does not exist: this node never was a manager, or its data is gone`);
  }
  try {
    const parsed = JSON.parse(text) as Partial<MemberFile>;
    if (Number.isSafeInteger(parsed.raftId) && Array.isArray(parsed.members) && parsed.members.every(isMember)) {
      return { raftId: parsed.raftId as number, members: parsed.members };
    }
  } catch {
    // Said below.
  }
  throw new ShoalError('DataLoss', `${path} cannot be read; remove the node from the cluster and join it again`);
}
