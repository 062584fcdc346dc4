import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  RestartPolicy_RestartCondition,
  TaskState,
  UpdateConfig_FailureAction,
  UpdateConfig_UpdateOrder,
  UpdateStatus_UpdateState,
  type Partially,
  type Task,
  type UpdateConfig,
} from '../../proto/index.ts';
import { aNode, aService } from '../store/testing.ts';
import { orchestratorDuties } from './index.ts';
import { obedient, TestCluster, withImage } from './testing.ts';

/** Progress deadline of the services here, ms. */
const DEADLINE_MS = 20_000;
const { STOP_FIRST, START_FIRST } = UpdateConfig_UpdateOrder;
const { PAUSE, CONTINUE, ROLLBACK } = UpdateConfig_FailureAction;
const STATE = UpdateStatus_UpdateState;
const RESTART = { condition: RestartPolicy_RestartCondition.ANY, delay: { seconds: 1 } };

let cluster: TestCluster;

beforeEach(async () => {
  cluster = new TestCluster(orchestratorDuties);
  await cluster.store.seed({ node: [aNode('n1'), aNode('n2')] });
  cluster.lead();
});

afterEach(() => cluster.stop());

const imageOf = (task: Task): string => task.spec?.container?.image ?? '';
const images = (): string[] => cluster.running('web').map(imageOf);
const state = (): UpdateStatus_UpdateState | undefined => cluster.service('web').update_status?.state;
const message = (): string => cluster.service('web').update_status?.message ?? '';

async function start(update: Partially<UpdateConfig>, mode: object = { replicated: { replicas: 3 } }): Promise<void> {
  const service = aService('web', {
    spec: {
      annotations: { name: 'web', labels: { 'shoal.update.deadline': `${DEADLINE_MS}ms` } },
      ...mode,
      task: { container: { image: 'one' }, restart: RESTART },
      update: { parallelism: 1, monitor: { seconds: 1 }, ...update },
      rollback: { parallelism: 0, monitor: { seconds: 1 } },
    },
  });
  await cluster.store.update((tx) => tx.create('service', service));
  await cluster.run(300);
}

/** New tasks get as far as PREPARING, and stay there with a word about it: an image that comes from nowhere. */
function hangIn(image: string, only: (task: Task) => boolean = () => true): void {
  cluster.behaviour = (task) => {
    const isNew = imageOf(task) === image && task.desired_state <= TaskState.COMPLETE && only(task);
    if (!isNew || task.status!.state > TaskState.PREPARING) return obedient(task);
    return { state: TaskState.PREPARING, err: 'registry does not answer' };
  };
}

async function until(done: () => boolean, limitMs: number): Promise<void> {
  for (let ms = 0; ms < limitMs && !done(); ms += 500) await cluster.run(500);
  expect(done()).toBe(true);
}

describe.each([
  ['stop-first', STOP_FIRST],
  ['start-first', START_FIRST],
])('an update (%s) whose new task never comes up', (_name, order) => {
  it('is paused at the deadline; the old task goes on, and the message names the new one', async () => {
    await start({ order, failure_action: PAUSE });
    hangIn('two');
    await cluster.updateService('web', withImage('two'));
    await cluster.run(DEADLINE_MS - 1_000);
    expect(state()).toBe(STATE.UPDATING);
    await until(() => state() === STATE.PAUSED, 3_000);
    expect(message()).toMatch(
      /^update paused due to no progress for 20s: task \w{25} \(web\.1\) is preparing: registry does not answer$/,
    );
    cluster.behaviour = obedient;
    await cluster.run(10_000);
    expect(images()).toEqual(['one', 'one', 'one']);
    expect(cluster.wanted('web')).toHaveLength(3);
  });

  it('is rolled back at the deadline', async () => {
    await start({ order, failure_action: ROLLBACK });
    hangIn('two');
    await cluster.updateService('web', withImage('two'));
    await until(() => state() === STATE.ROLLBACK_COMPLETED, DEADLINE_MS + 8_000);
    expect(message()).toMatch(/^update rolled back due to no progress for 20s: task/);
    expect(images()).toEqual(['one', 'one', 'one']);
  });

  it('goes on without that slot when failures are no matter, and ends', async () => {
    await start({ order, failure_action: CONTINUE });
    hangIn('two', (task) => task.slot === 1);
    await cluster.updateService('web', withImage('two'));
    await cluster.run(DEADLINE_MS + 1_000);
    await until(() => images().filter((image) => image === 'two').length === 2, 5_000);
    await until(() => state() === STATE.COMPLETED, 10_000);
    expect(cluster.wanted('web').map(imageOf)).toEqual(['two', 'two', 'two']);
    await cluster.run(DEADLINE_MS);
    expect(state()).toBe(STATE.COMPLETED);
    cluster.behaviour = obedient;
    await until(() => images().join() === 'two,two,two', 5_000);
  });

  it('is judged by a new leader that waits no longer than the deadline', async () => {
    await start({ order, failure_action: PAUSE });
    hangIn('two');
    await cluster.updateService('web', withImage('two'));
    await cluster.run(DEADLINE_MS / 2);
    await cluster.changeLeader();
    await until(() => state() === STATE.PAUSED, DEADLINE_MS + 1_000);
  });
});

