import { failedPrecondition, unreachable } from '../base/index.ts';
import { bootstrapLog, forceSingleMember, type StartMode } from './bootstrap.ts';
import type { RaftNodeOptions } from './options.ts';
import type { RaftStorage, RecoveredLog } from './storage.ts';
import { hasWal, Wal } from './wal/wal.ts';

/** Opens the disk of a member. @throws ShoalError FailedPrecondition when what is there does not fit `how`. */
export function openStorage(
  options: RaftNodeOptions,
  how: StartMode,
): { storage: RaftStorage; recovered: RecoveredLog } {
  if (options.openStorage !== undefined) return options.openStorage();
  const fresh = how.kind === 'bootstrap' || how.kind === 'join';
  if (fresh && hasWal(options.dir)) {
    throw failedPrecondition(`${options.dir} already holds a raft log; remove it to ${how.kind}`);
  }
  if (!fresh && !hasWal(options.dir)) throw failedPrecondition(`${options.dir} holds no raft log to start from`);
  const { wal, recovered } = Wal.open({ dir: options.dir, nodeId: options.id });
  return { storage: wal, recovered };
}

/** Writes what `how` asks for into the log. @returns the log as it is then. */
export function prepareLog(how: StartMode, storage: RaftStorage, recovered: RecoveredLog): RecoveredLog {
  switch (how.kind) {
    case 'bootstrap':
      return bootstrapLog(storage, how.member);
    case 'force-new-cluster':
      return forceSingleMember(storage, recovered, how.member);
    case 'join':
    case 'restart':
      return recovered;
    default:
      return unreachable(how);
  }
}
