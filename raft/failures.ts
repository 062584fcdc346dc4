import {
  errorMessage,
  failedPrecondition,
  invalidArgument,
  isShoalError,
  ShoalError,
  unavailable,
  unreachable,
} from '../base/index.ts';
import { NONE, type ProposalResult } from './core/index.ts';
import type { LogRepair } from './storage.ts';

/** What a proposal that is in the log is told when this member can no longer see it through. */
export const OUTCOME_UNKNOWN = 'the outcome of the change is not known: look whether it was made';

export function notLeader(leaderId: number): ShoalError {
  return unavailable(
    leaderId === NONE
      ? 'the cluster has no leader now; try again'
      : `manager ${leaderId} leads the cluster, not this one`,
  );
}

/** Why the core did not take a proposal, for the caller. */
export function refusalError(result: Extract<ProposalResult, { accepted: false }>, leaderId: number): ShoalError {
  switch (result.refusal) {
    case 'not-leader':
      return notLeader(leaderId);
    case 'invalid':
      return failedPrecondition(`membership: ${result.detail}`);
    case 'too-large':
      return invalidArgument(result.detail);
    case 'too-much-uncommitted':
      return new ShoalError(
        'ResourceExhausted',
        `${result.detail}; try again when a majority of the managers has caught up`,
      );
    case 'transferring':
    case 'not-ready':
    case 'conf-change-pending':
      return unavailable(`${result.detail}; try again`);
    default:
      return unreachable(result.refusal);
  }
}

function wayOut(code: unknown, dir: string): string {
  switch (code) {
    case 'ENOSPC':
    case 'EDQUOT':
      return `the disk under ${dir} is full: free some space there, then start this manager again`;
    case 'EIO':
      return (
        `the disk under ${dir} fails: start this manager again when the disk is sound, or remove the manager from ` +
        'the cluster and join it anew on another disk'
      );
    case 'EROFS':
    case 'EACCES':
    case 'EPERM':
      return `${dir} cannot be written: make it writable, then start this manager again`;
    default:
      return 'start this manager again; when it fails again, remove it from the cluster and join it anew';
  }
}

/** Whether the file system, or the system otherwise, refused something. */
export function isSystemError(error: unknown): error is Error & { code: string } {
  return error instanceof Error && !isShoalError(error) && 'code' in error && typeof error.code === 'string';
}

/** Why a member halted, for its owner and for all who wait: the cause, and what can be done. */
export function haltError(error: unknown, dir: string): ShoalError {
  // The log has said itself what can be done.
  if (isShoalError(error)) return error;
  const code = isSystemError(error) ? error.code : undefined;
  const place = dir === '' ? 'its directory' : dir;
  const message = `the raft log of this manager failed (${errorMessage(error)}): ${wayOut(code, place)}`;
  return new ShoalError('Unavailable', message, { cause: error });
}

/** Nobody has what a lone member's damaged log lost. */
export function lostForGood(repair: LogRepair, dir: string): ShoalError {
  const floor = repair.floor === null ? '' : ` up to entry ${repair.floor}`;
  return new ShoalError(
    'DataLoss',
    `the raft log in ${dir} is damaged (${repair.reason}) and no other manager has what it lost${floor}: ` +
      'put back a backup of the directory; or, to go on with what is left and give up the rest, run ' +
      '"docker swarm init --force-new-cluster"; or leave the swarm by force and join or make one anew',
  );
}
