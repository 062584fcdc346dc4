import { failedPrecondition, must, ShoalError, unavailable } from '../base/index.ts';
import { NONE, type Raft } from './core/index.ts';

/** Callers that wait for the lead to move at the most. */
export const PENDING_TRANSFERS_MAX = 64;

interface Transfer {
  resolve(): void;
  reject(error: Error): void;
  ticksLeft: number;
}

/** Callers that wait until another member leads. */
export class Transfers {
  #waiting: Transfer[] = [];

  /**
   * Asks the core to hand over the lead, which this member has. @param to default: the voter that is furthest on.
   * @throws ShoalError FailedPrecondition, ResourceExhausted
   */
  begin(core: Raft, to: number | undefined, transfer: Transfer): void {
    if (this.#waiting.length >= PENDING_TRANSFERS_MAX) {
      throw new ShoalError(
        'ResourceExhausted',
        `${this.#waiting.length} callers already wait for the lead to move; try again when another manager leads`,
      );
    }
    const target = to ?? bestSuccessor(core);
    if (target === undefined) throw failedPrecondition('no other manager can lead');
    if (!core.transferLeadership(target)) throw failedPrecondition(`manager ${target} cannot lead`);
    this.#waiting.push(transfer);
  }

  /** Answers when another member leads. */
  observe(core: Raft): void {
    if (this.#waiting.length === 0 || core.leaderId === NONE || core.leaderId === core.id) return;
    for (const transfer of this.#waiting.splice(0)) transfer.resolve();
  }

  tick(): void {
    if (this.#waiting.length === 0) return;
    const late = this.#waiting.filter((transfer) => --transfer.ticksLeft <= 0);
    this.#waiting = this.#waiting.filter((transfer) => transfer.ticksLeft > 0);
    for (const transfer of late) transfer.reject(unavailable('the lead was not taken over in time; try again'));
  }

  rejectAll(error: Error): void {
    for (const transfer of this.#waiting.splice(0)) transfer.reject(error);
  }
}

function bestSuccessor({ membership, progress, id }: Raft): number | undefined {
  let best: number | undefined;
  for (const voter of membership.voters) {
    const known = progress.get(voter);
    if (voter === id || known === undefined || !known.recentActive) continue;
    if (best === undefined || known.match > must(progress.get(best), 'progress').match) best = voter;
  }
  return best;
}
