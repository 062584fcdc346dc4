import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { durationFromNs, TaskState, UpdateConfig, UpdateStatus_UpdateState, type Task } from '../../proto/index.ts';
import type { UsageSource } from '../dispatcher/index.ts';
import { aNode, aService } from '../store/testing.ts';
import { orchestratorDuties } from './index.ts';
import { obedient, TestCluster, withImage } from './testing.ts';

const LABELS = {
  'shoal.autoscale.min': '2',
  'shoal.autoscale.max': '8',
  'shoal.autoscale.cpu': '50',
  'shoal.autoscale.up-after': '10s',
  'shoal.autoscale.down-after': '30s',
};

let cluster: TestCluster;
/** What each running task uses of its CPU limit, per cent; undefined: nobody knows. */
let use: ((task: { id: string }) => number | undefined) | undefined;

const usage: UsageSource = {
  of: (task) => {
    const percent = use?.(task);
    // The tasks of these tests may use half a CPU.
    return percent === undefined
      ? undefined
      : { cpuPercentOfOne: percent / 2, memoryBytes: 1 << 20, atMs: cluster.clock.monotonic() };
  },
};

beforeEach(async () => {
  use = undefined;
  cluster = new TestCluster((deps) => orchestratorDuties({ ...deps, usage }));
  await cluster.store.seed({ node: [aNode('n1'), aNode('n2'), aNode('n3')] });
  cluster.lead();
});

afterEach(() => cluster.stop());

async function start(replicas: number, labels: Record<string, string> = LABELS): Promise<void> {
  const task = { container: { image: 'one' }, resources: { limits: { nano_cpus: 5e8, memory_bytes: 4 << 20 } } };
  const spec = { annotations: { name: 'web', labels }, replicated: { replicas }, task };
  await cluster.store.update((tx) => tx.create('service', aService('web', { spec })));
  await cluster.run(300);
}

const replicas = (): number => cluster.service('web').spec?.replicated?.replicas ?? -1;
const ids = (tasks: readonly Task[]): string[] => tasks.map((task) => task.id).sort();

