import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { NodeStatus_State, TaskState, type Node, type Task } from '../proto/index.ts';
import { nodeMatches, parseConstraints, Scheduler, type Decisions } from './index.ts';
import { aNode, aTask, clusterOf, GIB, schedule, type Shape } from './testing.ts';

const ZONES = ['a', 'b', 'c'];

const arbitraryNodes = fc
  .array(
    fc.record({
      cpus: fc.integer({ min: 0, max: 8 }),
      zone: fc.constantFrom(...ZONES),
      ready: fc.boolean(),
    }),
    { minLength: 1, maxLength: 12 },
  )
  .map((shapes) =>
    shapes.map(({ cpus, zone, ready }, i): Node => {
      const node = aNode(`n${String(i).padStart(2, '0')}`, cpus, { zone });
      return ready || i === 0 ? node : { ...node, status: { ...node.status!, state: NodeStatus_State.DOWN } };
    }),
  );

/** One service of a run. */
interface Drawn {
  cpus: number;
  memoryGib: number;
  constraints: string[];
  preferences: string[];
  maxReplicas: number;
  hostPort: number | undefined;
  binpack: boolean;
  near: string | undefined;
  far: string | undefined;
  priority: number;
  preempt: boolean;
  count: number;
}

/** Mostly nothing, so that something fits. */
function seldom<T>(...values: T[]): fc.Arbitrary<T | undefined> {
  return fc.option(fc.constantFrom(...values), { nil: undefined, freq: 2 });
}

/** Services a to f, some of which want others near or far. */
const arbitraryShape: fc.Arbitrary<Drawn> = fc.record({
  cpus: fc.integer({ min: 0, max: 3 }),
  memoryGib: fc.integer({ min: 0, max: 3 }),
  constraints: seldom('node.labels.zone == a', 'node.labels.zone != b').map((one) => (one === undefined ? [] : [one])),
  preferences: seldom('node.labels.zone').map((one) => (one === undefined ? [] : [one])),
  maxReplicas: fc.constantFrom(0, 0, 1, 2),
  hostPort: seldom(80, 81),
  binpack: fc.boolean(),
  near: seldom('a', 'b', 'self'),
  far: seldom('a', 'b', 'self'),
  priority: fc.constantFrom(0, 0, 1, 2),
  preempt: fc.boolean(),
  count: fc.integer({ min: 1, max: 8 }),
});

function shapeOf(drawn: Drawn, index: number): Shape {
  const service = 'abcdef'[index] ?? 'x';
  const labels: Record<string, string> = { 'shoal.priority': String(drawn.priority) };
  if (drawn.preempt) labels['shoal.preempt'] = 'true';
  if (drawn.binpack) labels['shoal.placement.strategy'] = 'binpack';
  const name = (target: string): string => `service.name==${target === 'self' ? service : target}`;
  if (drawn.near !== undefined) labels['shoal.affinity'] = name(drawn.near);
  if (drawn.far !== undefined) labels['shoal.anti-affinity'] = name(drawn.far);
  const { cpus, memoryGib, constraints, preferences, maxReplicas, hostPort } = drawn;
  return {
    service,
    labels,
    cpus,
    memoryGib,
    constraints,
    preferences,
    maxReplicas,
    ...(hostPort === undefined ? {} : { hostPort }),
  };
}

function waitingOf(drawn: readonly Drawn[]): Task[] {
  return drawn.flatMap((one, index) => {
    const shape = shapeOf(one, index);
    return Array.from({ length: one.count }, (_, i) => aTask(`${shape.service}${i}`, shape));
  });
}

/** The tasks as they stand after a pass was carried out. */
function carriedOut(tasks: readonly Task[], { assignments }: Decisions): Task[] {
  const nodeOf = new Map(assignments.map((one) => [one.taskId, one.nodeId]));
  return tasks.map((task) => {
    const nodeId = nodeOf.get(task.id);
    return nodeId === undefined
      ? task
      : { ...task, node_id: nodeId, status: { ...task.status!, state: TaskState.RUNNING } };
  });
}

function holds(task: Task): boolean {
  return task.node_id !== '' && task.status?.state === TaskState.RUNNING;
}

function far(a: Task, b: Task): boolean {
  return a.service_annotations?.labels['shoal.anti-affinity'] === `service.name==${b.service_annotations?.name}`;
}

