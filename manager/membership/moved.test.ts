import { afterEach, beforeEach, expect, it } from 'vitest';
import { createLogger, must, silentLogger } from '../../base/index.ts';
import { ListNodesRequest } from '../../proto/index.ts';
import type { Manager } from '../manager.ts';
import { TestCluster, until } from '../testing.ts';

let cluster: TestCluster;
beforeEach(() => {
  const level = process.env['SHOAL_TEST_LOG'];
  cluster = new TestCluster(level === undefined ? silentLogger : createLogger({ level: 'debug', fd: 2 }));
});
afterEach(async () => {
  await cluster.close();
  expect(cluster.fatal).toEqual([]);
});

/** Where a manager believes the others to be. */
const addressesOf = (manager: Manager): Map<string, string> =>
  new Map(manager.status().managers.map(({ nodeId, addr }) => [nodeId, addr]));

async function threeManagers(): Promise<void> {
  const { manager: first } = await cluster.bootstrap();
  await cluster.join(first.advertiseAddr);
  await cluster.join(first.advertiseAddr);
  await until('all three vote', () => cluster.managers.every((one) => one.status().raft?.voters.length === 3));
}

/** Stops managers, and starts them again on other ports. */
async function move(managers: Manager[]): Promise<Manager[]> {
  const before = new Set(managers.map((one) => one.advertiseAddr));
  const identities = managers.map((one) => must(cluster.identitiesOf(one.nodeId).identity, 'identity'));
  for (const one of managers) await cluster.stop(one);
  const moved: Manager[] = [];
  for (const identity of identities) moved.push(await cluster.start(identity, { kind: 'restart' }));
  for (const one of moved) expect(before.has(one.advertiseAddr)).toBe(false);
  return moved;
}

async function allKnow(moved: Manager[]): Promise<void> {
  await until('the new addresses are in the log of all', () =>
    cluster.managers.every((one) =>
      moved.every(({ nodeId, advertiseAddr }) => addressesOf(one).get(nodeId) === advertiseAddr),
    ),
  );
  await until('all vote and follow one leader', () => {
    const leaders = new Set(cluster.managers.map((one) => one.status().leader?.nodeId));
    return leaders.size === 1 && !leaders.has(undefined);
  });
  for (const one of cluster.managers) {
    expect((await one.call('ListNodes', ListNodesRequest.create())).nodes).toHaveLength(3);
    const others = one.status().managers.filter(({ nodeId }) => nodeId !== one.nodeId);
    await until('all are connected', () =>
      one
        .status()
        .managers.filter(({ nodeId }) => nodeId !== one.nodeId)
        .every(({ connection }) => connection?.startsWith('connected to ') === true),
    );
    expect(others).toHaveLength(2);
  }
}

it('a follower that comes back on another port is found, and all learn its address', async () => {
  await threeManagers();
  const follower = must(
    cluster.managers.find((one) => !one.isLeader()),
    'a follower',
  );
  await allKnow(await move([follower]));
});

it('so is the leader', async () => {
  await threeManagers();
  await allKnow(await move([must(cluster.leader(), 'the leader')]));
});

it('two of three that move at once find the third, and through it each other, while nobody leads', async () => {
  await threeManagers();
  await allKnow(await move(cluster.managers.slice(1)));
});
