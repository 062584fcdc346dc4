import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  Node,
  NodeRole,
  NodeSpec_Availability,
  NodeStatus_State,
  PortConfig_PublishMode,
  Task,
  TaskState,
  type Partially,
} from '../proto/index.ts';
import { groupTasks, nodeMatches, parseConstraints, Scheduler } from './index.ts';

const GIB = 2 ** 30;

function node(id: string, fields: Partially<Node> = {}): Node {
  return Node.create({
    id,
    spec: { availability: NodeSpec_Availability.ACTIVE },
    status: { state: NodeStatus_State.READY, addr: '10.0.0.1' },
    description: {
      hostname: id,
      platform: { architecture: 'x86_64', os: 'linux' },
      resources: { nano_cpus: 4e9, memory_bytes: 8 * GIB },
    },
    ...fields,
  });
}

function labelled(id: string, labels: Record<string, string>): Node {
  return node(id, { spec: { availability: NodeSpec_Availability.ACTIVE, annotations: { labels } } });
}

function task(id: string, spec: Partially<Task['spec']> = {}, fields: Partially<Task> = {}): Task {
  return Task.create({
    id,
    service_id: 's',
    spec_version: { index: 1 },
    status: { state: TaskState.PENDING },
    desired_state: TaskState.RUNNING,
    spec: { container: { image: 'x' }, ...spec },
    ...fields,
  });
}

function tasks(count: number, spec: Partially<Task['spec']> = {}, fields: Partially<Task> = {}): Task[] {
  return Array.from({ length: count }, (_, i) => task(`t${i}`, spec, fields));
}

function cluster(...nodes: Node[]): Scheduler {
  const scheduler = new Scheduler();
  for (const one of nodes) scheduler.setNode(one);
  return scheduler;
}

function place(scheduler: Scheduler, waiting: Task[], nowMs = 0): { counts: Record<string, number>; why: string[] } {
  const { assignments, unplaced } = scheduler.schedule(groupTasks(waiting), nowMs);
  const counts: Record<string, number> = {};
  for (const { nodeId } of assignments) counts[nodeId] = (counts[nodeId] ?? 0) + 1;
  return { counts, why: unplaced.map((one) => one.details.text) };
}

