import { describe, expect, it } from 'vitest';
import {
  NodeSpec_Availability,
  NodeStatus_State,
  PortConfig_Protocol,
  PortConfig_PublishMode,
  RestartPolicy_RestartCondition,
  Service,
  TaskState,
  timestampFromMs,
  UpdateStatus_UpdateState,
  type Partially,
  type Task,
} from '../../proto/index.ts';
import { aNode, aService, aTask, createMemoryStore, type MemoryStore } from '../store/testing.ts';
import type { ReadView } from '../store/types.ts';
import { why, withErrors } from './index.ts';

const NOW = 1_700_000_000_000;
const at = (agoMs: number): { seconds: number; nanos: number } => timestampFromMs(NOW - agoMs);

/** A task of slot 1 of service `web`, created and last changed `agoMs` ago. */
function task(id: string, agoMs: number, fields: Partially<Task> = {}): Task {
  const meta = { version: { index: 1 }, created_at: at(agoMs), updated_at: at(agoMs) };
  const made = aTask(id, { service_id: 'web', service_annotations: { name: 'web' }, ...fields });
  return { ...made, meta, status: { ...made.status!, timestamp: at(agoMs) } };
}

const failed = (id: string, agoMs: number, err: string, fields: Partially<Task> = {}): Task =>
  task(id, agoMs, {
    node_id: 'w1',
    desired_state: TaskState.SHUTDOWN,
    status: { state: TaskState.FAILED, err },
    stopped_for: { code: 'task-ended', text: `task ${id} ended: ${err}` },
    ...fields,
  });

type Seed = Parameters<MemoryStore['seed']>[0];

async function viewOf(objects: Seed): Promise<ReadView> {
  const store = createMemoryStore();
  await store.seed({ node: [aNode('w1'), aNode('w2')], service: [aService('web')], ...objects });
  // The store writes its own times: what a test says of them is laid over.
  const view = store.view();
  const tasks = new Map((objects.task ?? []).map((one) => [one.id, one]));
  const laid = (list: readonly Task[]): Task[] => list.map((one) => tasks.get(one.id) ?? one);
  return {
    ...view,
    get: (kind, id) => (kind === 'task' ? (tasks.get(id) as never) : view.get(kind, id)),
    list: (kind) => (kind === 'task' ? (laid(view.list('task')) as never) : view.list(kind)),
    byName: (kind, name) => view.byName(kind, name),
    byIdPrefix: (kind, prefix) => view.byIdPrefix(kind, prefix),
    tasksByService: (id) => laid(view.tasksByService(id)),
    tasksByNode: (id) => laid(view.tasksByNode(id)),
    tasksBySlot: (id, slot) => laid(view.tasksBySlot(id, slot)),
    servicesByNetwork: (id) => view.servicesByNetwork(id),
    servicesBySecret: (id) => view.servicesBySecret(id),
    servicesByConfig: (id) => view.servicesByConfig(id),
  };
}

const ask = async (objects: Seed, reference: string, kind = ''): Promise<ReturnType<typeof why>> =>
  why(await viewOf(objects), NOW, kind, reference);

describe('references', () => {
  const tasks = [
    task('t1', 1_000, { node_id: 'w1', status: { state: TaskState.RUNNING } }),
    task('t2', 1_000, { slot: 2, node_id: 'w1', status: { state: TaskState.RUNNING } }),
  ];

  it.each([
    ['t1', 'task', 't1'],
    ['web.2', 'task', 't2'],
    ['web', 'service', 'web'],
    ['w2', 'node', 'w2'],
  ])('%s is a %s', async (reference, kind, id) => {
    const answer = await ask({ task: tasks }, reference);
    expect([answer.kind, answer.id]).toEqual([kind, id]);
  });

  it('stand for the present task of a slot, not for its history', async () => {
    const old = failed('t0', 5_000, 'task: non-zero exit (1)');
    expect((await ask({ task: [old, ...tasks] }, 'web.1')).id).toBe('t1');
  });

  it('that stand for several things are refused with all of them', async () => {
    const service = [aService('abc', { spec: { annotations: { name: 'w1' } } })];
    await expect(ask({ service }, 'w1', 'node')).resolves.toMatchObject({ kind: 'node' });
    await expect(ask({ service, node: [aNode('n1', { description: { hostname: 'w1' } })] }, 'w1')).rejects.toThrow(
      'w1 is ambiguous, it stands for 2 things: service w1 (abc), node w1 (n1); give a full id',
    );
    await expect(ask({ task: tasks }, 't')).rejects.toThrow('t is ambiguous');
  });

  it('that stand for nothing are refused', async () => {
    await expect(ask({}, 'nothing')).rejects.toThrow('no task, service or node has the id or name nothing');
    await expect(ask({}, 'web', 'node')).rejects.toThrow('no node has the id or name web');
    await expect(ask({}, '')).rejects.toThrow('must be provided');
    await expect(ask({}, 'web', 'volume')).rejects.toThrow('"volume" is none of task, service, node');
  });
});

