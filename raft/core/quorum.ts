/** Votes or acknowledgements that make a majority of `size` voters. */
export function majority(size: number): number {
  return Math.floor(size / 2) + 1;
}

/**
 * Who decides. In a joint membership (Raft §6) every decision needs a majority of the new voters and one of the old;
 * `outgoing` is empty otherwise.
 */
export interface Quorum {
  readonly incoming: readonly number[];
  readonly outgoing: readonly number[];
}

/** Values of one set of voters, descending; used again by each call, as this runs for every acknowledgement. */
const scratch: number[] = [];

function reachedBy(ids: readonly number[], valueOf: (id: number) => number): number {
  scratch.length = 0;
  for (const id of ids) {
    const value = valueOf(id);
    let at = scratch.length;
    for (; at > 0 && (scratch[at - 1] as number) < value; at--) scratch[at] = scratch[at - 1] as number;
    scratch[at] = value;
  }
  return scratch[majority(ids.length) - 1] as number;
}

/**
 * Largest value that a quorum has reached: a log index, a heartbeat's number, a time. 0 without voters (an empty group
 * decides nothing).
 */
export function quorumValue(quorum: Quorum, valueOf: (id: number) => number): number {
  if (quorum.incoming.length === 0) return 0;
  const incoming = reachedBy(quorum.incoming, valueOf);
  if (quorum.outgoing.length === 0) return incoming;
  return Math.min(incoming, reachedBy(quorum.outgoing, valueOf));
}

export type VoteResult = 'won' | 'lost' | 'pending';

function majorityResult(ids: readonly number[], votes: ReadonlyMap<number, boolean>): VoteResult {
  let yes = 0;
  let missing = 0;
  for (const id of ids) {
    const vote = votes.get(id);
    if (vote === undefined) missing++;
    else if (vote) yes++;
  }
  const needed = majority(ids.length);
  if (yes >= needed) return 'won';
  return yes + missing >= needed ? 'pending' : 'lost';
}

/** State of an election: won by a quorum of yes, lost once yes can no longer reach one. */
export function voteResult(quorum: Quorum, votes: ReadonlyMap<number, boolean>): VoteResult {
  const incoming = majorityResult(quorum.incoming, votes);
  if (quorum.outgoing.length === 0) return incoming;
  const outgoing = majorityResult(quorum.outgoing, votes);
  if (incoming === 'lost' || outgoing === 'lost') return 'lost';
  return incoming === 'won' && outgoing === 'won' ? 'won' : 'pending';
}

function hasMajority(ids: readonly number[], test: (id: number) => boolean): boolean {
  let count = 0;
  for (const id of ids) if (test(id)) count++;
  return count >= majority(ids.length);
}

/** Whether a quorum satisfies `test`. */
export function hasQuorum(quorum: Quorum, test: (id: number) => boolean): boolean {
  return hasMajority(quorum.incoming, test) && (quorum.outgoing.length === 0 || hasMajority(quorum.outgoing, test));
}
