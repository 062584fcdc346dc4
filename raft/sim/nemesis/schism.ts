import type { Change } from '../operator.ts';
import type { Nemesis, NemesisContext } from './context.ts';

/** Entries that a learner may be behind to become a voter. */
const BEHIND_MAX = 50;

/**
 * The membership changes, and in the same instant the network splits between those who go and those who come. Old and
 * new voters must not decide without each other.
 */
export const schism: Nemesis = (context) => {
  const { world } = context;
  context.operator.rests = true;
  context.every(1200, () => {
    const leader = context.leader();
    const core = leader?.node?.core;
    if (leader === undefined || core === undefined || core.membership.outgoing.size > 0) return;
    const voters = [...core.membership.voters];
    const learners = [...core.membership.learners].filter((id) => isReady(context, id));
    if (voters.length < 3 || (core.membership.learners.size < 2 && context.chance(0.7))) {
      const comes = voters.length < 3 ? learners[0] : undefined;
      if (comes !== undefined) context.operator.change([{ id: comes, to: 'voter' }]);
      else if (context.ids().length < world.profile.voters + 4) {
        context.operator.change([{ id: world.addMember(false).id, to: 'learner' }]);
      }
      return;
    }
    const leaves = voters.filter((id) => id !== leader.id || context.chance(0.3)).slice(0, 2 + context.random.int(2));
    const gone = leaves.slice(0, voters.length - 1).map((id): Change => ({ id, to: 'gone' }));
    const comes = learners.map((id): Change => ({ id, to: 'voter' }));
    if (comes.length > 0 && context.chance(0.7)) context.operator.change([...comes, ...gone]);
    // One by one, without waiting: only the first may be taken.
    else for (const change of gone) context.operator.change([change]);
    split(context, leaves, leader.id);
  });
};

function isReady(context: NemesisContext, id: number): boolean {
  const core = context.leader()?.node?.core;
  const match = core?.progress.get(id)?.match ?? 0;
  return context.world.members.get(id)?.health === 'sound' && match > 0 && match + BEHIND_MAX > (core?.lastIndex ?? 0);
}

function split(context: NemesisContext, leaves: readonly number[], leaderId: number): void {
  const { world } = context;
  context.after(context.exponential(6), () => {
    world.journal.fault('schism', `${leaves.join()} from the others`);
    const side = context.chance(0.3) ? [leaderId] : [...leaves];
    world.network.partition(side, context.ids());
  });
  context.after(1000 + context.exponential(2500), () => context.heal());
}
