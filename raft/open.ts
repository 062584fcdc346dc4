import { failedPrecondition, unreachable } from '../base/index.ts';
import { bootstrapLog, forceSingleMember, membershipIn, type StartMode } from './bootstrap.ts';
import { lostForGood } from './failures.ts';
import type { RaftNodeOptions } from './options.ts';
import type { RaftStorage, RecoveredLog } from './storage.ts';
import { NodeDisk } from './wal/node-disk.ts';
import { holdsWal, Wal } from './wal/wal.ts';

/** Opens the disk of a member. @throws ShoalError FailedPrecondition when what is there does not fit `how`. */
export function openStorage(
  options: RaftNodeOptions,
  how: StartMode,
): { storage: RaftStorage; recovered: RecoveredLog } {
  const { dir, id, keys } = options;
  const disk = options.disk ?? new NodeDisk(dir);
  const fresh = how.kind === 'bootstrap' || how.kind === 'join';
  const found = holdsWal(disk);
  if (fresh && found) throw failedPrecondition(`${dir} already holds a raft log; remove it to ${how.kind}`);
  if (!fresh && !found) throw failedPrecondition(`${dir} holds no raft log to start from`);
  const { segmentBytes, keepEntries, keepOldSnapshots, random } = options;
  return Wal.open({
    disk,
    nodeId: id,
    randomBytes: (count) => random.bytes(count),
    ...(keys === undefined ? {} : { keys }),
    ...(segmentBytes === undefined ? {} : { segmentBytes }),
    ...(keepEntries === undefined ? {} : { keepEntries }),
    ...(keepOldSnapshots === undefined ? {} : { keepOldSnapshots }),
  });
}

/**
 * Writes what `how` asks for into the log. @returns the log as it is then.
 * @throws ShoalError DataLoss when the log is damaged and there is no peer that could repair it.
 */
export async function prepareLog(
  options: RaftNodeOptions,
  how: StartMode,
  storage: RaftStorage,
  recovered: RecoveredLog,
): Promise<RecoveredLog> {
  switch (how.kind) {
    case 'bootstrap':
      return bootstrapLog(storage, how.member);
    case 'force-new-cluster':
      return forceSingleMember(storage, recovered, how.member);
    case 'join':
    case 'restart':
      refuseLoneRepair(options, recovered);
      return recovered;
    default:
      return unreachable(how);
  }
}

function refuseLoneRepair(options: RaftNodeOptions, found: RecoveredLog): void {
  if (found.repair === null) return;
  const { voters } = membershipIn(found);
  // The lost part may have held the whole membership, or members that the owner still knows of.
  const known = options.knownMembers;
  const isAlone = voters.size === 0 ? known === 1 : voters.size === 1 && voters.has(options.id) && (known ?? 1) <= 1;
  if (isAlone) throw lostForGood(found.repair, options.dir);
}
