import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { newId, SeededRandom, silentLogger, TaskGroup, VirtualClock } from '../base/index.ts';
import { TaskState, timestampFromMs, type Partially, type Service, type Task } from '../proto/index.ts';
import { orchestratorDuties } from './orchestrator/index.ts';
import { obedient } from './orchestrator/testing.ts';
import { createPlacement } from './placement.ts';
import { aNode, aService, createMemoryStore, type MemoryStore } from './store/testing.ts';

const STEP_MS = 50;

let clock: VirtualClock;
let store: MemoryStore;
let group: TaskGroup;

/** Orchestrators and placement as a leader runs them; allocator and workers pretended. */
beforeEach(() => {
  clock = new VirtualClock(1_700_000_000_000);
  store = createMemoryStore({ clock });
  group = new TaskGroup(silentLogger);
  const deps = { store, clock, random: new SeededRandom(3), log: silentLogger };
  for (const duty of [...orchestratorDuties(deps), createPlacement(deps)]) {
    group.start(duty.name, (signal) => duty.run(signal));
  }
});

afterEach(() => group.stop());

async function run(ms: number): Promise<void> {
  for (let passed = 0; passed < ms; passed += STEP_MS) {
    for (let i = 0; i < 6; i++) await clock.advanceAsync(0);
    await store.update((tx) => {
      for (const task of tx.list('task')) {
        const isNew = task.status?.state === TaskState.NEW && task.desired_state <= TaskState.COMPLETE;
        const isHeld = task.node_id !== '' && (task.status?.state ?? 0) >= TaskState.ASSIGNED;
        const next = isNew ? { state: TaskState.PENDING } : isHeld ? obedient(task) : undefined;
        if (next === undefined || next.state <= task.status!.state) continue;
        const status = { ...task.status!, state: next.state, timestamp: timestampFromMs(clock.now()) };
        tx.update('task', { ...task, status });
      }
    });
    await clock.advanceAsync(STEP_MS);
  }
}

const random = new SeededRandom(9);

function service(name: string, replicas: number, cpus: number, labels: Record<string, string>): Service {
  const fields: Partially<Service> = {
    spec: {
      annotations: { name, labels },
      task: { container: { image: 'x' }, resources: { reservations: { nano_cpus: cpus * 1e9 } } },
      replicated: { replicas },
    },
  };
  return aService(newId(random), fields);
}

function tasks(name: string, wanted: (task: Task) => boolean): Task[] {
  return store
    .view()
    .list('task')
    .filter((task) => task.service_annotations?.name === name && wanted(task));
}

const isRunning = (task: Task): boolean =>
  task.status?.state === TaskState.RUNNING && task.desired_state === TaskState.RUNNING;
const isWaiting = (task: Task): boolean =>
  task.status?.state === TaskState.PENDING && task.desired_state <= TaskState.RUNNING;

describe('preemption with the orchestrators', () => {
  it('pushes off what it needs, replaces the victims where there is room, and comes to rest', async () => {
    await store.seed({ node: [aNode('n1'), aNode('n2'), aNode('n3')] });
    await store.seed({ service: [service('batch', 11, 1, {})] });
    await run(1000);
    expect(tasks('batch', isRunning)).toHaveLength(11);
    await store.seed({ service: [service('db', 2, 3, { 'shoal.priority': '10', 'shoal.preempt': 'true' })] });
    await run(5000);
    expect(tasks('db', isRunning)).toHaveLength(2);
    expect(tasks('batch', isRunning)).toHaveLength(6);
    expect(tasks('batch', isWaiting)).toHaveLength(5);
    const victims = tasks('batch', (task) => task.stopped_for?.code === 'preempted');
    expect(victims).toHaveLength(5);
    expect(victims[0]?.stopped_for?.text).toMatch(/^service db \(priority 10\) needs its room on n\d$/);
    const entries = store.entries.length;
    await run(20_000);
    expect(tasks('batch', (task) => task.stopped_for?.code === 'preempted')).toHaveLength(5);
    // Nothing is written any more but explanations that have changed since the tasks were told.
    expect(store.entries.length - entries).toBeLessThanOrEqual(2);
  });
});
