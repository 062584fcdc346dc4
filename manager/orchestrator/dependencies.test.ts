import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { NodeStatus_State, TaskState, UpdateStatus_UpdateState, type Service } from '../../proto/index.ts';
import { aNode, aService } from '../store/testing.ts';
import { dependencyWait } from './dependencies.ts';
import { orchestratorDuties } from './index.ts';
import { obedient, TestCluster, withImage, type Behaviour } from './testing.ts';

let cluster: TestCluster;

beforeEach(async () => {
  cluster = new TestCluster(orchestratorDuties);
  await cluster.store.seed({ node: [aNode('n1'), aNode('n2')] });
  cluster.lead();
});

afterEach(() => cluster.stop());

interface Given {
  dependsOn?: string;
  stack?: string;
  mode?: object;
  task?: object;
}

function service(
  name: string,
  { dependsOn, stack, mode = { replicated: { replicas: 1 } }, task = {} }: Given,
): Service {
  const labels: Record<string, string> = {};
  if (dependsOn !== undefined) labels['shoal.depends-on'] = dependsOn;
  if (stack !== undefined) labels['com.docker.stack.namespace'] = stack;
  const isJob = 'replicated_job' in mode || 'global_job' in mode;
  return aService(name, {
    spec: { annotations: { name, labels }, task: { container: { image: 'one' }, ...task }, ...mode },
    job_status: isJob ? { job_iteration: { index: 0 } } : null,
  });
}

async function create(name: string, given: Given = {}): Promise<void> {
  await cluster.store.update((tx) => tx.create('service', service(name, given)));
  await cluster.run(300);
}

const wait = (name: string): string | undefined =>
  dependencyWait(cluster.store.view(), cluster.service(name), cluster.clock.now());

/** Tasks of these services stay in STARTING (not healthy yet), all others obey. */
const unhealthy =
  (...names: string[]): Behaviour =>
  (task) => {
    const next = obedient(task);
    if (next?.state !== TaskState.RUNNING || !names.includes(task.service_id)) return next;
    return { state: TaskState.STARTING };
  };

describe('a service that waits for others at its first start', () => {
  it('has its tasks prepared, but not started, until the other is healthy', async () => {
    cluster.behaviour = unhealthy('db');
    await create('db');
    await create('web', { dependsOn: 'db:healthy', mode: { replicated: { replicas: 2 } } });
    await cluster.run(20_000);
    expect(cluster.wanted('web')).toMatchObject([
      { desired_state: TaskState.READY, status: { state: TaskState.READY } },
      { desired_state: TaskState.READY, status: { state: TaskState.READY } },
    ]);
    expect(wait('web')).toBe('waits for service db to be healthy (0 of 1)');
    cluster.behaviour = obedient;
    await cluster.run(300);
    expect(cluster.running('web')).toHaveLength(2);
    expect(wait('web')).toBeUndefined();
    expect(cluster.service('db').first_converged).not.toBeNull();
    expect(cluster.service('web').dependencies_met).not.toBeNull();
  });

  it('says that the other does not exist, and goes on when it comes', async () => {
    await create('web', { dependsOn: 'db' });
    expect(wait('web')).toBe('waits for service db, which does not exist');
    expect(cluster.running('web')).toHaveLength(0);
    await create('db');
    expect(cluster.running('web')).toHaveLength(1);
  });

  it('means the service of its own stack first', async () => {
    await create('db');
    await create('shop_web', { dependsOn: 'db', stack: 'shop' });
    expect(cluster.running('shop_web')).toHaveLength(1);
    cluster.behaviour = unhealthy('shop_db');
    await create('shop_db', { stack: 'shop' });
    await create('shop_api', { dependsOn: 'db', stack: 'shop' });
    expect(wait('shop_api')).toBe('waits for service shop_db to start (0 of 1)');
  });

  it('waits for a job, across leaders, and tells when the job has failed for good', async () => {
    let exit: TaskState = TaskState.FAILED;
    cluster.behaviour = (task) => {
      if (task.service_id !== 'migrate' || task.status?.state !== TaskState.RUNNING) return obedient(task);
      return { state: exit, err: exit === TaskState.FAILED ? 'task: non-zero exit (1)' : '' };
    };
    await create('migrate', {
      mode: { replicated_job: { total_completions: 1, max_concurrent: 1 } },
      task: { restart: { condition: 0 } },
    });
    await create('web', { dependsOn: 'migrate:completed' });
    expect(wait('web')).toBe(
      'waits for service migrate to complete (0 of 1; 1 failed for good: task: non-zero exit (1))',
    );
    await cluster.changeLeader();
    exit = TaskState.COMPLETE;
    await cluster.store.update((tx) => {
      const job = tx.get('service', 'migrate')!;
      tx.update('service', { ...job, job_status: { job_iteration: { index: 1 }, last_execution: null } });
    });
    await cluster.run(1000);
    expect(cluster.running('web')).toHaveLength(1);
  });

  it('takes a plain service whose tasks end with 0 as completed', async () => {
    cluster.behaviour = (task) =>
      task.service_id === 'once' && task.status?.state === TaskState.RUNNING
        ? { state: TaskState.COMPLETE }
        : obedient(task);
    await create('once', { task: { restart: { condition: 1 } } });
    await create('web', { dependsOn: 'once:completed' });
    await cluster.run(300);
    expect(cluster.running('web')).toHaveLength(1);
  });

  it('lets global services and jobs wait, too', async () => {
    cluster.behaviour = unhealthy('db');
    await create('db');
    await create('agent', { dependsOn: 'db', mode: { global: {} } });
    await create('job', { dependsOn: 'db', mode: { replicated_job: { total_completions: 2, max_concurrent: 2 } } });
    await create('jobs', { dependsOn: 'db', mode: { global_job: {} } });
    for (const name of ['agent', 'job', 'jobs']) {
      expect(cluster.wanted(name).map((task) => task.desired_state)).toEqual([TaskState.READY, TaskState.READY]);
    }
    cluster.behaviour = obedient;
    await cluster.run(500);
    for (const name of ['agent', 'job', 'jobs']) expect(cluster.running(name)).toHaveLength(2);
  });

  it('waits for a global service on all of its nodes', async () => {
    cluster.behaviour = (task) => (task.node_id === 'n2' ? unhealthy('agent')(task) : obedient(task));
    await create('agent', { mode: { global: {} } });
    await create('web', { dependsOn: 'agent' });
    expect(wait('web')).toBe('waits for service agent to start (1 of 2)');
    await cluster.setNode('n2', { state: NodeStatus_State.DOWN });
    await cluster.run(300);
    expect(cluster.running('web')).toHaveLength(1);
  });

  it('names a cycle', async () => {
    await create('a', { dependsOn: 'b' });
    await create('b', { dependsOn: 'c:healthy' });
    await create('c', { dependsOn: 'a' });
    expect(wait('a')).toBe(
      'waits for service b, which waits for service c, which waits for this one: a cycle; ' +
        'take one of them out of label shoal.depends-on',
    );
    expect(wait('c')).toContain('waits for service a, which waits for service b');
    await cluster.updateService('c', (spec) => ({ ...spec, annotations: { ...spec.annotations!, labels: {} } }));
    await cluster.run(1000);
    for (const name of ['a', 'b', 'c']) expect(cluster.running(name)).toHaveLength(1);
  });

  it('names only so many of those it waits for', async () => {
    await create('web', { dependsOn: 'a,b,c,d,e' });
    expect(wait('web')).toMatch(/^waits for service a, .* and for service c, which does not exist and for 2 more$/);
  });
});

