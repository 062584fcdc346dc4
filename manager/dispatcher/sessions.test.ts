import { expect, it } from 'vitest';
import { SeededRandom, silentLogger, VirtualClock } from '../../base/index.ts';
import { NodeStatus_State, SessionRequest } from '../../proto/index.ts';
import { aNode, createMemoryStore } from '../store/testing.ts';
import { Sessions } from './sessions.ts';
import { WriteBatch } from './write-batch.ts';

it('a heartbeat that comes while the sessions are ended in turns makes nobody Down later', async () => {
  const clock = new VirtualClock();
  const store = createMemoryStore();
  for (const id of ['n1', 'n2']) await store.update((tx) => tx.create('node', aNode(id)));
  const batch = new WriteBatch({ store, clock, log: silentLogger, appliedBy: 'm' });
  const sessions = new Sessions({ store, clock, random: new SeededRandom(1), log: silentLogger, batch });
  const register = async (nodeId: string): ReturnType<Sessions['register']> => {
    const registered = sessions.register(nodeId, '10.0.0.1:1', SessionRequest.create({ shoal_version: 1 }));
    await clock.advanceAsync(100);
    return registered;
  };
  const both = [await register('n1'), await register('n2')];
  let goOn = (): void => undefined;
  const closed = sessions.close(() => new Promise((resolve) => (goOn = resolve)));
  for (const session of both) {
    expect(session.signal.aborted).toBe(false);
    sessions.beat(session);
    await expect(sessions.register(session.nodeId, '10.0.0.1:1', SessionRequest.create({}))).rejects.toMatchObject({
      code: 'Unavailable',
    });
    goOn();
    await clock.advanceAsync(1);
  }
  await closed;
  expect(both.every((session) => session.signal.aborted)).toBe(true);
  await clock.advanceAsync(60_000);
  expect(
    store
      .view()
      .list('node')
      .map((node) => node.status?.state),
  ).toEqual([NodeStatus_State.READY, NodeStatus_State.READY]);
  expect(clock.nextTimerAt()).toBeUndefined();
});