/** Whatever was asked: no node holds more than it has, or what must not be there. */
function expectSound(nodes: readonly Node[], tasks: readonly Task[]): void {
  for (const node of nodes) {
    const here = tasks.filter((task) => holds(task) && task.node_id === node.id);
    const sum = (what: (task: Task) => number): number => here.reduce((total, task) => total + what(task), 0);
    const reserved = (task: Task) => task.spec!.resources!.reservations!;
    expect(sum((task) => reserved(task).nano_cpus)).toBeLessThanOrEqual(node.description!.resources!.nano_cpus);
    expect(sum((task) => reserved(task).memory_bytes)).toBeLessThanOrEqual(8 * GIB);
    const ports = here.flatMap((task) => task.endpoint!.ports.map((port) => port.published_port));
    expect(new Set(ports).size).toBe(ports.length);
    for (const task of here) {
      expect(node.status?.state).toBe(NodeStatus_State.READY);
      expect(nodeMatches(node, parseConstraints(task.spec!.placement!.constraints))).toBe(true);
      const most = task.spec!.placement!.max_replicas;
      const same = here.filter((other) => other.service_id === task.service_id).length;
      if (most > 0) expect(same).toBeLessThanOrEqual(most);
      for (const other of here) if (other !== task) expect(far(task, other) || far(other, task)).toBe(false);
      const near = task.service_annotations?.labels['shoal.affinity']?.replace('service.name==', '');
      if (near !== undefined) expect(here.some((other) => other.service_annotations?.name === near)).toBe(true);
    }
  }
}

describe('whatever is asked', () => {
  it('conditions hold, every task gets one answer, and those without a node fit nowhere', () => {
    fc.assert(
      fc.property(arbitraryNodes, fc.array(arbitraryShape, { maxLength: 6 }), (nodes, drawn) => {
        const tasks = waitingOf(drawn);
        const scheduler = clusterOf(nodes);
        const decided = schedule(scheduler, tasks);
        expectSound(nodes, carriedOut(tasks, decided));
        const answered = [...decided.assignments, ...decided.unplaced].map((one) => one.taskId);
        expect(answered.toSorted()).toEqual(tasks.map((task) => task.id).toSorted());
      }),
      { numRuns: 300 },
    );
  });

  it('the same is decided from books that grew and from books made anew, and twice the same', () => {
    fc.assert(
      fc.property(
        arbitraryNodes,
        fc.array(arbitraryShape, { minLength: 1, maxLength: 6 }),
        fc.infiniteStream(fc.integer({ min: 0, max: 3 })),
        (nodes, drawn, fates) => {
          const tasks = waitingOf(drawn);
          const half = tasks.slice(0, tasks.length >> 1);
          const grown = clusterOf(nodes);
          const first = schedule(grown, half);
          expect(schedule(clusterOf(nodes), half).assignments).toEqual(first.assignments);
          let state = carriedOut(half, first);
          state = state.map((task): Task => {
            const fate = holds(task) ? fates.next().value : 3;
            if (fate === 0) return { ...task, desired_state: TaskState.SHUTDOWN };
            return fate === 1 ? { ...task, status: { ...task.status!, state: TaskState.FAILED } } : task;
          });
          for (const task of state) grown.addTask(task);
          grown.removeNode(nodes[0]!.id);
          grown.setNode(nodes[0]!);
          const rebuilt = clusterOf(nodes, state);
          for (const node of nodes) {
            const [a, b] = [grown.node(node.id)!, rebuilt.node(node.id)!];
            expect([a.free.nanoCpus, a.free.memoryBytes, a.totalActiveTasks]).toEqual([
              b.free.nanoCpus,
              b.free.memoryBytes,
              b.totalActiveTasks,
            ]);
          }
          const rest = tasks.slice(tasks.length >> 1);
          grown.preempt([]);
          const next = schedule(grown, rest);
          const same = schedule(rebuilt, rest);
          expect(next.assignments).toEqual(same.assignments);
          expect(next.preemptions).toEqual(same.preemptions);
          expect(next.unplaced.map((one) => one.explanation)).toEqual(same.unplaced.map((one) => one.explanation));
        },
      ),
      { numRuns: 200 },
    );
  });
});

/** Placement as plainly as it can be said: one task after the other, a look at all nodes for each. */
function plainly(nodes: readonly Node[], held: Task[], task: Task): string | undefined {
  const binpack = task.service_annotations?.labels['shoal.placement.strategy'] === 'binpack';
  const wanted = task.spec!.resources!.reservations!;
  const rated = nodes
    .filter((node) => node.status?.state === NodeStatus_State.READY)
    .filter((node) => nodeMatches(node, parseConstraints(task.spec!.placement!.constraints)))
    .map((node) => {
      const here = held.filter((other) => other.node_id === node.id);
      const total = node.description!.resources!;
      const freeCpus = here.reduce((left, one) => left - one.spec!.resources!.reservations!.nano_cpus, total.nano_cpus);
      const freeMemory = here.reduce(
        (left, one) => left - one.spec!.resources!.reservations!.memory_bytes,
        total.memory_bytes,
      );
      const mine = here.filter((other) => other.service_id === task.service_id).length;
      const both = wanted.nano_cpus === 0 && wanted.memory_bytes === 0;
      const cpuShare = total.nano_cpus === 0 ? 0 : freeCpus / total.nano_cpus;
      const shares = [
        ...(wanted.nano_cpus > 0 || both ? [cpuShare] : []),
        ...(wanted.memory_bytes > 0 || both ? [freeMemory / total.memory_bytes] : []),
      ];
      const share = Math.min(...shares);
      const key = binpack ? [share, -here.length] : [mine, here.length, -share];
      const most = task.spec!.placement!.max_replicas;
      const fits =
        (wanted.nano_cpus === 0 || freeCpus >= wanted.nano_cpus) &&
        (wanted.memory_bytes === 0 || freeMemory >= wanted.memory_bytes) &&
        (most === 0 || mine < most);
      return { id: node.id, key, fits };
    })
    .filter((one) => one.fits);
  rated.sort((a, b) => {
    const at = a.key.findIndex((value, i) => value !== b.key[i]);
    return at < 0 ? (a.id < b.id ? -1 : 1) : a.key[at]! - b.key[at]!;
  });
  return rated[0]?.id;
}

