/** Votes or acknowledgements that make a majority of `size` voters. */
export function majority(size: number): number {
  return Math.floor(size / 2) + 1;
}

/**
 * Largest index that a majority of `voters` holds; 0 without voters (an empty group commits nothing).
 * @param matchOf index known to be durable at a voter.
 */
export function committedIndex(voters: ReadonlySet<number>, matchOf: (id: number) => number): number {
  if (voters.size === 0) return 0;
  const matches = [...voters].map(matchOf).sort((a, b) => b - a);
  return matches[majority(voters.size) - 1] ?? 0;
}

export type VoteResult = 'won' | 'lost' | 'pending';

/** State of an election: won by a majority of yes, lost once yes can no longer reach one. */
export function voteResult(voters: ReadonlySet<number>, votes: ReadonlyMap<number, boolean>): VoteResult {
  let yes = 0;
  let missing = 0;
  for (const id of voters) {
    const vote = votes.get(id);
    if (vote === undefined) missing++;
    else if (vote) yes++;
  }
  const needed = majority(voters.size);
  if (yes >= needed) return 'won';
  return yes + missing >= needed ? 'pending' : 'lost';
}

/** Whether a majority of `voters` satisfies `test`. */
export function hasQuorum(voters: ReadonlySet<number>, test: (id: number) => boolean): boolean {
  let count = 0;
  for (const id of voters) if (test(id)) count++;
  return count >= majority(voters.size);
}
