import type { Mutant } from './mutate.ts';

/** The guards that issue 3 names, and many more. Without any one of them the simulation must fail. */
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
  {
    name: 'up-to-date check on vote',
    breaks: 'a leader lacks what was committed',
    patches: [
      { file: 'raft/core/votes.ts', find: ' || !state.log.isUpToDate(message.index, message.log_term)', put: '' },
    ],
  },
  {
    name: 'vote guard after a restart',
    breaks: 'a leader reads by a lease that voters have forgotten',
    patches: [{ file: 'raft/core/votes.ts', find: 'return state.guardTicks > 0;', put: 'return false;' }],
  },
  {
    name: 'length of the lease',
    breaks: 'a leader reads by a lease that is over',
    patches: [
      {
        file: 'raft/core/lease.ts',
        find: 'return now - sentAt < lengthTicks ?',
        put: 'return now - sentAt < 3 * lengthTicks ?',
      },
    ],
  },
  {
    name: 'a read waits for a round of its own',
    breaks: 'answers to older heartbeats confirm a read',
    patches: [
      {
        file: 'raft/core/read-queue.ts',
        find: 'this.#pending.push({ round: this.#round + 1, index, from, context });',
        put: 'this.#pending.push({ round: this.#round, index, from, context });',
      },
    ],
  },
  {
    name: 'reads wait for an entry of the own term',
    breaks: 'a new leader does not know yet what is committed',
    patches: [
      {
        file: 'raft/core/step-leader.ts',
        find: 'if (state.committedInTerm) beginRead(state, from, context);',
        put: 'if (state.term > 0) beginRead(state, from, context);',
      },
    ],
  },
  {
    name: 'joint commit',
    breaks: 'the old voters are not asked',
    patches: [
      {
        file: 'raft/core/quorum.ts',
        find: 'return Math.min(incoming, reachedBy(quorum.outgoing, valueOf));',
        put: 'return incoming;',
      },
    ],
  },
  {
    name: 'joint election',
    breaks: 'the old voters are not asked',
    patches: [
      {
        file: 'raft/core/quorum.ts',
        find: "return incoming === 'won' && outgoing === 'won' ? 'won' : 'pending';",
        put: 'return incoming;',
      },
    ],
  },
  {
    name: 'one change of membership at a time',
    breaks: 'majorities that do not overlap',
    patches: [
      {
        file: 'raft/core/proposals.ts',
        find: 'if (state.pendingConfIndex > state.log.applied) {',
        put: 'if (state.pendingConfIndex < 0) {',
      },
    ],
  },
  {
    name: 'promises of an old term are dropped',
    breaks: 'an acknowledgement of entries that are gone',
    patches: [
      {
        file: 'raft/core/outbox.ts',
        find: '    this.#held = [];\n    this.#accept = null;\n  }\n\n  push',
        put: '  }\n\n  push',
      },
    ],
  },
  {
    name: 'a repair ends at its floor',
    breaks: 'a member votes without what it acknowledged',
    patches: [
      {
        file: 'raft/core/repair.ts',
        find: 'this.#found = term > this.#startTerm || (floor !== null && log.durable >= floor);',
        put: 'this.#found = floor !== 0 || this.#startTerm > 0;',
      },
    ],
  },
  {
    name: "a repair ends with the leader's own entry",
    breaks: 'a member votes without what it acknowledged',
    patches: [
      { file: 'raft/core/repair.ts', find: 'if (covered === 0 || log.term(covered) !== term) return false;', put: '' },
    ],
  },
  {
    name: 'the last frame is written once more',
    breaks: "what only the kernel's cache held is promised",
    patches: [
      {
        file: 'raft/wal/appender.ts',
        find: 'this.#file.write(lastFrame, this.state.tail - lastFrame.length);',
        put: '',
      },
    ],
  },
  {
    name: 'a damaged last frame is no torn write',
    breaks: 'an acknowledged write is cut off silently',
    patches: [
      {
        file: 'raft/wal/frame.ts',
        find: "if (hasUnwrittenSector(file, offset, next)) return { kind: 'torn', stray: false };",
        put: "if (offset >= 0) return { kind: 'torn', stray: false };",
      },
    ],
  },
];