describe('a service that has started once', () => {
  it('does not look at what it depended on again: restarts, updates, scaling', async () => {
    await create('db');
    await create('web', { dependsOn: 'db:healthy' });
    expect(cluster.running('web')).toHaveLength(1);
    await cluster.store.update((tx) => tx.remove('service', 'db'));
    await cluster.run(500);
    await cluster.updateService('web', (spec) => ({ ...withImage('two')(spec), replicated: { replicas: 3 } }));
    await cluster.run(8000);
    expect(cluster.running('web').map((task) => task.spec?.container?.image)).toEqual(['two', 'two', 'two']);
    await cluster.changeLeader();
    const node = cluster.running('web')[0]!.node_id;
    await cluster.setNode(node, { state: NodeStatus_State.DOWN });
    await cluster.run(500);
    expect(cluster.running('web')).toHaveLength(3);
  });

  it('is not stopped when it is told only later to depend on something', async () => {
    await create('web');
    await cluster.updateService('web', (spec) => ({
      ...spec,
      annotations: { ...spec.annotations!, labels: { 'shoal.depends-on': 'nothing' } },
    }));
    await cluster.updateService('web', (spec) => ({ ...spec, replicated: { replicas: 2 } }));
    await cluster.run(500);
    expect(cluster.running('web')).toHaveLength(2);
  });
});

describe('while a service waits', () => {
  beforeEach(async () => {
    cluster.behaviour = unhealthy('db');
    await create('db');
    await create('web', { dependsOn: 'db' });
  });

  it('its updates, lost nodes and new leaders change nothing about the wait', async () => {
    await cluster.updateService('web', withImage('two'));
    await cluster.run(3000);
    await cluster.changeLeader();
    const node = cluster.wanted('web')[0]!.node_id;
    await cluster.setNode(node, { state: NodeStatus_State.DOWN });
    await cluster.run(3000);
    expect(cluster.wanted('web')).toMatchObject([
      { desired_state: TaskState.READY, status: { state: TaskState.READY }, spec: { container: { image: 'two' } } },
    ]);
    cluster.behaviour = obedient;
    await cluster.run(500);
    expect(cluster.running('web')).toHaveLength(1);
  });

  it('no deadline of an update runs', async () => {
    await cluster.updateService('web', (spec) => ({
      ...withImage('two')(spec),
      annotations: { ...spec.annotations!, labels: { ...spec.annotations!.labels, 'shoal.update.deadline': '5s' } },
    }));
    await cluster.run(20_000);
    expect(cluster.service('web').update_status?.state).toBe(UpdateStatus_UpdateState.UPDATING);
    cluster.behaviour = obedient;
    await cluster.run(8000);
    expect(cluster.service('web').update_status?.state).toBe(UpdateStatus_UpdateState.COMPLETED);
    expect(cluster.running('web')).toMatchObject([{ spec: { container: { image: 'two' } } }]);
  });

  it('it can be removed', async () => {
    await cluster.store.update((tx) => tx.remove('service', 'web'));
    await cluster.run(1000);
    expect(cluster.tasks('web')).toEqual([]);
  });
});

it('a service that nobody waits for is not written to', async () => {
  await create('db');
  const { meta } = cluster.service('db');
  await cluster.run(1000);
  expect(cluster.service('db').meta).toEqual(meta);
  expect(cluster.service('db').first_converged).toBeNull();
});
