/** One guard of the algorithm taken out of a copy of the sources. */
export interface Mutant {
  name: string;
  /** What must go wrong then. */
  breaks: string;
  /** Each must stand in its file exactly once. */
  patches: { file: string; find: string; put: string }[];
}

/** The guards that issue 3 names, and a few more. Without any one of them the simulation must fail. */
export const MUTANTS: Mutant[] = [
  {
    name: 'fsync before ack',
    breaks: 'a follower acknowledges entries that a cut of the power takes away: acknowledged writes are lost',
    patches: [
      {
        file: 'raft/core/outbox.ts',
        find: 'if (message.index <= durable) this.push(message);',
        put: 'if (durable >= 0) this.push(message);',
      },
    ],
  },
  {
    name: 'fsync before vote',
    breaks: 'a voter forgets its vote and gives it again: two leaders of one term',
    patches: [
      {
        file: 'raft/core/outbox.ts',
        find: 'if (this.voteDurable) this.#ready.push(message);',
        put: 'if (this.#version >= 0) this.#ready.push(message);',
      },
    ],
  },
  {
    name: 'term check on vote',
    breaks: 'votes of an old term count in a new one: two leaders of one term',
    patches: [
      {
        file: 'raft/core/raft.ts',
        find: '} else if (message.term < state.term) {',
        put:
          '} else if (message.term < state.term && message.type !== RaftMessageType.MsgVote && ' +
          'message.type !== RaftMessageType.MsgVoteResp) {',
      },
    ],
  },
  {
    name: 'log-matching check',
    breaks: 'entries are appended behind others than on the leader',
    patches: [
      {
        file: 'raft/core/log.ts',
        find: 'if (!this.matches(prevIndex, prevTerm)) return undefined;',
        put: 'if (prevIndex > this.lastIndex) return undefined;',
      },
    ],
  },
  {
    name: 'read-index confirmation',
    breaks: 'a leader that is none any more serves old values',
    patches: [
      {
        file: 'raft/core/read-queue.ts',
        find: 'const confirmed = quorumValue(quorum, (id) => (id === self ? Infinity : (this.#answers.get(id)?.round ?? 0)));',
        put: 'const confirmed = Infinity;',
      },
    ],
  },
  {
    name: 'commit only own-term entries',
    breaks: 'an entry of an old term is taken for committed and overwritten later (figure 8)',
    patches: [{ file: 'raft/core/replication.ts', find: 'if (log.term(index) !== state.term) return false;', put: '' }],
  },
  {
    name: 'CRC check of the log',
    breaks: 'flipped bits are taken for entries',
    patches: [
      {
        file: 'raft/wal/frame.ts',
        find: 'if (payload.length === header.length && crc32(payload) === header.payloadCrc) {',
        put: 'if (payload.length === header.length) {',
      },
    ],
  },
  {
    name: 'CRC check of snapshots',
    breaks: 'flipped bits are taken for state',
    patches: [
      {
        file: 'raft/wal/snapshot-file.ts',
        find: 'if (crc32(body) !== file.readUInt32LE(52)) {',
        put: 'if (body.length < 0) {',
      },
    ],
  },
  {
    name: "pre-vote's lease check",
    breaks: 'a follower that comes back deposes a leader that everybody hears',
    patches: [
      {
        file: 'raft/core/votes.ts',
        find: 'if (state.leaderId !== NONE && state.electionElapsed < state.electionTicks) return true;',
        put: '',
      },
    ],
  },
  {
    name: 'no vote in repair',
    breaks: 'a member that lost what it acknowledged helps a leader that does not have it',
    patches: [{ file: 'raft/core/votes.ts', find: 'if (state.repair.active) return false;', put: '' }],
  },
];
