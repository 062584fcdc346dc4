import { must } from '../../base/index.ts';
import { Violation } from './checkers.ts';
import type { Clients } from './clients.ts';
import type { Member } from './member.ts';
import type { NemesisContext } from './nemesis/context.ts';
import type { Operator } from './operator.ts';
import type { World } from './world.ts';

/** What was sent before may still come, and bring a newer term: nothing is later than this, ms. */
const QUIET_MS = 12_000;
const MIN_MS = 10_000;
const MEAN_MS = 10_000;
/** The leader's disk may stall this long, ms. */
const STALL_MS = 400;

/**
 * Disturbs fewer than half of the followers of a group that is well: cut off, paused, killed, back again. Leader and term
 * must stay (thesis §4.2.3 and §9.6: that is what pre-vote and the lease are for).
 */
export async function disturbFollowers(
  world: World,
  clients: Clients,
  operator: Operator,
  context: NemesisContext,
): Promise<void> {
  operator.rests = true;
  await world.run(world.now + QUIET_MS);
  const leader = world.leader();
  const core = leader?.node?.core;
  // A late message can cost even a well group its leader; then this is not the moment.
  if (leader === undefined || core === undefined || world.account.pendingCount > 0) return;
  const { term } = core;
  const voters = [...core.membership.voters];
  if (voters.some((id) => !follows(world, id, leader.id, term))) return;
  const count = Math.min(voters.length - 1, Math.ceil(voters.length / 2) - 1);
  const victims = voters.filter((id) => id !== leader.id).slice(0, count);
  if (victims.length === 0) return;
  world.journal.fault('disturbed followers', victims.join());
  clients.idle = context.chance(0.6);
  world.onElected = (member) => {
    const found = member.node?.core.term;
    throw new Violation(
      `stability: member ${member.id} took over in term ${found} while only ${victims.join()} were disturbed`,
    );
  };
  for (const id of victims) disturb(context, must(world.members.get(id), 'victim'));
  context.every(4000, () => leader.disk.stall(context.random.float() * STALL_MS));
  await world.run(world.now + MIN_MS + context.exponential(MEAN_MS));
  context.end();
  for (const id of victims) {
    const victim = world.members.get(id);
    victim?.run?.process.resume();
    if (victim !== undefined) context.rejoin(victim);
  }
  operator.startAll();
  // Those who come back must not disturb either.
  await world.run(world.now + 3000);
  world.onElected = null;
  if (!leader.leads || core.term !== term) {
    throw new Violation(`stability: the leader of term ${term} gave way while only ${victims.join()} were disturbed`);
  }
}

function follows(world: World, id: number, leaderId: number, term: number): boolean {
  const core = world.members.get(id)?.node?.core;
  return core !== undefined && core.term === term && core.leaderId === leaderId && core.repairReason === null;
}

function disturb(context: NemesisContext, victim: Member): void {
  context.every(2500, () => {
    switch (context.random.int(5)) {
      case 0:
        context.isolate(victim);
        break;
      case 1:
        context.isolate(victim, context.chance(0.5) ? 'in' : 'out');
        break;
      case 2:
        context.pause(victim, 300 + context.exponential(2500));
        return;
      case 3:
        context.kill(victim, context.exponential(1500));
        return;
      default:
        context.powerCut(victim, context.exponential(1500));
        return;
    }
    context.after(context.exponential(3000), () => context.rejoin(victim));
  });
}