describe('a task', () => {
  it.each([TaskState.ASSIGNED, TaskState.PREPARING, TaskState.READY])(
    'in state %i whose service waits for another tells that, not how far its node is',
    async (state) => {
      const spec = { annotations: { name: 'late', labels: { 'shoal.depends-on': 'db' } }, replicated: { replicas: 1 } };
      const waiting = task('t1', 1_000, {
        service_id: 'late',
        node_id: 'w1',
        desired_state: TaskState.READY,
        status: { state },
      });
      const answer = await ask({ service: [aService('late', { spec })], task: [waiting] }, 't1');
      expect(answer.headline).toBe('waits for service db, which does not exist');
    },
  );

  it('that runs tells since when, where, and why it was created', async () => {
    const moved = task('t2', 60_000, {
      node_id: 'w2',
      status: { state: TaskState.RUNNING },
      created_for: { code: 'node-down', text: 'node w1 is down: it was silent for too long' },
    });
    const old = task('t1', 90_000, {
      node_id: 'w1',
      desired_state: TaskState.SHUTDOWN,
      status: { state: TaskState.RUNNING },
    });
    const down = aNode('w1', { status: { state: NodeStatus_State.DOWN } });
    const answer = await ask({ node: [down, aNode('w2')], task: [old, moved] }, 'web.1');
    expect(answer.text).toBe(
      'Task web.1 (t2): running\nruns on node w2 (for 1 minute)\n\nWhy:\n' +
        '  - created because: node w1 is down: it was silent for too long (1 minute ago)\n\n' +
        'Before:\n  - web.1 (t1) on w1: running 1 minute ago: node w1 is down: nobody can tell whether this task still runs there\n',
    );
    expect((await ask({ node: [down, aNode('w2')], task: [old, moved] }, 't1')).headline).toBe(
      'node w1 is down: nobody can tell whether this task still runs there',
    );
  });

  it('without a node tells the filter, the nearest node and what helps', async () => {
    const reservations = { memory_bytes: 100 * 2 ** 30 };
    const waiting = task('t1', 5_000, {
      spec: { container: { image: 'x' }, resources: { reservations } },
      status: { state: TaskState.PENDING },
    });
    const answer = await ask({ task: [waiting] }, 't1');
    expect(answer.headline).toMatch(/^no suitable node \(insufficient resources on 2 nodes\)/);
    expect(answer.excluded).toEqual([{ filter: 'resource', what: 'insufficient resources on 2 nodes', count: 2 }]);
    expect(answer.nearest).toMatch(/^w1 .*92GiB of memory/);
    expect(answer.fix).toHaveLength(1);
    expect(answer.text).toContain('no suitable node (insufficient resources on 2 nodes)\n');
  });

  it('without addresses tells what the allocator said', async () => {
    const err = 'network x (10.0.1.0/29) has no free address: 5 of 5 in use; remove tasks from it';
    const answer = await ask({ task: [task('t1', 5_000, { status: { state: TaskState.NEW, err } })] }, 't1');
    expect(answer.headline).toBe(err);
    expect(answer.fix).toEqual(['remove tasks from it']);
  });

  it('that crashes again and again tells the exit, how often, and when it is tried next', async () => {
    const spec = { container: { image: 'x' }, restart: { delay: { seconds: 8 } } };
    const crash = 'task: non-zero exit (3)';
    const tasks = [
      failed('t1', 30_000, crash, { spec }),
      failed('t2', 15_000, crash, { spec }),
      task('t3', 5_000, { spec, node_id: 'w1', desired_state: TaskState.READY, status: { state: TaskState.READY } }),
    ];
    const answer = await ask({ task: tasks }, 'web.1');
    expect(answer.headline).toBe('fails again and again, the last time with: task: non-zero exit (3)');
    expect(answer.causes.map(({ what }) => what)).toEqual([
      'waits out the restart delay of 8 s: it starts in 3 seconds',
      'the task before it ended: task: non-zero exit (3)',
      'its program ended by itself with exit code 3',
      'it fails again and again: 2 failures in a row, the first on record 30 seconds ago',
    ]);
    expect((await ask({ task: tasks }, 't2')).headline).toBe(crash);
  });

  it.each([
    ['task: non-zero exit (137): out of memory', /needed more than its memory limit of 64MiB/],
    ['task: non-zero exit (143): unhealthy container', /its health check "check.sh" failed 3 times in a row/],
    ['task: non-zero exit (139)', /ended by SIGSEGV/],
    ['task: non-zero exit (127)', /command was not found/],
    ['No such image: web:v9 (manifest unknown)', /no image web:v9 and could not pull it/],
  ])('that ended with "%s" says what that means', async (err, what) => {
    const spec = {
      container: { image: 'x', healthcheck: { test: ['CMD', 'check.sh'], retries: 3 } },
      resources: { limits: { memory_bytes: 64 * 2 ** 20 } },
    };
    const answer = await ask({ task: [failed('t1', 1_000, err, { spec })] }, 't1');
    expect(answer.headline).toBe(err);
    expect(answer.causes[0]?.what).toMatch(what);
    expect(answer.fix).not.toEqual([]);
  });

  it('that is not restarted says why not', async () => {
    const spec = {
      container: { image: 'x' },
      restart: { condition: RestartPolicy_RestartCondition.ANY, max_attempts: 1 },
    };
    const tasks = [failed('t1', 9_000, 'x', { spec }), failed('t2', 1_000, 'x', { spec })];
    const { causes } = await ask({ task: tasks }, 't2');
    expect(causes.map(({ what }) => what)).toContain(
      'not restarted: all 1 restart attempt of its service are used up ("service update --force" begins anew)',
    );
  });
});

