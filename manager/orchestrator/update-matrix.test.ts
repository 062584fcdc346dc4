import fc from 'fast-check';
import { afterEach, describe, expect, it } from 'vitest';
import {
  NodeStatus_State,
  RestartPolicy_RestartCondition,
  TaskState,
  UpdateConfig_FailureAction,
  UpdateConfig_UpdateOrder,
  UpdateStatus_UpdateState,
  type Task,
} from '../../proto/index.ts';
import { aNode, aService } from '../store/testing.ts';
import { orchestratorDuties } from './index.ts';
import { obedient, TestCluster, withImage, type Behaviour } from './testing.ts';

const STATE = UpdateStatus_UpdateState;
const { STOP_FIRST, START_FIRST } = UpdateConfig_UpdateOrder;
const { PAUSE, CONTINUE, ROLLBACK } = UpdateConfig_FailureAction;
const DEADLINE_MS = 15_000;
const RESTART = { condition: RestartPolicy_RestartCondition.ANY, delay: { seconds: 1 } };

let cluster: TestCluster;
afterEach(() => cluster.stop());

const imageOf = (task: Task): string => task.spec?.container?.image ?? '';
const state = () => cluster.service('web').update_status?.state;
const running = (): string => cluster.running('web').map(imageOf).join(' ');

interface Setup {
  replicas: number;
  order: UpdateConfig_UpdateOrder;
  action?: UpdateConfig_FailureAction;
  parallelism?: number;
}

async function start({ replicas, order, action = PAUSE, parallelism = 1 }: Setup): Promise<void> {
  cluster = new TestCluster(orchestratorDuties);
  await cluster.store.seed({ node: ['n1', 'n2', 'n3'].map((id) => aNode(id)) });
  cluster.lead();
  const service = aService('web', {
    spec: {
      annotations: { name: 'web', labels: { 'shoal.update.deadline': `${DEADLINE_MS}ms` } },
      replicated: { replicas },
      task: { container: { image: 'one' }, restart: RESTART },
      update: { parallelism, monitor: { seconds: 2 }, order, failure_action: action },
      rollback: { parallelism: 0, monitor: { seconds: 1 }, order },
    },
  });
  await cluster.store.update((tx) => tx.create('service', service));
  await cluster.run(300);
}

const isNew = (task: Task): boolean => imageOf(task) === 'two' && task.desired_state <= TaskState.RUNNING;

/** What happens to every new task. */
const CAUSES: Readonly<Record<string, Behaviour>> = {
  'ends as soon as it runs': (task) =>
    isNew(task) && task.status!.state === TaskState.RUNNING ? { state: TaskState.FAILED } : obedient(task),
  'ends with 0, though it shall run': (task) =>
    isNew(task) && task.status!.state === TaskState.RUNNING ? { state: TaskState.COMPLETE } : obedient(task),
  'is never healthy': (task) => {
    const seen = task.status!.state;
    if (!isNew(task) || seen < TaskState.READY) return obedient(task);
    if (seen === TaskState.READY && task.desired_state === TaskState.RUNNING) return { state: TaskState.STARTING };
    return seen === TaskState.STARTING ? { state: TaskState.FAILED, err: 'unhealthy container' } : undefined;
  },
  'is rejected by its node': (task) =>
    isNew(task) && task.status!.state < TaskState.READY ? { state: TaskState.REJECTED } : obedient(task),
  'never gets beyond PREPARING': (task) =>
    isNew(task) && task.status!.state <= TaskState.PREPARING ? { state: TaskState.PREPARING } : obedient(task),
};

const ROWS = Object.keys(CAUSES).flatMap((cause) =>
  [STOP_FIRST, START_FIRST].flatMap((order) =>
    [PAUSE, CONTINUE, ROLLBACK].map((action) => [cause, order, action] as const),
  ),
);
const ENDS = { [PAUSE]: STATE.PAUSED, [CONTINUE]: STATE.COMPLETED, [ROLLBACK]: STATE.ROLLBACK_COMPLETED };