describe('the autoscaler', () => {
  it('adds tasks when the use asks for them, says why everywhere, and replaces none', async () => {
    await start(2);
    const before = cluster.service('web');
    const old = ids(cluster.running('web'));
    use = () => 93;
    await cluster.run(9000);
    expect(replicas()).toBe(2);
    await cluster.run(8000);
    expect(replicas()).toBe(4);
    const service = cluster.service('web');
    const message = 'scaled from 2 to 4 replicas: CPU 93 % (target 50 %) for 10s';
    expect(service.autoscale).toMatchObject({
      cpu_percent: 93,
      memory_percent: 25,
      from_replicas: 2,
      to_replicas: 4,
      message,
    });
    expect(service.spec_version).toEqual(before.spec_version);
    expect(service.update_status).toBeNull();
    const running = cluster.running('web');
    expect(ids(running)).toEqual(expect.arrayContaining(old));
    const fresh = running.filter((task) => !old.includes(task.id));
    expect(fresh.map((task) => task.created_for)).toEqual([1, 2].map(() => ({ code: 'scale-up', text: message })));
    await cluster.run(30_000);
    expect(replicas()).toBe(8);
    expect(cluster.service('web').autoscale?.message).toMatch(/for 10s, the most allowed$/);
  });

  it('takes tasks away when all of a longer window could do without, and says why', async () => {
    await start(6);
    // Tasks that are told to stop take their time.
    cluster.behaviour = (task) => (task.desired_state > TaskState.RUNNING ? undefined : obedient(task));
    use = () => 10;
    await cluster.run(29_000);
    expect(replicas()).toBe(6);
    await cluster.run(8000);
    expect(replicas()).toBe(2);
    const message = 'scaled from 6 to 2 replicas: CPU 10 % (target 50 %) for 30s, the least allowed';
    const gone = cluster.tasks('web').filter((task) => task.desired_state > TaskState.RUNNING);
    expect(new Set(gone.map((task) => task.stopped_for?.text))).toEqual(new Set([message]));
  });

  it('changes nothing while most tasks do not tell what they use, as after a change of leader', async () => {
    await start(6);
    await cluster.run(60_000);
    expect(replicas()).toBe(6);
    const [first, second] = cluster.running('web');
    use = (task) => (task.id === first?.id || task.id === second?.id ? 1 : undefined);
    await cluster.run(60_000);
    expect(replicas()).toBe(6);
    use = () => 10;
    await cluster.run(28_000);
    await cluster.changeLeader();
    await cluster.run(28_000);
    expect(replicas()).toBe(6);
    await cluster.run(8000);
    expect(replicas()).toBe(2);
  });

  it('corrects bounds at once, also those of a user, and lets a number within them stand', async () => {
    await start(1);
    await cluster.run(2500);
    expect(replicas()).toBe(2);
    expect(cluster.service('web').autoscale?.message).toBe('scaled from 1 to 2 replicas: shoal.autoscale.min is 2');
    const scale = (count: number) =>
      cluster.updateService('web', (spec) => ({ ...spec, replicated: { replicas: count } }));
    await scale(20);
    await cluster.run(2500);
    expect(replicas()).toBe(8);
    expect(cluster.service('web').autoscale?.message).toBe('scaled from 20 to 8 replicas: shoal.autoscale.max is 8');
    use = () => 10;
    await cluster.run(28_000);
    await scale(5);
    await cluster.run(25_000);
    expect(replicas()).toBe(5);
  });

  it('leaves services alone while canaries wait', async () => {
    await start(4);
    const labels = { ...LABELS, 'shoal.update.canary': '1' };
    await cluster.updateService('web', (spec) => ({
      ...withImage('two')(spec),
      annotations: { ...spec.annotations!, labels },
    }));
    use = () => 93;
    await cluster.run(60_000);
    expect(cluster.service('web').canary?.waiting_since).not.toBeNull();
    expect(cluster.service('web').canary?.promoted_at).toBeNull();
    expect(replicas()).toBe(4);
  });

  it('leaves services alone during an update and a pause of it', async () => {
    await start(4);
    const update = UpdateConfig.create({ parallelism: 1, delay: durationFromNs(20e9) });
    await cluster.updateService('web', (spec) => ({ ...withImage('two')(spec), update }));
    use = () => 93;
    await cluster.run(15_000);
    expect(cluster.service('web').update_status?.state).toBe(UpdateStatus_UpdateState.UPDATING);
    expect(replicas()).toBe(4);
    const status = (state: UpdateStatus_UpdateState) => ({ state, message: '', started_at: null, completed_at: null });
    const busy = [
      { update_status: status(UpdateStatus_UpdateState.PAUSED) },
      { update_status: status(UpdateStatus_UpdateState.ROLLBACK_PAUSED) },
    ];
    for (const fields of busy) {
      await cluster.store.update((tx) => tx.update('service', { ...tx.get('service', 'web')!, ...fields }));
      await cluster.run(14_000);
      expect([fields, replicas()]).toEqual([fields, 4]);
    }
    await cluster.store.update((tx) => tx.update('service', { ...tx.get('service', 'web')!, update_status: null }));
    // The update goes on to its end; then a window begins.
    await cluster.run(100_000);
    expect(replicas()).toBe(8);
  });

  it('keeps its number through an update and a rollback', async () => {
    await start(2);
    await cluster.updateService('web', withImage('two'));
    await cluster.run(60_000);
    use = () => 93;
    await cluster.run(16_000);
    const service = cluster.service('web');
    expect(service.spec?.replicated?.replicas).toBe(4);
    expect(service.previous_spec).toMatchObject({ replicated: { replicas: 4 }, task: { container: { image: 'one' } } });
  });

  it('does nothing for other services, and costs no entries while nothing changes', async () => {
    await start(4, {});
    use = () => 93;
    await cluster.run(1000);
    const entries = cluster.store.entries.length;
    await cluster.run(60_000);
    expect(replicas()).toBe(4);
    // The workers of this test write nothing once all run.
    expect(cluster.store.entries.length - entries).toBeLessThan(2);
  });

  it('scales by memory, and by whichever of both asks for more', async () => {
    await start(2, { ...LABELS, 'shoal.autoscale.memory': '10' });
    use = () => 30;
    await cluster.run(20_000);
    expect(replicas()).toBe(4);
    expect(cluster.service('web').autoscale?.message).toContain('memory 25 % (target 10 %)');
  });
});
