import type { Change } from '../operator.ts';
import type { Nemesis, NemesisContext } from './context.ts';

/** One follower goes away and comes back; the others should hardly notice. */
export const comeback: Nemesis = (context) => {
  context.every(3000, () => {
    const follower = context.follower();
    if (follower === undefined) return;
    const roll = context.random.int(4);
    if (roll === 0) context.pause(follower);
    else if (roll === 1) context.kill(follower, context.exponential(4000));
    else context.isolate(follower, roll === 2 ? 'both' : context.chance(0.5) ? 'in' : 'out');
    context.after(context.exponential(6000), () => context.rejoin(follower));
  });
};

/** The power fails for all, or many, in the same instant; they come back one after the other. */
export const blackout: Nemesis = (context) => {
  context.every(12_000, () => {
    const all = context.chance(0.6);
    context.world.journal.fault('blackout', all ? 'of all' : 'of many');
    for (const member of context.members()) {
      if (all || context.chance(0.6)) context.powerCut(member, context.exponential(1500));
    }
  });
  context.every(20_000, () => {
    for (const member of context.members()) context.kill(member, context.exponential(500));
  });
};

/** Learners come, voters go, several at once, and everything else fails meanwhile. */
export const churn: Nemesis = (context) => {
  context.every(2500, () => context.operator.change(anyChange(context)));
  context.every(6000, () => {
    const victim = context.chance(0.5) ? context.leader() : context.any();
    if (victim === undefined) return;
    const roll = context.random.int(4);
    if (roll === 0) context.isolate(victim);
    else if (roll === 1) context.pause(victim, context.exponential(2000));
    else context.strike(victim, roll === 2 ? 'kill' : 'power cut');
    context.after(context.exponential(3000), () => context.heal());
  });
  context.every(15_000, () => transfer(context));
};

function anyChange(context: NemesisContext): Change[] {
  const { world, random } = context;
  const membership = world.leader()?.node?.core.membership;
  if (membership === undefined) return [];
  const voters = [...membership.voters];
  const learners = [...membership.learners];
  const one = voters[random.int(voters.length)] ?? 0;
  const canLose = voters.length > 1;
  switch (random.int(6)) {
    case 0:
      return canLose ? [{ id: one, to: 'gone' }] : [];
    case 1:
      return canLose ? [{ id: one, to: 'learner' }] : [];
    case 2:
      return voters.length + learners.length < world.profile.voters + 2
        ? [{ id: world.addMember(false).id, to: 'learner' }]
        : [];
    default:
      return jointChange(context, voters, learners);
  }
}

/** Swaps voters for learners, demotes and removes, all at once. */
function jointChange(context: NemesisContext, voters: number[], learners: number[]): Change[] {
  const changes: Change[] = [];
  for (const id of learners) {
    const progress = context.world.leader()?.node?.core.progress.get(id);
    const sound = context.world.members.get(id)?.health === 'sound';
    if (sound && (progress?.match ?? 0) > 0 && context.chance(0.7)) changes.push({ id, to: 'voter' });
  }
  let left = voters.length + changes.length;
  for (const id of voters) {
    if (left <= 1 || !context.chance(0.35)) continue;
    left--;
    changes.push({ id, to: context.chance(0.5) ? 'learner' : 'gone' });
  }
  return changes;
}

export function transfer(context: NemesisContext): void {
  const run = context.leader()?.run;
  if (run === undefined) return;
  context.world.journal.fault('leadership transfer');
  run.process.run(() => {
    run.node?.transferLeadership().catch(() => undefined);
  });
}

/** Followers that were away under load come back to a log that begins after their end. */
export const laggard: Nemesis = (context) => {
  context.every(9000, () => {
    const follower = context.follower();
    if (follower === undefined) return;
    if (context.chance(0.5)) context.isolate(follower);
    else context.kill(follower, 6000);
    for (let i = 1; i <= 4; i++) context.after(i * 900, () => context.clients.burst());
    context.after(5000, () => {
      context.rejoin(follower);
      // In the midst of the snapshot.
      context.after(context.exponential(150), () => {
        if (context.chance(0.4)) context.strike(follower, context.chance(0.5) ? 'kill' : 'power cut', 200);
      });
    });
  });
};

/** Processes that sleep, clocks that go wrong. */
export const sleep: Nemesis = (context) => {
  const { world } = context;
  context.every(4000, () => {
    const member = context.chance(0.4) ? context.leader() : context.any();
    if (member !== undefined) context.pause(member);
  });
  if (world.profile.drift === 0) return;
  context.every(8000, () => {
    const member = context.any();
    if (member === undefined) return;
    member.rate = 1 + (context.random.float() * 2 - 1) * Math.min(0.5, world.profile.drift);
    member.run?.process.setRate(member.rate);
    world.journal.fault('clock drift', `of member ${member.id}: ${member.rate.toFixed(3)}`);
  });
};
