import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { SeededRandom } from '../../base/index.ts';
import {
  NodeSpec_Availability,
  NodeStatus_State,
  Service,
  TaskState,
  UpdateStatus_UpdateState,
  type Task,
} from '../../proto/index.ts';
import { aNode, aService } from '../store/testing.ts';
import { orchestratorDuties } from './index.ts';
import { findMove, spreadOf, type Place } from './spread-moves.ts';
import { obedient, TestCluster, withImage } from './testing.ts';

let cluster: TestCluster;

beforeEach(async () => {
  cluster = new TestCluster(orchestratorDuties);
  await cluster.store.seed({ node: [aNode('n1'), aNode('n2')] });
  cluster.lead();
});

afterEach(() => cluster.stop());

const REBALANCE = { 'shoal.rebalance': 'true' };

async function start(count: number, labels: Record<string, string> = REBALANCE, spec: object = {}): Promise<void> {
  const annotations = { name: 'web', labels };
  const task = { container: { image: 'one' } };
  const service = aService('web', { spec: { annotations, replicated: { replicas: count }, task, ...spec } });
  await cluster.store.update((tx) => tx.create('service', service));
  await cluster.run(300);
}

const join = (id: string): Promise<void> => cluster.store.seed({ node: [aNode(id)] });

/** Running tasks on each node. */
function counts(): Record<string, number> {
  const result: Record<string, number> = {};
  for (const task of cluster.running('web')) result[task.node_id] = (result[task.node_id] ?? 0) + 1;
  return result;
}

const moved = (): Task[] => cluster.tasks('web').filter((task) => task.created_for?.code === 'rebalance');

describe('rebalancing', () => {
  it('moves tasks one by one to a node that joined, when it has settled, and then stops', async () => {
    await start(6);
    await join('n3');
    await cluster.run(9_500);
    expect(moved()).toHaveLength(0);
    await cluster.run(1_200);
    expect(moved()).toHaveLength(1);
    for (let i = 0; i < 100; i++) {
      await cluster.run(50);
      expect(cluster.running('web').length).toBeGreaterThanOrEqual(6);
      expect(cluster.wanted('web').length).toBeLessThanOrEqual(7);
    }
    expect(counts()).toEqual({ n1: 2, n2: 2, n3: 2 });
    await cluster.run(200_000);
    expect(moved()).toHaveLength(2);
    expect(moved()[0]?.created_for?.text).toMatch(/^the service has 3 tasks on node \S+ and 0 on \S+$/);
    const left = cluster.tasks('web').filter((task) => task.stopped_for?.code === 'rebalance');
    expect(left).toHaveLength(2);
  });

  it('moves nothing of services that did not ask', async () => {
    await start(6, {});
    await join('n3');
    await cluster.run(60_000);
    expect(moved()).toHaveLength(0);
  });

  it('goes on under another leader', async () => {
    await start(8);
    await join('n3');
    await cluster.run(10_600);
    await cluster.changeLeader();
    await cluster.run(10_000);
    expect(moved()).toHaveLength(2);
    expect(Math.max(...Object.values(counts())) - Math.min(...Object.values(counts()))).toBeLessThan(2);
  });

  it('honours parallelism, delay and the order', async () => {
    await start(
      8,
      { ...REBALANCE, 'shoal.move.order': 'stop-first' },
      { update: { parallelism: 2, delay: { seconds: 5 } } },
    );
    await cluster.store.seed({ node: [aNode('n3'), aNode('n4')] });
    let most = 0;
    for (let i = 0; i < 230; i++) {
      await cluster.run(50);
      most = Math.max(most, cluster.tasks('web').filter((task) => task.status!.state === TaskState.RUNNING).length);
    }
    expect(most).toBe(8);
    expect(moved()).toHaveLength(2);
    await cluster.run(10_000);
    expect(counts()).toEqual({ n1: 2, n2: 2, n3: 2, n4: 2 });
  });

  it('waits while an update is under way or paused', async () => {
    await start(6);
    await cluster.store.update((tx) => {
      const update_status = {
        state: UpdateStatus_UpdateState.PAUSED,
        started_at: null,
        completed_at: null,
        message: '',
      };
      tx.update('service', { ...tx.get('service', 'web')!, update_status });
    });
    await join('n3');
    await cluster.run(60_000);
    expect(moved()).toHaveLength(0);
  });

  it('leaves a service alone for a while when a move fails', async () => {
    await start(6);
    cluster.behaviour = (task) =>
      task.node_id === 'n3' && task.status!.state < TaskState.RUNNING
        ? { state: TaskState.REJECTED, err: 'no image' }
        : obedient(task);
    await join('n3');
    await cluster.run(120_000);
    expect(moved()).toHaveLength(1);
    expect(cluster.running('web')).toHaveLength(6);
    cluster.behaviour = obedient;
    await cluster.run(210_000);
    expect(counts()).toEqual({ n1: 2, n2: 2, n3: 2 });
  });

  it('gives a move up whose task does not come up', async () => {
    await start(6);
    cluster.behaviour = (task) => (task.node_id === 'n3' && task.desired_state < 600 ? undefined : obedient(task));
    await join('n3');
    await cluster.run(20_000);
    expect(moved().map((task) => task.stopped_for?.code)).toEqual(['move-failed']);
    expect(cluster.wanted('web')).toHaveLength(6);
    expect(cluster.running('web')).toHaveLength(6);
  });

  it('does what was requested at once, and takes the request back when it is done', async () => {
    await start(6, {});
    await join('n3');
    await cluster.run(100);
    await cluster.store.update((tx) => {
      tx.update('service', { ...tx.get('service', 'web')!, rebalance_requested: { seconds: 1, nanos: 0 } });
    });
    await cluster.run(500);
    expect(moved()).toHaveLength(1);
    await cluster.run(5_000);
    expect(counts()).toEqual({ n1: 2, n2: 2, n3: 2 });
    expect(cluster.service('web').rebalance_requested).toBeNull();
  });

  it('does not move to nodes that cannot take a task', async () => {
    await start(6, REBALANCE, {
      task: { container: { image: 'one' }, placement: { constraints: ['node.id!=n3'] } },
    });
    await join('n3');
    await cluster.store.seed({
      node: [aNode('n4', { spec: { availability: NodeSpec_Availability.PAUSE } })],
    });
    await cluster.run(60_000);
    expect(moved()).toHaveLength(0);
  });

  it('moves back to a node that was down, and an update in the middle wins', async () => {
    await start(6);
    await cluster.setNode('n2', { state: NodeStatus_State.DOWN });
    await cluster.run(1_000);
    expect(counts()).toEqual({ n1: 6 });
    await cluster.setNode('n2', { state: NodeStatus_State.READY });
    cluster.behaviour = (task) =>
      task.node_id === 'n2' && task.status!.state === TaskState.READY && task.desired_state < 600
        ? undefined
        : obedient(task);
    await cluster.run(10_600);
    expect(moved()).toHaveLength(1);
    await cluster.updateService('web', withImage('two'));
    cluster.behaviour = obedient;
    await cluster.run(30_000);
    const running = cluster.running('web');
    expect(running).toHaveLength(6);
    expect(cluster.wanted('web')).toHaveLength(6);
    expect(running.every((task) => task.spec?.container?.image === 'two')).toBe(true);
    await cluster.run(120_000);
    expect(counts()).toEqual({ n1: 3, n2: 3 });
  });
});

