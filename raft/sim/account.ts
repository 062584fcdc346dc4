import type { Membership } from '../core/index.ts';
import { majority } from '../core/quorum.ts';

/**
 * What a disk is worth. `sound`: it holds all that was reported as durable. `damaged`: it lost something, and its member
 * can notice; it is sound again when the member was started since and is not in repair. `dead`: it lost something that
 * nobody can notice, or its member refused to start: the operator takes the member away.
 */
export type DiskHealth = 'sound' | 'damaged' | 'dead';

export interface AccountedMember {
  readonly id: number;
  health: DiskHealth;
  /** The newest membership that it has in force; null before it has any. */
  membership: Membership | null;
  /** It is no member any more, and its program does not run. */
  retired: boolean;
}

/** A set of voters that a change would bring, while it is not known whether it will. */
export interface PendingVoters {
  voters: ReadonlySet<number>;
}

/**
 * Keeps the simulation honest: acknowledged writes survive while a majority of the disks does, so that is what it must
 * leave intact, in every membership that any member still decides by, and in those that are on their way.
 */
export class DiskAccount {
  readonly #members: ReadonlyMap<number, AccountedMember>;
  readonly #pending = new Set<PendingVoters>();

  constructor(members: ReadonlyMap<number, AccountedMember>) {
    this.#members = members;
  }

  expect(pending: PendingVoters): void {
    this.#pending.add(pending);
  }

  forget(pending: PendingVoters): void {
    this.#pending.delete(pending);
  }

  get pendingCount(): number {
    return this.#pending.size;
  }

  /** Whether this member's disk may lose data, now. */
  mayDamage(victim: AccountedMember): boolean {
    if (victim.health !== 'sound') return true;
    for (const voters of this.#inForce()) {
      if (voters.has(victim.id) && !this.isSound(voters, victim.id)) return false;
    }
    return true;
  }

  /** Whether a majority of `voters` is sound, not counting one. */
  isSound(voters: ReadonlySet<number>, without = 0): boolean {
    let sound = 0;
    for (const id of voters) {
      if (id !== without && this.#members.get(id)?.health === 'sound') sound++;
    }
    return sound >= majority(voters.size);
  }

  *#inForce(): Generator<ReadonlySet<number>> {
    for (const { membership, retired } of this.#members.values()) {
      if (membership === null || retired) continue;
      yield membership.voters;
      if (membership.outgoing.size > 0) yield membership.outgoing;
    }
    for (const { voters } of this.#pending) yield voters;
  }
}