describe('filters', () => {
  it('say why nothing fits, the most frequent reason first', () => {
    const down = node('n4', { status: { state: NodeStatus_State.DOWN } });
    const scheduler = cluster(node('n1'), node('n2'), labelled('n3', { a: 'b' }), down);
    const greedy = task('t', {
      resources: { reservations: { memory_bytes: 9 * GIB } },
      placement: { constraints: ['node.labels.a != b'] },
    });
    expect(place(scheduler, [greedy]).why).toEqual([
      'no suitable node (insufficient resources on 3 nodes; 1 node not available for new tasks)',
    ]);
    const picky = task('u', { placement: { constraints: ['node.labels.a == c'] } });
    expect(place(scheduler, [picky]).why).toEqual([
      'no suitable node (scheduling constraints not satisfied on 3 nodes; 1 node not available for new tasks)',
    ]);
    expect(place(cluster(), [picky]).why).toEqual(['no suitable node']);
  });

  it('pass over nodes that are paused, drained or not ready', () => {
    const { PAUSE, DRAIN } = NodeSpec_Availability;
    const scheduler = cluster(
      node('paused', { spec: { availability: PAUSE } }),
      node('drained', { spec: { availability: DRAIN } }),
      node('away', { status: { state: NodeStatus_State.UNKNOWN } }),
      node('good'),
    );
    expect(place(scheduler, tasks(3)).counts).toEqual({ good: 3 });
  });

  it('look at plugins only where a node lists some of the type', () => {
    const lists = (name: string): Node =>
      node(name, { description: { engine: { plugins: [{ type: 'Log', name: 'json-file' }] } } });
    const scheduler = cluster(lists('lists'), node('silent'));
    expect(place(scheduler, [task('t', { log_driver: { name: 'splunk' } })]).counts).toEqual({ silent: 1 });
    expect(place(cluster(lists('lists')), [task('t', { log_driver: { name: 'splunk' } })]).why).toEqual([
      'no suitable node (missing plugin on 1 node)',
    ]);
  });

  it('know the spellings of platforms, and an empty field as any', () => {
    const arm = node('arm', { description: { platform: { architecture: 'aarch64', os: 'linux' } } });
    const on = (architecture: string): Record<string, number> =>
      place(cluster(node('amd'), arm), [task('t', { placement: { platforms: [{ architecture, os: 'linux' }] } })])
        .counts;
    expect(on('amd64')).toEqual({ amd: 1 });
    expect(on('arm64')).toEqual({ arm: 1 });
    expect(on('')).toEqual({ amd: 1 });
    expect(on('s390x')).toEqual({});
  });

  it('a host port of one address is in the way of that address, and of all of them, only', () => {
    const bound = (id: string, host_ip: string): Task => {
      const port = { published_port: 80, target_port: 80, publish_mode: PortConfig_PublishMode.HOST, host_ip };
      return task(id, {}, { service_id: id, endpoint: { ports: [port] } });
    };
    const s = cluster(node('n1'));
    const isPlaced = (one: Task): boolean => place(s, [one]).why.length === 0;
    expect(isPlaced(bound('a', '192.0.2.1'))).toBe(true);
    expect(isPlaced(bound('b', '192.0.2.2'))).toBe(true);
    expect(isPlaced(bound('c', '2001:db8::1'))).toBe(true);
    expect(isPlaced(bound('d', '192.0.2.2'))).toBe(false);
    expect(isPlaced(bound('e', ''))).toBe(false);
    expect(isPlaced(bound('f', '0.0.0.0'))).toBe(false);
    for (const id of ['a', 'b', 'c']) s.removeTask(id);
    expect(isPlaced(bound('g', '0.0.0.0'))).toBe(true);
    expect(isPlaced(bound('h', '192.0.2.1'))).toBe(false);
  });

  it('give each host port of a node to one task, counted, so that it is free again afterwards', () => {
    const scheduler = cluster(node('n1'), node('n2'));
    const endpoint = {
      ports: [{ published_port: 80, target_port: 80, publish_mode: PortConfig_PublishMode.HOST }],
    };
    const placed = place(scheduler, tasks(3, {}, { endpoint }));
    expect(placed.counts).toEqual({ n1: 1, n2: 1 });
    expect(placed.why).toEqual(['no suitable node (host-mode port already in use on 2 nodes)']);
    scheduler.removeTask('t0');
    expect(place(scheduler, [task('again', {}, { endpoint })]).counts).toEqual({ n1: 1 });
  });

  it('keep to the most replicas of a node', () => {
    const placed = place(cluster(node('n1'), node('n2')), tasks(5, { placement: { max_replicas: 2 } }));
    expect(placed.counts).toEqual({ n1: 2, n2: 2 });
    expect(placed.why).toEqual(['no suitable node (max replicas per node limit exceed)']);
  });

  it('hand out generic resources, names and numbers, and take them back', () => {
    const generic = [
      { named_resource_spec: { kind: 'gpu', value: 'A' } },
      { named_resource_spec: { kind: 'gpu', value: 'B' } },
      { discrete_resource_spec: { kind: 'slot', value: 3 } },
    ];
    const scheduler = cluster(node('n1', { description: { resources: { generic } } }));
    const wanting = (id: string): Task =>
      task(id, {
        resources: {
          reservations: {
            generic: [
              { discrete_resource_spec: { kind: 'gpu', value: 1 } },
              { discrete_resource_spec: { kind: 'slot', value: 1 } },
            ],
          },
        },
      });
    const { assignments, unplaced } = scheduler.schedule(groupTasks(['a', 'b', 'c'].map(wanting)), 0);
    expect(assignments.map((one) => one.assignedGenericResources[0]?.named_resource_spec?.value)).toEqual(['A', 'B']);
    expect(unplaced).toHaveLength(1);
    scheduler.removeTask('b');
    const again = scheduler.schedule(groupTasks([wanting('d')]), 0);
    expect(again.assignments[0]?.assignedGenericResources).toEqual([
      { named_resource_spec: { kind: 'gpu', value: 'B' } },
      { discrete_resource_spec: { kind: 'slot', value: 1 } },
    ]);
  });
});