describe('a service', () => {
  const pending = (id: string, slot: number): Task =>
    task(id, 5_000, { slot, status: { state: TaskState.PENDING, err: 'no suitable node (x)' } });
  const runs = (id: string, slot: number): Task =>
    task(id, 5_000, { slot, node_id: 'w1', status: { state: TaskState.RUNNING } });
  const three = (fields: Partially<Service> = {}): Service =>
    aService('web', {
      spec: { annotations: { name: 'web' }, task: { container: { image: 'x' } }, replicated: { replicas: 3 } },
      ...fields,
    });

  it('groups equal causes', async () => {
    const answer = await ask({ service: [three()], task: [runs('a', 1), pending('b', 2), pending('c', 3)] }, 'web');
    expect(answer.state).toBe('1 of 3 tasks run');
    expect(answer.headline).toBe('2 of 3 tasks: pending: no suitable node (x)');
  });

  it('that is as wanted says so', async () => {
    const answer = await ask({ service: [three()], task: [runs('a', 1), runs('b', 2), runs('c', 3)] }, 'web');
    expect(answer.headline).toBe('all 3 tasks run');
  });

  it('whose update is paused names the task and what it died of', async () => {
    const id = 'abcdefghijklmnopqrstuvwx1';
    const message = `update paused due to failure or early termination of task ${id}`;
    const update_status = { state: UpdateStatus_UpdateState.PAUSED, message, started_at: at(9_000) };
    const bad = failed(id, 2_000, 'task: non-zero exit (9)', { slot: 3 });
    const tasks = [runs('a', 1), runs('b', 2), runs('c', 3), bad];
    const answer = await ask({ service: [three({ update_status })], task: tasks }, 'web');
    expect(answer.headline).toBe('its update is paused: task: non-zero exit (9)');
    expect(answer.causes.map(({ what }) => what)).toEqual([
      'its update is paused: update paused due to failure or early termination of task abcdefghijkl',
      'web.3 (abcdefghijkl) on w1: failed 2 seconds ago: task: non-zero exit (9)',
    ]);
    expect(answer.fix[0]).toContain('service update --rollback web');
  });
});

describe('a node', () => {
  it('that is down tells where its tasks went', async () => {
    const down = aNode('w1', {
      status: { state: NodeStatus_State.DOWN, message: 'heartbeat failure', addr: '10.0.0.1' },
    });
    const stopped_for = { code: 'node-down', text: 'node w1 is down' };
    const tasks = [
      task('t1', 90_000, {
        node_id: 'w1',
        desired_state: TaskState.SHUTDOWN,
        stopped_for,
        status: { state: TaskState.RUNNING },
      }),
      task('t2', 60_000, { node_id: 'w2', status: { state: TaskState.RUNNING } }),
    ];
    const answer = await ask({ node: [down, aNode('w2')], task: tasks }, 'w1');
    expect(answer.state).toBe('down');
    expect(answer.headline).toBe('down: no heartbeat came from w1 (heartbeat failure)');
    expect(answer.causes.map(({ what }) => what)).toContain('web.1 moved to w2');
  });

  it.each([
    [NodeSpec_Availability.DRAIN, 'ready, drained', /^drained/],
    [NodeSpec_Availability.PAUSE, 'ready, paused', /^paused: its 0 tasks stay/],
    [NodeSpec_Availability.ACTIVE, 'ready', /^ready; 0 tasks here/],
  ])('with availability %s says what that means', async (availability, state, headline) => {
    const answer = await ask({ node: [aNode('w1', { spec: { availability } })] }, 'w1');
    expect(answer.state).toBe(state);
    expect(answer.headline).toMatch(headline);
  });
});

