import type { Member, MemberList } from './member-list.ts';

interface Learnt {
  addr: string;
  /** What the log said then: once it says something else, it is the newer. */
  instead: string;
}

/**
 * Addresses that managers tell of themselves when they connect (their certificates prove who they are), where these
 * differ from the log. They are used at once, and the leader brings them into the log (see createAddressKeeper). So a
 * manager that comes back at another address is found again even while nobody leads.
 */
export class LearntAddresses {
  readonly #members: MemberList;
  readonly #onLearnt: (raftId: number, addr: string) => void;
  /** At most one for each member. */
  readonly #learnt = new Map<number, Learnt>();

  /** @param onLearnt called when a member is at a place that was not known. */
  constructor(members: MemberList, onLearnt: (raftId: number, addr: string) => void) {
    this.#members = members;
    this.#onLearnt = onLearnt;
  }

  /** A member says where it is now. Of ids that are not in the list nothing is kept. */
  learn(raftId: number, addr: string): void {
    const member = this.#members.get(raftId);
    if (member === undefined || this.of(raftId) === addr) return;
    if (member.addr === addr) this.#learnt.delete(raftId);
    else this.#learnt.set(raftId, { addr, instead: member.addr });
    this.#onLearnt(raftId, addr);
  }

  /** Where a member is, as far as is known here; undefined when it is no member. */
  of(raftId: number): string | undefined {
    const member = this.#members.get(raftId);
    const learnt = this.#learnt.get(raftId);
    if (learnt === undefined || member?.addr === learnt.instead) return member && (learnt?.addr ?? member.addr);
    this.#learnt.delete(raftId);
    return member?.addr;
  }

  /** Members whose address in the log is not the one learnt, with the one learnt. */
  pending(): Member[] {
    return this.#members.list().flatMap((member) => {
      const addr = this.of(member.raftId) ?? member.addr;
      return addr === member.addr ? [] : [{ ...member, addr }];
    });
  }
}
