import { RaftMessageType } from '../../../proto/index.ts';
import type { Member } from '../member.ts';
import type { Nemesis, NemesisContext } from './context.ts';

/** The register that is read at one leader while it is written at another. */
const KEY = 0;

/** Reads at a member that may lead no more, and writes at whoever leads now, for `ms`. */
function contend(context: NemesisContext, stale: Member, ms: number, everyMs: number): void {
  context.clients.pinned = stale;
  for (let at = 0; at < ms; at += everyMs) {
    context.after(at, () => {
      if (stale.run !== undefined) context.clients.read(stale.run, KEY);
      const leader = context.leader();
      if (leader?.run !== undefined && leader !== stale && context.chance(0.5)) context.clients.write(leader.run, KEY);
    });
  }
  context.after(ms, () => {
    context.clients.pinned = undefined;
  });
}

/** A leader that is cut off still thinks that it leads; clients go on reading from it. */
export const staleLeader: Nemesis = (context) => {
  context.every(4000, () => {
    const leader = context.leader();
    if (leader === undefined) return;
    const roll = context.random.int(10);
    if (roll < 3) context.pause(leader, 200 + context.exponential(1500));
    else if (roll < 6) echo(context, leader);
    else context.isolate(leader, roll < 8 ? 'both' : roll === 8 ? 'in' : 'out');
    contend(context, leader, 2000, 25);
    context.after(2000 + context.exponential(500), () => {
      context.world.network.filter = null;
      context.rejoin(leader);
    });
  });
};

/** All that reaches a leader any more are old answers to its heartbeats. */
function echo(context: NemesisContext, leader: Member): void {
  context.world.journal.fault('late answers', `to member ${leader.id}`);
  context.world.network.filter = (message) => {
    if (message.from === leader.id) return context.chance(0.05) ? 'pass' : 'drop';
    if (message.to !== leader.id) return 'pass';
    return message.type === RaftMessageType.MsgHeartbeatResp ? 300 + context.random.float() * 700 : 'drop';
  };
}

/**
 * A follower that lost the leader asks for votes in vain, as the others hear it. Then these start anew, all at once, and
 * hear it no more: do they remember that its lease may not be over?
 */
export const amnesia: Nemesis = (context) => {
  const { world } = context;
  context.every(6000, () => {
    const leader = context.leader();
    const candidate = context.follower();
    if (leader === undefined || candidate === undefined) return;
    world.journal.fault('amnesia', `of all but members ${leader.id} and ${candidate.id}`);
    // Nothing may happen that the candidate does not know of: it would not be elected.
    context.clients.idle = true;
    world.network.partition([leader.id], [leader.id, candidate.id]);
    context.after(1000 + context.random.float() * 1500, () => {
      context.clients.idle = false;
      if (!leader.leads) return;
      world.network.partition([leader.id], context.ids());
      for (const member of world.up()) {
        if (member !== leader && member !== candidate) context.kill(member, 1 + context.random.float() * 5);
      }
      contend(context, leader, 700, 7);
    });
    context.after(4000, () => context.rejoin(leader));
  });
};