describe('the progress deadline', () => {
  it('is met by a task that no node takes', async () => {
    await start({ order: START_FIRST });
    for (const id of ['n1', 'n2']) await cluster.setNode(id, { availability: 1 });
    await cluster.updateService('web', withImage('two'));
    await until(() => state() === STATE.PAUSED, DEADLINE_MS + 2_000);
    expect(message()).toContain('(web.1) is pending');
    expect(images()).toEqual(['one', 'one', 'one']);
  });

  it('begins anew with each slot that makes progress', async () => {
    await start({});
    cluster.behaviour = (task) => {
      const age = cluster.clock.now() - Number(task.meta?.created_at?.seconds ?? 0) * 1000;
      return imageOf(task) === 'two' && age < DEADLINE_MS - 5_000 ? undefined : obedient(task);
    };
    await cluster.updateService('web', withImage('two'));
    await until(() => state() === STATE.COMPLETED, 4 * DEADLINE_MS);
  });

  it('does not run during the delay between two slots', async () => {
    await start({ delay: { seconds: 45 } });
    await cluster.updateService('web', withImage('two'));
    await until(() => state() === STATE.COMPLETED, 5 * 45_000);
  });

  it('holds for slots that a scale-up brings with the update', async () => {
    await start({});
    hangIn('two', (task) => task.slot === 4);
    await cluster.updateService('web', (spec) => ({ ...withImage('two')(spec), replicated: { replicas: 4 } }));
    await until(() => state() === STATE.PAUSED, 2 * DEADLINE_MS);
    expect(message()).toContain('(web.4) is preparing');
  });

  it('holds for the slots of a global service and names their node', async () => {
    await start({}, { global: {} });
    hangIn('two');
    await cluster.updateService('web', withImage('two'));
    await until(() => state() === STATE.PAUSED, DEADLINE_MS + 2_000);
    expect(message()).toContain('(web.n1) is preparing');
  });

  it('pauses a rollback that gets nowhere', async () => {
    await start({ failure_action: ROLLBACK });
    hangIn('two', () => false);
    await cluster.updateService('web', withImage('two'));
    await until(() => images().includes('two'), 5_000);
    cluster.behaviour = (task) => {
      if (imageOf(task) === 'two' && task.status?.state === TaskState.RUNNING) return { state: TaskState.FAILED };
      return imageOf(task) === 'one' && task.status!.state < TaskState.RUNNING ? undefined : obedient(task);
    };
    await until(() => state() === STATE.ROLLBACK_PAUSED, DEADLINE_MS + 10_000);
    expect(message()).toMatch(/^rollback paused due to no progress for 20s/);
  });

  it('is no limit when it is 0', async () => {
    await start({});
    hangIn('two');
    await cluster.updateService('web', (spec) => ({
      ...withImage('two')(spec),
      annotations: { ...spec.annotations!, labels: { 'shoal.update.deadline': '0s' } },
    }));
    await cluster.run(5 * DEADLINE_MS);
    expect(state()).toBe(STATE.UPDATING);
  });
});