describe('constraints', () => {
  const here = Node.create({
    id: 'id1',
    role: NodeRole.MANAGER,
    spec: { annotations: { labels: { Zone: 'East' } } },
    status: { addr: '192.168.7.9' },
    description: {
      hostname: 'Alpha',
      platform: { architecture: 'x86_64', os: 'linux' },
      engine: { labels: { 'com.a.b': 'c d' } },
    },
  });
  it.each([
    ['node.id == id1', true],
    ['node.id != id1', false],
    ['node.hostname==alpha', true],
    ['node.role == manager', true],
    ['node.role != Worker', true],
    ['node.platform.os == LINUX', true],
    ['node.platform.arch == x86_64', true],
    ['node.platform.arch == amd64', true],
    ['node.platform.arch != amd64', false],
    ['node.labels.Zone == east', true],
    ['node.labels.zone == east', false],
    ['node.labels.none != x', true],
    ['engine.labels.com.a.b == c d', true],
    ['node.ip == 192.168.7.9', true],
    ['node.ip == 192.168.0.0/16', true],
    ['node.ip != 192.168.7.0/24', false],
    ['node.ip == 10.0.0.0/8', false],
    ['node.ip == fd00::/8', false],
    ['node.ip == nonsense', false],
    ['node.other == x', false],
    ['node.other != x', false],
  ])('%s is %s', (text, expected) => {
    expect(nodeMatches(here, parseConstraints([text]))).toBe(expected);
  });

  it('match addresses of both families', () => {
    const six = Node.create({ id: 'x', status: { addr: 'fd00::12' } });
    expect(nodeMatches(six, parseConstraints(['node.ip == fd00::/8']))).toBe(true);
    expect(nodeMatches(six, parseConstraints(['node.ip == fd00:0:0:0:0:0:0:12']))).toBe(true);
    expect(nodeMatches(six, parseConstraints(['node.ip == fd00::13']))).toBe(false);
  });

  it.each([
    ['node.id', 'constraint expected one operator from ==, !='],
    ['no de == x', "key 'no de' is invalid"],
    ['node.id == ', "value '' is invalid"],
    ['node.id == a;b', "value 'a;b' is invalid"],
  ])('%s is refused', (text, message) => {
    expect(() => parseConstraints([text])).toThrow(message);
  });
});

describe('the order of nodes', () => {
  it('is: fewer tasks of the service, then fewer tasks, and nodes where it keeps failing last', () => {
    const scheduler = cluster(node('n1'), node('n2'), node('n3'));
    scheduler.addTask(task('a', {}, { node_id: 'n1', status: { state: TaskState.RUNNING } }));
    scheduler.addTask(task('b', {}, { service_id: 'other', node_id: 'n2', status: { state: TaskState.RUNNING } }));
    expect(place(scheduler, [task('c')]).counts).toEqual({ n3: 1 });
    expect(place(scheduler, [task('d')]).counts).toEqual({ n2: 1 });
    for (let i = 0; i < 5; i++) scheduler.addFailure({ nodeId: 'n1', serviceId: 's', specVersion: 1, atMs: 1000 });
    expect(place(scheduler, tasks(4), 2000).counts).toEqual({ n2: 2, n3: 2 });
    scheduler.removeTask('t0');
    scheduler.removeTask('t1');
    scheduler.removeTask('t2');
    scheduler.removeTask('t3');
    expect(place(scheduler, [task('e'), task('f')], 1_000_000).counts).toEqual({ n1: 1, n3: 1 });
  });

  it('does not count tasks that shall go, but what they hold', () => {
    const small = { resources: { nano_cpus: 1e9, memory_bytes: GIB } };
    const scheduler = cluster(node('n1', { description: small }), node('n2', { description: small }));
    const spec = { resources: { reservations: { nano_cpus: 6e8 } } };
    const going = { node_id: 'n1', status: { state: TaskState.RUNNING }, desired_state: TaskState.SHUTDOWN };
    scheduler.addTask(task('old', spec, going));
    expect(scheduler.node('n1')?.activeTasks('s')).toBe(0);
    expect(place(scheduler, tasks(2, spec)).counts).toEqual({ n2: 1 });
    scheduler.addTask(task('old', spec, { ...going, status: { state: TaskState.SHUTDOWN } }));
    expect(place(scheduler, [task('t9', spec)]).counts).toEqual({ n1: 1 });
  });

  it('follows spread preferences level by level, as far as there is room', () => {
    const place3 = (id: string, dc: string, rack: string): Node => labelled(id, { dc, rack });
    const scheduler = cluster(
      place3('a1', 'a', '1'),
      place3('a2', 'a', '1'),
      place3('a3', 'a', '2'),
      place3('b1', 'b', '1'),
    );
    const preferences = ['node.labels.dc', 'node.labels.rack'].map((spread_descriptor) => ({
      spread: { spread_descriptor },
    }));
    expect(place(scheduler, tasks(8, { placement: { preferences } })).counts).toEqual({ a1: 1, a2: 1, a3: 2, b1: 4 });
    const full = cluster(place3('a1', 'a', '1'), place3('b1', 'b', '1'));
    full.setNode(
      node('b1', { description: { resources: { nano_cpus: 1e9 } }, spec: { annotations: { labels: { dc: 'b' } } } }),
    );
    const wide = { placement: { preferences }, resources: { reservations: { nano_cpus: 1e9 } } };
    expect(place(full, tasks(4, wide)).counts).toEqual({ a1: 3, b1: 1 });
  });

  it('is not asked for a task whose node is given; it is only checked', () => {
    const scheduler = cluster(node('n1'), node('n2', { spec: { availability: NodeSpec_Availability.PAUSE } }));
    expect(scheduler.confirm(task('g', {}, { node_id: 'n1' }))).toMatchObject({ nodeId: 'n1' });
    expect(scheduler.confirm(task('h', {}, { node_id: 'n2' }))).toMatchObject({
      taskId: 'h',
      explanation:
        'no suitable node (1 node not available for new tasks); nearest fit: n2 is paused; ' +
        'to fix: make it active (node update --availability active n2)',
    });
    expect(scheduler.confirm(task('i', {}, { node_id: 'zz' }))).toMatchObject({
      explanation: 'no suitable node; to fix: node zz is not in the cluster any more',
    });
  });
});

