import type { Member } from '../member.ts';
import type { Nemesis, NemesisContext } from './context.ts';
import { transfer } from './groups.ts';

/** Everything, at random. */
export const chaos: Nemesis = (context) => {
  context.every(1500, () => anything(context));
};

function anything(context: NemesisContext): void {
  const { world, random } = context;
  const victim = context.chance(0.3) ? context.leader() : context.any();
  if (victim === undefined) return;
  switch (random.int(17)) {
    case 0:
      return split(context);
    case 1:
      return context.isolate(victim);
    case 2:
      return context.isolate(victim, context.chance(0.5) ? 'in' : 'out');
    case 3:
    case 4:
    case 5:
      return context.heal();
    case 6:
      return rain(context);
    case 7:
      world.network.temper = world.profile.links;
      return;
    case 8:
      return context.kill(victim);
    case 9:
      return context.powerCut(victim);
    case 10:
      return context.pause(victim, 100 + context.exponential(2000));
    case 11:
      return slow(context, victim);
    case 12:
      return stop(context, victim);
    case 13:
      return diskTrouble(context, victim);
    case 14:
      return transfer(context);
    case 15:
      world.journal.fault('burst of load');
      return context.clients.burst();
    default:
      return snapshot(context, victim);
  }
}

function split(context: NemesisContext): void {
  const ids = context.ids();
  const side = ids.filter(() => context.chance(0.5));
  context.world.journal.fault('partition', `of ${side.join()} from the others`);
  context.world.network.partition(side, ids);
}

function rain(context: NemesisContext): void {
  const { world, random } = context;
  world.journal.fault('bad links');
  world.network.temper = {
    ...world.profile.links,
    meanMs: 1 + random.int(60),
    dropShare: random.float() * 0.3,
    duplicateShare: random.float() * 0.2,
    lateShare: random.float() * 0.1,
    lateMs: 200 + random.int(3000),
    ordered: context.chance(0.5),
  };
}

function slow(context: NemesisContext, victim: Member): void {
  const { world } = context;
  if (context.chance(0.5)) {
    const ms = context.exponential(1000);
    world.journal.fault('disk stall', `at member ${victim.id} for ${Math.round(ms)} ms`);
    victim.disk.stall(ms);
    return;
  }
  world.journal.fault('slow disk', `at member ${victim.id}`);
  victim.disk.temper = { ...victim.disk.temper, minMs: 5, meanMs: 5 + context.exponential(40) };
  world.scheduler.after(context.exponential(5000), () => {
    victim.disk.temper = { ...world.profile.disk, lying: victim.disk.temper.lying };
  });
}

/** An orderly stop. */
function stop(context: NemesisContext, victim: Member): void {
  const { run } = victim;
  if (run?.node === undefined) return;
  const { world } = context;
  world.journal.fault('stop', `of member ${victim.id}`);
  run.process.run(() => {
    run.node?.stop().then(
      () => {
        if (victim.run === run) world.kill(victim);
      },
      (error: unknown) => world.fail(error),
    );
  });
}

function diskTrouble(context: NemesisContext, victim: Member): void {
  const { world } = context;
  const { disk } = victim;
  const full = context.chance(0.5);
  world.journal.fault(full ? 'full disk' : 'failing disk', `at member ${victim.id}`);
  disk.temper = full ? { ...disk.temper, full } : { ...disk.temper, eioShare: 0.02 + context.random.float() * 0.2 };
  world.scheduler.after(context.exponential(5000), () => {
    disk.temper = { ...disk.temper, full: false, eioShare: 0 };
  });
}

function snapshot(context: NemesisContext, victim: Member): void {
  const { world } = context;
  const { run } = victim;
  if (run === undefined) return;
  if (world.sealed) {
    world.journal.fault('key rotation');
    world.rotateKeys();
  }
  world.journal.count('snapshot asked for');
  run.process.run(() => {
    run.node?.snapshotNow().catch(() => undefined);
  });
}

/** Links lose, double and hold back; leaders are cut off all the time. What was said comes back terms later. */
export const storm: Nemesis = (context) => {
  const { world, random } = context;
  world.journal.fault('bad links');
  world.network.temper = {
    ...world.profile.links,
    dropShare: random.float() * 0.2,
    duplicateShare: 0.1 + random.float() * 0.2,
    lateShare: 0.02 + random.float() * 0.1,
    lateMs: 1000 + random.int(9000),
    ordered: false,
  };
  context.every(3000, () => {
    const leader = context.leader();
    if (leader === undefined) return;
    context.isolate(leader, context.chance(0.7) ? 'both' : context.chance(0.5) ? 'in' : 'out');
    context.after(context.exponential(2500), () => context.rejoin(leader));
  });
};

/** Disks that report as durable what is not, and cuts of the power. */
export const lies: Nemesis = (context) => {
  const { world } = context;
  context.every(5000, () => {
    const member = context.any();
    if (member === undefined) return;
    world.journal.fault('lying disk', `at member ${member.id}`);
    member.disk.temper = { ...member.disk.temper, lying: true };
    const honest = (): void => {
      member.disk.temper = { ...member.disk.temper, lying: false };
    };
    const ms = context.exponential(3000);
    // Sometimes an honest write follows the lies: the log then holds a gap.
    world.scheduler.after(context.chance(0.5) ? ms : ms + 50, honest);
    context.after(ms + context.exponential(40), () => context.powerCut(member));
  });
  context.every(9000, () => {
    const member = context.any();
    if (member !== undefined) context.strike(member, context.chance(0.5) ? 'power cut' : 'kill');
  });
};
