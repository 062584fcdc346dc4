import { expect, test } from 'vitest';
import type { Engine } from '../engine.ts';
import { config } from './fixture.ts';
import { useFixture } from './use-fixture.ts';

const never = new AbortController().signal;
let engine: Engine;
useFixture((_fixture, ours) => {
  engine = ours;
});

test('a removal while one is under way is a conflict, and the first goes on', async () => {
  const { id } = await engine.containers.create(config({ cmd: ['sleep', '1000'], name: 'twice' }));
  await engine.containers.start(id);
  const force = { force: true, volumes: true };
  // One that is refused does not stand in the way.
  const refused = engine.containers.remove(id, { force: false, volumes: false });
  await expect(refused).rejects.toThrow('container is running: stop the container before removing or force remove');
  const [first, second, third] = await Promise.allSettled([
    engine.containers.remove(id, force),
    engine.containers.remove('twice', force),
    engine.containers.remove('twice', { force: false, volumes: false }),
  ]);
  expect(first.status).toBe('fulfilled');
  for (const late of [second, third]) {
    expect(late).toMatchObject({
      status: 'rejected',
      reason: { code: 'Conflict', message: 'removal of container twice is already in progress' },
    });
  }
  expect(engine.containers.list()).toEqual([]);
  await expect(engine.containers.remove('twice', force)).rejects.toThrow('No such container: twice');
});

test('one that removes itself may be removed by force meanwhile', async () => {
  const { id } = await engine.containers.create(config({ cmd: ['sleep', '1000'], autoRemove: true }));
  await engine.containers.start(id);
  const gone = engine.containers.wait(id, 'removed', never);
  await engine.containers.remove(id, { force: true, volumes: true });
  expect(await gone).toEqual({ exitCode: 137 });
  expect(engine.containers.list()).toEqual([]);
});
