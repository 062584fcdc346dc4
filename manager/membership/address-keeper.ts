import { errorMessage, type Clock, type Logger } from '../../base/index.ts';
import type { LeaderDuty } from '../store/types.ts';
import type { LearntAddresses } from './learnt-addresses.ts';
import type { MembershipRaft } from './raft-port.ts';
import type { MembershipService } from './service.ts';

/** Time between two looks, ms. */
const PASS_MS = 250;
/** Time before an address that could not be reached is tried again, ms. */
const RETRY_MS = 5_000;

export interface AddressKeeperDeps {
  addresses: LearntAddresses;
  raft: MembershipRaft;
  service: MembershipService;
  clock: Clock;
  log: Logger;
}

/** The leader's duty that brings the new address of a manager into the log, once the leader has reached it there. */
export function createAddressKeeper({ addresses, raft, service, clock, log }: AddressKeeperDeps): LeaderDuty {
  /** Addresses that failed, and when to try them again, monotonic ms. */
  const failed = new Map<string, number>();
  const pass = async (signal: AbortSignal): Promise<void> => {
    for (const member of addresses.pending()) {
      if (signal.aborted || !raft.isLeader()) return;
      const key = `${member.raftId} ${member.addr}`;
      if ((failed.get(key) ?? 0) > clock.monotonic()) continue;
      failed.delete(key);
      try {
        await service.move(member, signal);
        log.info('a manager is at another address now', { nodeId: member.nodeId, addr: member.addr });
      } catch (error) {
        if (signal.aborted) return;
        failed.set(key, clock.monotonic() + RETRY_MS);
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
