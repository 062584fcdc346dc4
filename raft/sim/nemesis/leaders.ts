import { RaftMessageType, type RaftMessage } from '../../../proto/index.ts';
import type { Member } from '../member.ts';
import type { Nemesis, NemesisContext, Strike } from './context.ts';

/** Hits leaders within milliseconds of their election, of their first append, of their first commit. */
export const leaderHunt: Nemesis = (context) => {
  const { world } = context;
  const strikes: Strike[] = ['kill', 'power cut', 'pause', 'isolation'];
  world.onElected = (member) => {
    if (!context.chance(0.6)) return;
    const how = context.pick(strikes) ?? 'kill';
    context.after(context.exponential(15), () => {
      if (how === 'isolation') context.after(context.exponential(3000), () => context.rejoin(member));
      context.strike(member, how, how === 'pause' ? context.exponential(1500) : context.exponential(2000));
    });
  };
  // Something to be elected for.
  context.every(8000, () => {
    const leader = context.leader();
    if (leader !== undefined) context.strike(leader, context.chance(0.5) ? 'kill' : 'power cut');
  });
};

/** Crashes at the edges of a write: while it is under way, or when it is durable and nobody knows yet. */
export const writeEdge: Nemesis = (context) => {
  const watch = (member: Member): void => {
    member.disk.onLogWrite = (phase) => {
      if (!context.active || !context.chance(1 / 150)) return;
      const how: Strike = context.chance(0.5) ? 'power cut' : 'kill';
      context.after(0, () => {
        world.journal.count(phase === 'begun' ? 'crash in a write' : 'crash after a write');
        context.strike(member, how, context.chance(0.5) ? context.exponential(100) : undefined);
      });
    };
  };
  const { world } = context;
  for (const member of context.members()) watch(member);
  context.every(2000, () => {
    for (const member of context.members()) if (member.disk.onLogWrite === null) watch(member);
  });
};

/** A voter crashes right after it voted, is back at once, and is asked again: it must remember its vote. */
export const voteEdge: Nemesis = (context) => {
  const { world } = context;
  const asked = new Map<string, RaftMessage>();
  const askAgain = (vote: RaftMessage): void => {
    for (const question of asked.values()) {
      if (question.to !== vote.from || question.from === vote.to || question.term !== vote.term) continue;
      // A member that was just started answers no candidate for an election timeout.
      const guardMs = world.profile.tickMs * world.profile.electionTicks;
      world.network.repeat(question, guardMs * (0.9 + context.random.float() * 0.4));
    }
  };
  world.network.filter = (message) => {
    const voter = world.members.get(message.from);
    if (message.type === RaftMessageType.MsgVoteResp && !message.reject && voter !== undefined && context.chance(0.5)) {
      context.after(0, () => {
        // Two places hold a vote: it is gone only if both are.
        voter.disk.cutModes = ['lost'];
        world.journal.count('crash after a vote');
        context.strike(voter, context.chance(0.7) ? 'power cut' : 'kill', context.exponential(20));
        askAgain(message);
      });
    }
    if (message.type !== RaftMessageType.MsgVote) return 'pass';
    asked.set(`${message.from} ${message.to}`, message);
    // Questions come late, so that there are several candidates.
    return context.chance(0.6) ? context.random.float() * 500 : 'pass';
  };
  context.every(2500, () => {
    const leader = context.leader();
    if (leader !== undefined) context.strike(leader, context.chance(0.5) ? 'kill' : 'isolation', 1500);
    context.after(1500, () => context.heal());
  });
};

/** Leaders fall, and what candidates and voters say comes late, doubled and in a later term. */
export const duel: Nemesis = (context) => {
  const { world } = context;
  const votes: ReadonlySet<RaftMessageType> = new Set([RaftMessageType.MsgVote, RaftMessageType.MsgVoteResp]);
  const parrot = new Parrot(context);
  world.network.temper = { ...world.profile.links, duplicateShare: 0.2 };
  world.network.filter = (message) => {
    if (!votes.has(message.type)) return 'pass';
    parrot.hears(message);
    if (!context.chance(0.4)) return 'pass';
    return context.chance(0.1) ? 'drop' : context.exponential(500);
  };
  context.every(2500, () => {
    const leader = context.leader();
    if (leader === undefined) return;
    if (context.chance(0.5)) context.strike(leader, 'kill', context.exponential(1000));
    else {
      context.isolate(leader);
      context.after(context.exponential(2000), () => context.rejoin(leader));
    }
  });
};

