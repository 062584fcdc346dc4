import { isShoalError, ShoalError } from '../../base/index.ts';
import type { LogDisk } from './disk.ts';

/** Path of a file of the log as people know it. */
export function fullPath(disk: LogDisk, path: string): string {
  return disk.location === undefined ? path : `${disk.location}/${path}`;
}

/** What an error of the file system means for the manager, and what can be done. Other errors stay as they are. */
export function diskFailure(error: unknown, disk: LogDisk, path: string): unknown {
  if (isShoalError(error)) return error;
  const where = fullPath(disk, path);
  const code = (error as NodeJS.ErrnoException | null)?.code ?? '';
  switch (code) {
    case 'ENOSPC':
    case 'EDQUOT':
      return new ShoalError(
        'ResourceExhausted',
        `raft log ${where}: no space left on device: free space under ${disk.location ?? 'its directory'} and restart`,
        { cause: error },
      );
    case 'EIO':
      return new ShoalError(
        'Unavailable',
        `raft log ${where}: the disk reports an input/output error: check it and restart, or remove this manager and ` +
          'join it anew on another disk',
        { cause: error },
      );
    case 'EROFS':
      return new ShoalError(
        'Unavailable',
        `raft log ${where}: the file system is read-only: find out why (dmesg), mount it for writing and restart`,
        { cause: error },
      );
    default:
      return error;
  }
}
