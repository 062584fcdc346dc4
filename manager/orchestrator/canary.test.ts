import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { silentLogger } from '../../base/index.ts';
import {
  NodeStatus_State,
  RestartPolicy_RestartCondition,
  ServiceSpec,
  TaskState,
  UpdateConfig_FailureAction,
  UpdateServiceRequest,
  UpdateServiceRequest_Rollback,
  UpdateStatus_UpdateState,
  type Partially,
  type Task,
  type UpdateConfig,
} from '../../proto/index.ts';
import { createControl } from '../control/index.ts';
import { aNode } from '../store/testing.ts';
import { orchestratorDuties } from './index.ts';
import { obedient, TestCluster, withImage } from './testing.ts';

const STATE = UpdateStatus_UpdateState;
const { CONTINUE, PAUSE, ROLLBACK } = UpdateConfig_FailureAction;

const RESTART = { condition: RestartPolicy_RestartCondition.ANY, delay: { seconds: 1 } };

let cluster: TestCluster;
let id = '';

beforeEach(async () => {
  cluster = new TestCluster(orchestratorDuties);
  await cluster.store.seed({ node: ['n1', 'n2', 'n3', 'n4'].map((node) => aNode(node)) });
  cluster.lead();
});

afterEach(() => cluster.stop());

const control = () =>
  createControl({ store: cluster.store, clock: cluster.clock, random: cluster.random, log: silentLogger });
const imageOf = (task: Task): string => task.spec?.container?.image ?? '';
const running = (): string => cluster.running(id).map(imageOf).sort().join(' ');
const service = () => cluster.service(id);
const state = () => service().update_status?.state;

interface Options {
  labels?: Record<string, string>;
  update?: Partially<UpdateConfig>;
  mode?: Partially<ServiceSpec>;
}

async function start({ labels = {}, update = {}, mode = { replicated: { replicas: 4 } } }: Options): Promise<void> {
  const spec = ServiceSpec.create({
    annotations: { name: 'web', labels: { 'shoal.update.canary': '1', 'shoal.update.deadline': '20s', ...labels } },
    ...mode,
    task: { container: { image: 'one' }, restart: RESTART },
    update: { parallelism: 2, monitor: { seconds: 1 }, ...update },
    rollback: { parallelism: 0, monitor: { seconds: 1 } },
  });
  const created = await control().CreateService({ spec });
  id = created.service!.id;
  await cluster.run(500);
}

async function change(edit: (spec: ServiceSpec) => ServiceSpec, more: Partially<UpdateServiceRequest> = {}) {
  const { meta, spec } = service();
  const request = { service_id: id, service_version: meta!.version, spec: edit(ServiceSpec.clone(spec!)), ...more };
  await control().UpdateService(UpdateServiceRequest.create(request));
}

const rollback = () => change((spec) => spec, { rollback: UpdateServiceRequest_Rollback.PREVIOUS });
const promote = () => control().PromoteService({ service_id: 'web' });

async function until(done: () => boolean, limitMs = 20_000): Promise<void> {
  for (let ms = 0; ms < limitMs && !done(); ms += 50) await cluster.run(50);
  expect(done()).toBe(true);
}

const waits = (): boolean => (service().canary?.waiting_since ?? null) !== null;

/** Brings the update to where it waits, with `image` on one task. */
async function waiting(image = 'two'): Promise<void> {
  await change(withImage(image));
  await until(waits);
}

const failing = (image: string) => (task: Task) =>
  imageOf(task) === image && task.status?.state === TaskState.RUNNING && task.desired_state <= TaskState.RUNNING
    ? { state: TaskState.FAILED, err: 'exit 1' }
    : obedient(task);

describe('a canary', () => {
  it('changes its tasks, watches them, then waits until it is promoted', async () => {
    await start({});
    await change(withImage('two'));
    await cluster.run(700);
    expect([running(), waits()]).toEqual(['one one one two', false]);
    await until(waits, 2_000);
    expect(service().canary).toMatchObject({ tasks: 1, promoted_at: null });
    expect(service().update_status).toMatchObject({
      state: STATE.UPDATING,
      message: 'waiting for promotion: 1 of 4 tasks run the new version',
    });
    await cluster.run(60_000);
    expect(running()).toBe('one one one two');
    await promote();
    await until(() => state() === STATE.COMPLETED);
    expect(running()).toBe('two two two two');
    expect(service().canary).toBeNull();
  });

  it('keeps to the parallelism of the update', async () => {
    await start({ labels: { 'shoal.update.canary': '3' }, update: { parallelism: 1 } });
    await change(withImage('two'));
    for (let i = 0; i < 60 && !waits(); i++) {
      await cluster.run(50);
      expect(cluster.running(id).length).toBeGreaterThanOrEqual(3);
    }
    await until(waits);
    expect(running()).toBe('one two two two');
  });

  it('promotes itself after the time that is set', async () => {
    await start({ labels: { 'shoal.update.canary-wait': '30s' } });
    await waiting();
    await cluster.run(29_000);
    expect(running()).toBe('one one one two');
    await until(() => state() === STATE.COMPLETED);
    expect(running()).toBe('two two two two');
  });

  it.each(['4', '9'])('of %s tasks waits for nothing when there are four', async (count) => {
    await start({ labels: { 'shoal.update.canary': count } });
    await change(withImage('two'));
    await until(() => state() === STATE.COMPLETED);
    expect(running()).toBe('two two two two');
  });

  it('works for global services', async () => {
    await start({ mode: { global: {} } });
    await waiting();
    expect(running()).toBe('one one one two');
    await cluster.store.seed({ node: [aNode('n5')] });
    await cluster.run(500);
    expect(running()).toBe('one one one one two');
    await promote();
    await until(() => state() === STATE.COMPLETED);
    expect(running()).toBe('two two two two two');
  });

  it('goes on under a new leader in every phase', async () => {
    await start({});
    await change(withImage('two'));
    for (let i = 0; i < 12; i++) {
      await cluster.run(250);
      await cluster.changeLeader();
      expect(
        running()
          .split(' ')
          .filter((image) => image === 'two').length,
      ).toBeLessThanOrEqual(1);
    }
    await until(waits);
    await cluster.changeLeader();
    await cluster.run(5_000);
    expect(running()).toBe('one one one two');
    await promote();
    for (let i = 0; i < 20 && state() !== STATE.COMPLETED; i++) {
      await cluster.changeLeader();
      await cluster.run(600);
    }
    await until(() => state() === STATE.COMPLETED);
    expect(running()).toBe('two two two two');
  });
});