/** Remembers votes, and repeats them to a candidate of a later term that nobody else hears then. */
class Parrot {
  readonly #context: NemesisContext;
  readonly #granted = new Map<string, RaftMessage>();

  constructor(context: NemesisContext) {
    this.#context = context;
  }

  hears(message: RaftMessage): void {
    const { world } = this.#context;
    if (message.type === RaftMessageType.MsgVoteResp) {
      if (!message.reject) this.#granted.set(`${message.from} ${message.to}`, message);
      return;
    }
    const old = [...this.#granted.values()].filter((vote) => vote.to === message.from && vote.term < message.term);
    const candidate = world.members.get(message.from);
    if (old.length === 0 || candidate === undefined || !this.#context.chance(0.3)) return;
    world.journal.fault('old votes repeated', `to member ${candidate.id} in term ${message.term}`);
    this.#context.isolate(candidate, 'out');
    for (const vote of old) world.network.repeat(vote, this.#context.exponential(10));
    this.#context.after(1000 + this.#context.exponential(1000), () => this.#context.rejoin(candidate));
  }
}

/**
 * Figure 8 of the paper. A leader that nobody hears has an entry of its own; it falls, and the next leader too has one
 * that nobody hears. The first comes back, leads again, and brings the others its old entry but none of its new term.
 * Then it falls, and the second comes back. If the old entry was taken for committed, it is lost now.
 */
export const figure8: Nemesis = (context) => {
  const round = (): void => {
    new Figure8(context, () => context.after(context.exponential(2000), round)).begin();
  };
  context.after(3000, round);
};

/** Time for one act; then the round is given up. */
const ACT_MS = 6000;

class Figure8 {
  readonly #context: NemesisContext;
  readonly #done: () => void;
  #over = false;

  constructor(context: NemesisContext, done: () => void) {
    this.#context = context;
    this.#done = done;
  }

  begin(): void {
    const first = this.#context.leader();
    if (first === undefined) {
      this.#done();
      return;
    }
    this.#context.world.journal.fault('figure 8', `begins with member ${first.id}`);
    this.#silence(first, 0);
    const { run } = first;
    if (run !== undefined) this.#context.clients.write(run, 0);
    this.#context.after(100 + this.#context.exponential(200), () => {
      if (!first.leads) {
        this.#finish();
        return;
      }
      this.#context.kill(first, 1e9);
      this.#act((second) => this.#secondLeads(first, second));
    });
    this.#context.after(4 * ACT_MS, () => this.#finish());
  }

  /** Nobody accepts entries of `member` from `term` on: what would be refused anyway may pass. */
  #silence(member: Member, term: number): void {
    const { world } = this.#context;
    world.network.filter = (message) => {
      if (message.from !== member.id || message.type !== RaftMessageType.MsgApp) return 'pass';
      if (!message.entries.some((entry) => entry.term >= term)) return 'pass';
      const receiver = world.members.get(message.to)?.node?.core;
      return term > 0 && receiver?.termAt(message.index) !== message.log_term ? 'pass' : 'drop';
    };
  }

  /** Waits for the next election. */
  #act(elected: (member: Member) => void): void {
    const { world } = this.#context;
    world.onElected = (member) => {
      if (this.#over || !this.#context.active) return;
      world.onElected = null;
      elected(member);
    };
  }

  #secondLeads(first: Member, second: Member): void {
    const context = this.#context;
    this.#silence(second, 0);
    // Long enough for its first entry to become durable at home.
    context.after(30 + context.exponential(50), () => {
      context.kill(second, 1e9);
      first.startAt = context.world.now;
      context.world.start(first);
      this.#act((third) => {
        if (third === first) this.#firstLeadsAgain(first, second);
        else this.#finish();
      });
    });
  }

  #firstLeadsAgain(first: Member, second: Member): void {
    const context = this.#context;
    this.#silence(first, first.node?.core.term ?? 0);
    context.after(100 + context.exponential(200), () => {
      context.kill(first, 3000);
      second.startAt = context.world.now;
      context.world.start(second);
      context.world.network.filter = null;
      context.world.journal.count('figure 8 to its end');
      this.#act(() => this.#finish());
    });
  }

  #finish(): void {
    if (this.#over) return;
    this.#over = true;
    const { world } = this.#context;
    world.network.filter = null;
    world.onElected = null;
    for (const member of world.members.values()) member.startAt = Math.min(member.startAt, world.now);
    this.#done();
  }
}