describe('moves', () => {
  const zones = (descriptors: readonly string[]): Service =>
    aService('s', {
      spec: { task: { placement: { preferences: descriptors.map((d) => ({ spread: { spread_descriptor: d } })) } } },
    });

  function randomPlaces(random: SeededRandom): Place[] {
    return Array.from({ length: 1 + random.int(12) }, (_, i) => {
      const labels = { zone: `z${random.int(3)}`, rack: `r${random.int(2)}` };
      const count = random.int(15);
      return {
        node: aNode(`n${i}`, { spec: { annotations: { labels } } }),
        count,
        slots: Array.from({ length: count }, (_unused, slot) => ({
          key: String(slot),
          slot,
          nodeId: '',
          tasks: [],
          wanted: [],
          outgoing: [],
        })),
      };
    });
  }

  function level(places: Place[], service: Service, most: (place: Place) => number): number {
    for (let moves = 0; moves < 1000; moves++) {
      const move = findMove(spreadOf(places, service), (place) => place.count < most(place));
      if (move === undefined) return moves;
      move.to.slots.push(move.from.slots.pop()!);
      move.from.count--;
      move.to.count++;
    }
    throw new Error('moves do not end');
  }

  it('come to an end, with no more of them than needed, and leave nodes level', () => {
    for (let seed = 1; seed <= 300; seed++) {
      const places = randomPlaces(new SeededRandom(seed));
      const total = places.reduce((sum, place) => sum + place.count, 0);
      const floor = Math.floor(total / places.length);
      const ceiling = Math.ceil(total / places.length);
      const surplus = places.reduce((sum, { count }) => sum + Math.max(0, count - ceiling), 0);
      const deficit = places.reduce((sum, { count }) => sum + Math.max(0, floor - count), 0);
      expect(
        level(places, zones([]), () => Infinity),
        `seed ${seed}`,
      ).toBe(Math.max(surplus, deficit));
      const after = places.map((place) => place.count);
      expect(Math.max(...after) - Math.min(...after)).toBeLessThan(2);
    }
  });

  it('come to an end with preferences and nodes that are full', () => {
    for (let seed = 1; seed <= 300; seed++) {
      const random = new SeededRandom(seed);
      const places = randomPlaces(random);
      const room = new Map(places.map((place) => [place, random.int(20)]));
      level(places, zones(['node.labels.zone', 'node.labels.rack']), (place) => room.get(place) ?? 0);
      const byZone = new Map<string, number>();
      level(places, zones(['node.labels.zone']), () => Infinity);
      for (const { node, count } of places) {
        const zone = node.spec!.annotations!.labels['zone']!;
        byZone.set(zone, (byZone.get(zone) ?? 0) + count);
      }
      expect(Math.max(...byZone.values()) - Math.min(...byZone.values())).toBeLessThan(2);
    }
  });
});