describe('while a canary waits', () => {
  it('tasks of other slots are restarted with the old version, the canary with the new one', async () => {
    await start({ update: { failure_action: CONTINUE } });
    await waiting();
    for (const victim of cluster.running(id)) {
      await cluster.store.update((tx) => {
        const task = tx.get('task', victim.id)!;
        tx.update('task', { ...task, status: { ...task.status!, state: TaskState.FAILED, err: 'killed' } });
      });
      await cluster.run(3_000);
      expect(running()).toBe('one one one two');
    }
  });

  it('a lost node is no failure, and brings back what it had', async () => {
    await start({});
    await waiting();
    for (const nodeId of ['n1', 'n2', 'n3']) await cluster.setNode(nodeId, { state: NodeStatus_State.DOWN });
    await cluster.run(3_000);
    expect([state(), running()]).toEqual([STATE.UPDATING, 'one one one two']);
  });

  it('a scale-up brings tasks of the old version, a scale-down keeps the canary waiting', async () => {
    await start({});
    await waiting();
    const scale = (replicas: number) => change((spec) => ({ ...spec, replicated: { replicas } }));
    await scale(6);
    await cluster.run(1_000);
    expect([waits(), running()]).toEqual([true, 'one one one one one two']);
    await scale(5);
    await cluster.run(1_000);
    expect(waits()).toBe(true);
    await promote();
    await until(() => state() === STATE.COMPLETED);
    expect(running()).toBe('two two two two two');
  });

  it.each([
    [PAUSE, STATE.PAUSED],
    [ROLLBACK, STATE.ROLLBACK_COMPLETED],
  ])('a canary task that fails, long after it came up, is a failure (action %i)', async (action, end) => {
    await start({ update: { failure_action: action } });
    await waiting();
    await cluster.run(30_000);
    cluster.behaviour = failing('two');
    await until(() => state() === end);
    cluster.behaviour = obedient;
    await cluster.run(3_000);
    expect(running()).toBe(action === ROLLBACK ? 'one one one one' : 'one one one two');
    await expect(promote()).rejects.toThrow(action === PAUSE ? /is paused: update paused due to/ : /no canary/);
  });

  it('a rollback takes the canaries back', async () => {
    await start({});
    await waiting();
    await rollback();
    await until(() => state() === STATE.ROLLBACK_COMPLETED);
    expect([running(), service().canary]).toEqual(['one one one one', null]);
  });

  it('a new update begins anew, and rolls back to what was before both', async () => {
    await start({});
    await waiting('two');
    await change(withImage('three'));
    await until(waits);
    expect(running()).toBe('one one one three');
    await rollback();
    await until(() => state() === STATE.ROLLBACK_COMPLETED);
    expect(running()).toBe('one one one one');
  });

  it('the same spec again changes nothing', async () => {
    await start({});
    await waiting();
    const before = service();
    await change((spec) => spec);
    expect(service()).toEqual(before);
  });

  it('its constraints reject no task of the old version, also when a node changes', async () => {
    await start({});
    const before = cluster.running(id).map((task) => task.id);
    await change((spec) => {
      const placement = { constraints: ['node.id==n1'], preferences: [], platforms: [], max_replicas: 0 };
      return withImage('two')({ ...spec, task: { ...spec.task!, placement } });
    });
    await until(waits);
    for (const node of ['n2', 'n3', 'n4']) {
      await cluster.store.update((tx) => tx.update('node', { ...tx.get('node', node)!, description: null }));
    }
    await cluster.run(3_000);
    expect(running()).toBe('one one one two');
    expect(cluster.running(id).filter((task) => before.includes(task.id))).toHaveLength(3);
  });

  it('no deadline passes', async () => {
    await start({});
    await waiting();
    await cluster.run(90_000);
    expect(state()).toBe(STATE.UPDATING);
    await promote();
    await until(() => state() === STATE.COMPLETED);
  });
});

describe('a promotion', () => {
  it('is refused when nothing waits, in words that say what is the matter', async () => {
    await start({});
    await expect(promote()).rejects.toThrow('service web has no canary that waits for a promotion');
    await change(withImage('two'));
    await cluster.run(100);
    await expect(promote()).rejects.toThrow('the canary tasks of service web are not all up yet');
    await expect(control().PromoteService({ service_id: 'nobody' })).rejects.toThrow('service nobody not found');
  });
});
