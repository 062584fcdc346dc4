import { majority } from '../../core/quorum.ts';
import type { Member } from '../member.ts';
import type { Nemesis, NemesisContext } from './context.ts';

/** Bits flip on the disks, and the programs that find them are started again, some in the midst of the repair. */
export const rot: Nemesis = (context) => {
  context.every(4000, () => {
    const member = context.pick(context.members().filter((one) => one.health === 'sound'));
    if (member === undefined || !context.damage(member)) return;
    for (let more = context.random.int(4); more > 2; more--) context.damage(member);
    context.after(context.exponential(3000), () => crashInStart(context, member));
  });
  context.every(10_000, () => {
    const leader = context.leader();
    if (leader !== undefined) context.strike(leader, context.chance(0.5) ? 'kill' : 'isolation');
    context.after(context.exponential(3000), () => context.heal());
  });
};

/** The power fails, and perhaps again while the log is opened. */
function crashInStart(context: NemesisContext, member: Member): void {
  context.strike(member, context.chance(0.5) ? 'kill' : 'power cut', context.exponential(500));
  if (!context.chance(0.3)) return;
  context.world.journal.count('power cut in a start');
  member.disk.crashAfter = context.random.int(6);
}

/**
 * A majority commits while the others are away. Then those of it who are not the leader are damaged, and the leader is
 * gone for a while: the damaged must not help those who were away to lead without what they themselves have lost.
 */
export const orphan: Nemesis = (context) => {
  context.every(9000, () => {
    const leader = context.leader();
    const voters = leader?.node?.core.membership.voters;
    if (leader === undefined || voters === undefined || voters.size < 3) return;
    const others = [...voters].filter((id) => id !== leader.id);
    const away = others.slice(0, voters.size - majority(voters.size));
    context.world.journal.fault('orphans', away.join());
    context.world.network.partition(away, context.ids());
    context.after(300 + context.exponential(1500), () => orphanNow(context, leader, others.slice(away.length)));
    context.after(5000 + context.exponential(3000), () => context.heal());
  });
};

function orphanNow(context: NemesisContext, leader: Member, helpers: readonly number[]): void {
  const { world } = context;
  if (!leader.leads) return;
  for (const id of helpers) {
    const helper = world.members.get(id);
    if (helper === undefined || !helper.up || helper.health !== 'sound') continue;
    if (world.damage(helper, 'log', context.chance(0.6) ? 'bit' : 'sector', true)) {
      world.journal.count('bit flip in log');
      context.kill(helper, context.exponential(100));
    }
  }
  context.strike(leader, context.chance(0.7) ? 'kill' : 'isolation', 4000);
  context.after(10, () => {
    for (const id of context.ids()) if (id !== leader.id) context.rejoinBut(id, leader.id);
  });
}
