import { errorMessage, type Clock, type Logger } from '../../base/index.ts';
import type { LeaderDuty } from '../store/types.ts';
import type { LearntAddresses } from './learnt-addresses.ts';
import type { MembershipRaft } from './raft-port.ts';
import type { MembershipService } from './service.ts';

/** Time between two looks, ms. */
const PASS_MS = 250;
/** Time before an address that could not be reached is tried again, ms; doubled each time up to the cap. */
const RETRY_MS = 2_000;
const RETRY_CAP_MS = 60_000;

export interface AddressKeeperDeps {
  addresses: LearntAddresses;
  raft: MembershipRaft;
  service: MembershipService;
  clock: Clock;
  log: Logger;
}

/** The leader's duty that brings the new address of a manager into the log, once the leader has reached it there. */
export function createAddressKeeper({ addresses, raft, service, clock, log }: AddressKeeperDeps): LeaderDuty {
  /** Addresses that failed: when to try them again (monotonic ms), and how long that was to wait. */
  const failed = new Map<string, { atMs: number; waitMs: number }>();
  const pass = async (signal: AbortSignal): Promise<void> => {
    for (const member of addresses.pending()) {
      if (signal.aborted || !raft.isLeader()) return;
      const key = `${member.raftId} ${member.addr}`;
      const before = failed.get(key);
      if (before !== undefined && before.atMs > clock.monotonic()) continue;
      try {
        await service.move(member, signal);
        failed.delete(key);
        log.info('a manager is at another address now', { nodeId: member.nodeId, addr: member.addr });
      } catch (error) {
        if (signal.aborted) return;
        const waitMs = Math.min(RETRY_CAP_MS, 2 * (before?.waitMs ?? RETRY_MS / 2));
        failed.set(key, { atMs: clock.monotonic() + waitMs, waitMs });
        log.warn('the new address of a manager is not in the log yet', {
          nodeId: member.nodeId,
          error: errorMessage(error),
        });
      }
    }
  };
  return {
    name: 'address-keeper',
    async run(signal) {
      failed.clear();
      while (!signal.aborted) {
        await pass(signal);
        await clock.sleep(PASS_MS, signal).catch(() => undefined);
      }
    },
  };
}