describe('errors in lists', () => {
  it('tell of a lost node, and are otherwise those that are stored', async () => {
    const down = aNode('w1', { status: { state: NodeStatus_State.DOWN } });
    const lost = task('t1', 1_000, { node_id: 'w1', status: { state: TaskState.RUNNING } });
    const waits = task('t2', 1_000, { slot: 2, status: { state: TaskState.PENDING, err: 'no suitable node' } });
    const view = await viewOf({ node: [down], task: [lost, waits] });
    const show = withErrors(view, NOW);
    expect(show(lost).status?.err).toBe('node w1 is down: nobody can tell whether this task still runs there');
    expect(lost.status?.err).toBe('');
    expect(show(waits)).toBe(waits);
  });
});

describe('why a job', () => {
  const spec = { annotations: { name: 'web' }, replicated_job: { total_completions: 1, max_concurrent: 1 } };
  const job_status = { job_iteration: { index: 0 } };

  it('that failed for good tells the error and how to run it again', async () => {
    const message = '1 of 1 tasks failed for good: task: non-zero exit (7)';
    const update_status = { state: UpdateStatus_UpdateState.PAUSED, message };
    const answer = await ask({ service: [aService('web', { spec, job_status, update_status })] }, 'web');
    expect(answer.headline).toBe(message);
    expect(answer.fix).toEqual(['mend what failed, then run it again: "shoal service run web"']);
  });

  it('that runs by the clock has nothing to do tells when it runs next', async () => {
    const cron = { next_scheduled: at(-60_000), schedule: '* * * * * UTC' };
    const answer = await ask({ service: [aService('web', { spec, job_status, cron })] }, 'web');
    expect(answer.headline).toBe('no run is at work');
    expect(answer.causes.map(({ what }) => what)).toEqual([
      `its next run is due at ${new Date(NOW + 60_000).toISOString()}`,
    ]);
  });
});

describe('a published port that something else has on a node', () => {
  const clash = { port: 8080, protocol: PortConfig_Protocol.TCP, host_ip: '', holder: 'container db' };
  const webOn = (host_ip: string, publish_mode: PortConfig_PublishMode): Service =>
    aService('web', { endpoint: { ports: [{ published_port: 8080, target_port: 80, publish_mode, host_ip }] } });
  const seed = (service: Service): Seed => ({
    node: [aNode('w1'), aNode('w2', { description: { hostname: 'two', port_clashes: [clash] } })],
    service: [service],
    task: [
      task('t1', 1_000, { node_id: 'w1', desired_state: TaskState.RUNNING, status: { state: TaskState.RUNNING } }),
      failed('t0', 2_000, 'task: non-zero exit (1)'),
    ],
  });
  const { HOST, INGRESS } = PortConfig_PublishMode;

  it('is the error of its running tasks, and a cause of service and node', async () => {
    const objects = seed(webOn('', INGRESS));
    const words = 'port 8080/tcp is also held by container db on node two: only one of the two is reached there';
    const view = await viewOf(objects);
    const shown = view.list('task').map(withErrors(view, NOW));
    const errorOf = (id: string): string | undefined => shown.find((one) => one.id === id)?.status?.err;
    expect(errorOf('t1')).toContain(words);
    expect(errorOf('t0')).toBe('task: non-zero exit (1)');
    expect((await ask(objects, 'web')).causes.map(({ what }) => what)).toContainEqual(expect.stringContaining(words));
    const ofNode = (await ask(objects, 'two')).causes.map(({ what }) => what);
    expect(ofNode).toContainEqual(expect.stringContaining('is also held by container db'));
  });

  it('is no matter of ports on other addresses, nor of ports of one host', async () => {
    for (const service of [webOn('', HOST), aService('web')]) {
      const view = await viewOf(seed(service));
      const running = view.get('task', 't1') as Task;
      expect(withErrors(view, NOW)(running)).toBe(running);
    }
  });
});