describe('an update whose new task', () => {
  it.each(ROWS)('%s, order %i, action %i', async (cause, order, action) => {
    await start({ replicas: 3, order, action });
    cluster.behaviour = CAUSES[cause]!;
    await cluster.updateService('web', withImage('two'));
    let least = Infinity;
    for (let ms = 0; ms < 90_000 && state() !== ENDS[action]; ms += 250) {
      await cluster.run(250);
      least = Math.min(least, cluster.running('web').length);
    }
    expect(state()).toBe(ENDS[action]);
    // Nothing but a task that did run (or had to stop for it) may be missing; `continue` goes on whatever the loss.
    if (action !== CONTINUE) expect(least).toBeGreaterThanOrEqual(2);
    if (action !== CONTINUE && order === START_FIRST && !cause.startsWith('ends')) expect(least).toBe(3);
    cluster.behaviour = obedient;
    await cluster.run(5_000);
    expect(cluster.wanted('web')).toHaveLength(3);
    if (action === ROLLBACK) expect(running()).toBe('one one one');
    if (action === CONTINUE) expect(running()).toBe('two two two');
    if (action === PAUSE) expect(running().match(/one/g)?.length).toBeGreaterThanOrEqual(2);
    expect(state()).toBe(ENDS[action]);
  });
});

/** Tasks that may have a container at work: told to run, or not yet stopped. */
const atWork = (): Task[] =>
  cluster.tasks('web').filter((task) => {
    const seen = task.status!.state;
    return seen === TaskState.RUNNING || (seen === TaskState.STARTING && task.desired_state === TaskState.RUNNING);
  });

describe('at any moment of an update with healthy tasks', () => {
  const plan = fc.record({
    replicas: fc.integer({ min: 1, max: 6 }),
    parallelism: fc.integer({ min: 1, max: 3 }),
    order: fc.constantFrom(STOP_FIRST, START_FIRST),
    slowMs: fc.integer({ min: 0, max: 1_500 }),
    leaderEveryMs: fc.constantFrom(0, 300, 900),
    lostNode: fc.boolean(),
  });

  it('no more than the parallelism is missing (stop-first) or too many (start-first)', async () => {
    await fc.assert(
      fc.asyncProperty(plan, async ({ replicas, parallelism, order, slowMs, leaderEveryMs, lostNode }) => {
        await start({ replicas, order, parallelism });
        try {
          const since = new Map<string, number>();
          cluster.behaviour = (task) => {
            if (task.status!.state >= TaskState.RUNNING || task.desired_state > TaskState.RUNNING)
              return obedient(task);
            const first = since.get(task.id) ?? cluster.clock.now();
            since.set(task.id, first);
            return cluster.clock.now() - first < slowMs ? undefined : obedient(task);
          };
          await cluster.updateService('web', withImage('two'));
          for (let ms = 0; ms < 60_000 && state() !== STATE.COMPLETED; ms += 50) {
            await cluster.run(50);
            if (leaderEveryMs > 0 && ms % leaderEveryMs === 0) await cluster.changeLeader();
            const serving = cluster.tasks('web').filter((task) => task.status!.state === TaskState.RUNNING).length;
            if (order === START_FIRST) {
              expect(atWork().length).toBeLessThanOrEqual(replicas + parallelism);
              expect(serving).toBeGreaterThanOrEqual(replicas);
            } else {
              expect(atWork().length).toBeLessThanOrEqual(replicas);
              expect(serving).toBeGreaterThanOrEqual(replicas - parallelism);
            }
          }
          // The end is reached also when a node is lost in the very last moment.
          if (lostNode) await cluster.setNode('n1', { state: NodeStatus_State.DOWN });
          await cluster.run(3_000 + slowMs);
          expect(state()).toBe(STATE.COMPLETED);
          expect(running()).toBe(Array.from({ length: replicas }, () => 'two').join(' '));
        } finally {
          await cluster.stop();
        }
      }),
      { numRuns: 25, seed: 4 },
    );
  });
});