describe('the heaps', () => {
  it('give what a look at all nodes for every task gives', () => {
    const plainShapes = fc.array(
      arbitraryShape.map((one) => ({
        ...one,
        preferences: [],
        hostPort: undefined,
        near: undefined,
        far: undefined,
        priority: 0,
        preempt: false,
      })),
      { maxLength: 5 },
    );
    fc.assert(
      fc.property(arbitraryNodes, plainShapes, (nodes, drawn) => {
        const tasks = waitingOf(drawn);
        const decided = schedule(clusterOf(nodes), tasks);
        const held: Task[] = [];
        const expected: (string | undefined)[] = [];
        for (const task of tasks) {
          const nodeId = plainly(nodes, held, task);
          expected.push(nodeId);
          if (nodeId !== undefined) held.push({ ...task, node_id: nodeId });
        }
        const nodeOf = new Map(decided.assignments.map((one) => [one.taskId, one.nodeId]));
        expect(tasks.map((task) => nodeOf.get(task.id))).toEqual(expected);
      }),
      { numRuns: 300 },
    );
  });

  it('keep branches level as far as their nodes take tasks', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 1, max: 4 }), { minLength: 2, maxLength: 4 }),
        fc.integer({ min: 1, max: 40 }),
        (sizes, count) => {
          const nodes = sizes.flatMap((size, z) =>
            Array.from({ length: size }, (_, i) => aNode(`z${z}n${i}`, 4, { zone: String(z) })),
          );
          const shape = { service: 's', preferences: ['node.labels.zone'], maxReplicas: 3 };
          const tasks = Array.from({ length: count }, (_, i) => aTask(`t${i}`, shape));
          const { assignments } = schedule(clusterOf(nodes), tasks);
          const per = sizes.map((_, z) => assignments.filter((one) => one.nodeId.startsWith(`z${z}n`)).length);
          const most = Math.max(...per);
          for (const [z, size] of sizes.entries()) expect(per[z]).toBeGreaterThanOrEqual(Math.min(most - 1, 3 * size));
          expect(assignments).toHaveLength(Math.min(count, 3 * nodes.length));
        },
      ),
      { numRuns: 100 },
    );
  });
});

describe('preemption', () => {
  it('takes only lower priorities, makes room that is used, and comes to an end', () => {
    fc.assert(
      fc.property(arbitraryNodes, fc.array(arbitraryShape, { minLength: 1, maxLength: 6 }), (nodes, drawn) => {
        const scheduler: Scheduler = clusterOf(nodes);
        const priority = (task: Task): number => Number(task.service_annotations?.labels['shoal.priority'] ?? 0);
        // Low ones come first, so that there is something to push off.
        let state = waitingOf(drawn).toSorted((a, b) => priority(a) - priority(b));
        let made = 0;
        const lowFirst = state.filter((task) => priority(task) === 0);
        const start = carriedOut(lowFirst, schedule(scheduler, lowFirst));
        state = [...start, ...state.slice(lowFirst.length)];
        for (let pass = 0; ; pass++) {
          // Every eviction has a cause of higher priority: there cannot be more than tasks times priorities.
          expect(pass).toBeLessThan(200);
          const waiting = state.filter((task) => !holds(task));
          const decided = schedule(scheduler, waiting);
          state = carriedOut(state, decided);
          expectSoundWithoutNear(nodes, state);
          if (decided.preemptions.length === 0) break;
          for (const { taskId, forTaskId } of decided.preemptions) {
            const victim = state.find((task) => task.id === taskId)!;
            const cause = state.find((task) => task.id === forTaskId)!;
            expect(priority(victim)).toBeLessThan(priority(cause));
            // It stops, and its orchestrator puts another in its place.
            scheduler.removeTask(taskId);
            const next = { ...victim, id: `${victim.id}'${made++}`, node_id: '' };
            next.status = { ...victim.status!, state: TaskState.PENDING };
            state = [...state.filter((task) => task !== victim), next];
          }
        }
      }),
      { numRuns: 200 },
    );
  });
});

/** A victim may leave someone behind who was to be near it: affinity is a condition of placing, as in Swarm. */
function expectSoundWithoutNear(nodes: readonly Node[], tasks: readonly Task[]): void {
  expectSound(
    nodes,
    tasks.map((task) => {
      const { 'shoal.affinity': _near, ...labels } = task.service_annotations!.labels;
      return { ...task, service_annotations: { ...task.service_annotations!, labels } };
    }),
  );
}