describe('always', () => {
  const arbitraryNodes = fc.array(
    fc.record({ cpus: fc.integer({ min: 0, max: 8 }), zone: fc.constantFrom('a', 'b', 'c'), ready: fc.boolean() }),
    { maxLength: 12 },
  );
  const arbitraryGroups = fc.array(
    fc.record({
      count: fc.integer({ min: 1, max: 12 }),
      cpus: fc.integer({ min: 0, max: 3 }),
      zone: fc.option(fc.constantFrom('a', 'b', 'd'), { nil: undefined }),
    }),
    { maxLength: 5 },
  );

  it('reservations stay within capacity, constraints hold, and every task gets one answer', () => {
    fc.assert(
      fc.property(arbitraryNodes, arbitraryGroups, fc.infiniteStream(fc.boolean()), (shapes, groups, removals) => {
        const nodes = shapes.map(({ cpus, zone, ready }, i) =>
          node(`n${i}`, {
            spec: { annotations: { labels: { zone } } },
            status: { state: ready ? NodeStatus_State.READY : NodeStatus_State.DOWN },
            description: { resources: { nano_cpus: cpus * 1e9 } },
          }),
        );
        const scheduler = cluster(...nodes);
        const held = new Map<string, number>();
        for (const [g, { count, cpus, zone }] of groups.entries()) {
          const constraints = zone === undefined ? [] : [`node.labels.zone == ${zone}`];
          const waiting = Array.from({ length: count }, (_, i) =>
            task(
              `g${g}t${i}`,
              { resources: { reservations: { nano_cpus: cpus * 1e9 } }, placement: { constraints } },
              { service_id: `s${g}` },
            ),
          );
          const { assignments, unplaced } = scheduler.schedule(groupTasks(waiting), 0);
          const answered = [...assignments, ...unplaced].map((one) => one.taskId);
          expect(answered.toSorted()).toEqual(waiting.map((one) => one.id).toSorted());
          for (const { nodeId, taskId } of assignments) {
            const shape = shapes[Number(nodeId.slice(1))];
            expect(shape?.ready).toBe(true);
            if (zone !== undefined) expect(shape?.zone).toBe(zone);
            held.set(nodeId, (held.get(nodeId) ?? 0) + cpus);
            if (removals.next().value === true) {
              scheduler.removeTask(taskId);
              held.set(nodeId, (held.get(nodeId) ?? 0) - cpus);
            }
          }
          for (const [i, shape] of shapes.entries()) {
            const used = held.get(`n${i}`) ?? 0;
            expect(used).toBeLessThanOrEqual(shape.cpus);
            expect(scheduler.node(`n${i}`)?.free.nanoCpus).toBe((shape.cpus - used) * 1e9);
          }
        }
      }),
      { numRuns: 200 },
    );
  });

  it('equal nodes differ by one task of the service at the most', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 20 }),
        fc.array(fc.integer({ min: 1, max: 30 }), { maxLength: 4 }),
        (size, steps) => {
          const scheduler = cluster(...Array.from({ length: size }, (_, i) => node(`n${i}`)));
          for (const [round, count] of steps.entries()) {
            place(
              scheduler,
              Array.from({ length: count }, (_, i) => task(`r${round}t${i}`)),
            );
            const counts = Array.from({ length: size }, (_, i) => scheduler.node(`n${i}`)?.activeTasks('s') ?? 0);
            expect(Math.max(...counts) - Math.min(...counts)).toBeLessThanOrEqual(1);
          }
        },
      ),
      { numRuns: 100 },
    );
  });
});
