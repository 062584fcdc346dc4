import { dirname } from 'node:path';
import { ShoalError, silentLogger, systemRandom } from '../base/index.ts';
import { IdentityStore } from '../identity/index.ts';
import { DataKeys, parseUnlockKey } from '../manager/index.ts';
import type { LogKeyRing } from '../raft/index.ts';

/**
 * The keys of a manager's log, from the key file of the node beside it; changes nothing there. Null when the directory
 * belongs to no node (a copy of the log alone).
 * @param unlockKey as users write it.
 * @throws ShoalError FailedPrecondition when the key file is locked and the key does not open it.
 */
export function openLogKeys(raftDir: string, unlockKey: string | undefined): LogKeyRing | null {
  const identities = new IdentityStore(dirname(raftDir));
  const state = identities.load(unlockKey === undefined ? null : parseUnlockKey(unlockKey), { settle: false });
  if (state === 'absent') return null;
  if (state === 'locked') {
    const why = unlockKey === undefined ? 'is locked; give its key with --unlock-key' : 'is locked by another key';
    throw new ShoalError('FailedPrecondition', `the key file of the node that ${raftDir} belongs to ${why}`);
  }
  return new DataKeys({ identities, random: systemRandom, log: silentLogger });
}
