import { expect, test } from 'vitest';
import { RaftMessageType } from '../../proto/index.ts';
import { World } from './world.ts';

/** Three managers and nobody else. */
async function managersOf(seed: number): Promise<World> {
  const world = new World({ seed, profile: { managers: 3, workers: 0 } });
  const [first, ...others] = world.managers;
  first?.start();
  await world.run(1_000);
  for (const other of others) {
    other.start();
    const { run } = world.leader() ?? {};
    run?.process.run(() => {
      run.manager.addMember(other.member).catch((error: unknown) => world.fail(error));
    });
    await world.run(world.now + 2_000);
  }
  return world;
}

test('a leader whose first read is not confirmed in time begins its term when links are fast again', async () => {
  const world = await managersOf(1);
  // Followers say that they are there, but none of their answers bears a read.
  world.network.filter = (message) => {
    if (message.type === RaftMessageType.MsgHeartbeatResp) message.context = new Uint8Array();
    return 'pass';
  };
  const former = world.leader();
  former?.kill();
  await world.run(world.now + 8_000);
  const terms = (): number[] =>
    world.managers
      .map(({ run }) => run?.manager.consensus.status())
      .map((one) => (one?.role === 'leader' ? one.term : 0));
  const before = terms();
  expect(Math.max(...before)).toBeGreaterThan(0);
  expect(world.leader()).toBeUndefined();
  world.network.filter = null;
  await world.run(world.now + 3_000);
  expect(terms()).toEqual(before);
  expect(world.leader()).toBeDefined();
});
