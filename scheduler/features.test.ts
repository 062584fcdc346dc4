import { describe, expect, it } from 'vitest';
import { TaskState } from '../proto/index.ts';
import { aNode, aTask, clusterOf, counts, running, schedule, someTasks } from './testing.ts';

describe('spread', () => {
  it('gives ties to the node with the greatest free share of what the group asks for', () => {
    const scheduler = clusterOf(
      [aNode('n1'), aNode('n2'), aNode('n3')],
      [
        running('a', 'n1', { service: 'x', cpus: 3, memoryGib: 1 }),
        running('b', 'n2', { service: 'x', cpus: 1, memoryGib: 6 }),
        running('c', 'n3', { service: 'x', cpus: 2, memoryGib: 4 }),
      ],
    );
    expect(counts(schedule(scheduler, [aTask('t', { service: 'cpu', cpus: 0.1 })]))).toEqual({ n2: 1 });
    scheduler.removeTask('t');
    expect(counts(schedule(scheduler, [aTask('u', { service: 'mem', memoryGib: 0.1 })]))).toEqual({ n1: 1 });
    scheduler.removeTask('u');
    // Asks for nothing: the scarcest of both decides.
    expect(counts(schedule(scheduler, [aTask('v', { service: 'none' })]))).toEqual({ n3: 1 });
  });
});

describe('binpack', () => {
  const labels = { 'shoal.placement.strategy': 'binpack' };

  it('fills a node before it goes to the next, the fullest first', () => {
    const nodes = [aNode('n1'), aNode('n2'), aNode('n3')];
    const scheduler = clusterOf(nodes, [running('a', 'n2', { service: 'x', cpus: 1 })]);
    const placed = schedule(scheduler, someTasks('t', 5, { service: 's', labels, cpus: 1 }));
    expect(counts(placed)).toEqual({ n2: 3, n1: 2 });
  });

  it('is the rule for services that choose none when the cluster says so', () => {
    const scheduler = clusterOf([aNode('n1'), aNode('n2')]);
    scheduler.setStrategy('binpack');
    expect(counts(schedule(scheduler, someTasks('t', 4, { service: 's', cpus: 1 })))).toEqual({ n1: 4 });
    const own = { service: 'o', labels: { 'shoal.placement.strategy': 'spread' } };
    expect(counts(schedule(scheduler, someTasks('u', 2, own)))).toEqual({ n1: 1, n2: 1 });
  });

  it('avoids nodes where the service keeps failing, and keeps to the most replicas of a node', () => {
    const scheduler = clusterOf([aNode('n1'), aNode('n2'), aNode('n3')]);
    for (let i = 0; i < 5; i++) scheduler.addFailure({ nodeId: 'n1', serviceId: 's', specVersion: 1, atMs: 0 });
    const shape = { service: 's', labels, cpus: 1, maxReplicas: 2 };
    expect(counts(schedule(scheduler, someTasks('t', 5, shape), 1000))).toEqual({ n2: 2, n3: 2, n1: 1 });
  });
});

describe('affinity', () => {
  const near = (condition: string): Record<string, string> => ({ 'shoal.affinity': condition });
  const notNear = (condition: string): Record<string, string> => ({ 'shoal.anti-affinity': condition });

  it('asks for a task of the named service that shall stay', () => {
    const going = { desired_state: TaskState.SHUTDOWN };
    const scheduler = clusterOf(
      [aNode('n1'), aNode('n2'), aNode('n3')],
      [running('a', 'n2', { service: 'db' }), running('b', 'n3', { service: 'db' }, going)],
    );
    const shape = { service: 'web', labels: near('service.name==db') };
    expect(counts(schedule(scheduler, someTasks('t', 3, shape)))).toEqual({ n2: 3 });
    scheduler.removeTask('a');
    const [refused] = schedule(scheduler, [aTask('u', shape)]).unplaced;
    expect(refused?.details.text).toBe('no suitable node (affinity not satisfied on 3 nodes)');
    expect(refused?.details.nearest?.lacks).toBe('holds no task of a service with service.name == db');
  });

  it('knows labels of services, and asks for each of several conditions', () => {
    const scheduler = clusterOf(
      [aNode('n1'), aNode('n2')],
      [
        running('a', 'n1', { service: 'a', labels: { tier: 'Data' } }),
        running('b', 'n2', { service: 'b', labels: { tier: 'data' } }),
        running('c', 'n2', { service: 'cache' }),
      ],
    );
    const labels = near('service.labels.tier==data, service.name==cache');
    expect(counts(schedule(scheduler, [aTask('t', { service: 'web', labels })]))).toEqual({ n2: 1 });
  });

  it('of a group to itself lets the first task go anywhere, and the others follow', () => {
    const scheduler = clusterOf([aNode('n1'), aNode('n2'), aNode('n3')], [running('a', 'n1', { service: 'x' })]);
    const shape = { service: 'web', labels: near('service.name==web'), cpus: 1 };
    const placed = schedule(scheduler, someTasks('t', 6, shape));
    expect(counts(placed)).toEqual({ n2: 4 });
    expect(placed.unplaced).toHaveLength(2);
  });

  it('excludes in both directions', () => {
    const shape = { service: 'loud', labels: notNear('service.name==quiet') };
    const one = clusterOf([aNode('n1'), aNode('n2')], [running('q', 'n1', { service: 'quiet' })]);
    expect(counts(schedule(one, someTasks('t', 2, shape)))).toEqual({ n2: 2 });
    const other = clusterOf([aNode('n1'), aNode('n2')], [running('l', 'n1', shape)]);
    expect(counts(schedule(other, someTasks('t', 2, { service: 'quiet' })))).toEqual({ n2: 2 });
    const full = clusterOf([aNode('n1')], [running('l', 'n1', shape)]);
    const [refused] = schedule(full, [aTask('t', { service: 'quiet' })]).unplaced;
    expect(refused?.details.nearest?.lacks).toBe('holds a task of loud, which must not be beside it');
  });

  it('against itself puts one task on a node', () => {
    const scheduler = clusterOf([aNode('n1'), aNode('n2'), aNode('n3')]);
    const shape = { service: 'web', labels: notNear('service.name==web') };
    const placed = schedule(scheduler, someTasks('t', 5, shape));
    expect(counts(placed)).toEqual({ n1: 1, n2: 1, n3: 1 });
    expect(placed.unplaced).toHaveLength(2);
    expect(schedule(scheduler, [aTask('again', shape)]).unplaced).toHaveLength(1);
  });
});

describe('preemption', () => {
  const high = { service: 'high', labels: { 'shoal.priority': '100', 'shoal.preempt': 'true' } };
  const low = (priority: number): Record<string, string> => ({ 'shoal.priority': String(priority) });

  it('is off unless the service asks for it', () => {
    const scheduler = clusterOf([aNode('n1')], [running('a', 'n1', { service: 'low', cpus: 4 })]);
    const labels = { 'shoal.priority': '100' };
    expect(schedule(scheduler, [aTask('t', { service: 'high', labels, cpus: 1 })]).preemptions).toEqual([]);
  });

  it('takes as few as can be, of the lowest priority, the youngest first', () => {
    const at = (seconds: number) => ({ meta: { created_at: { seconds } } });
    const scheduler = clusterOf(
      [aNode('n1'), aNode('n2')],
      [
        running('a', 'n1', { service: 'a', labels: low(5), cpus: 2 }, at(1)),
        running('b', 'n1', { service: 'b', labels: low(1), cpus: 2 }, at(1)),
        running('c', 'n2', { service: 'c', labels: low(1), cpus: 2 }, at(2)),
        running('d', 'n2', { service: 'd', labels: low(1), cpus: 2 }, at(3)),
      ],
    );
    const { assignments, preemptions } = schedule(scheduler, [aTask('t', { ...high, cpus: 2 })]);
    expect(assignments).toEqual([]);
    expect(preemptions).toEqual([{ taskId: 'd', forTaskId: 't', nodeId: 'n2' }]);
    const large = clusterOf([aNode('n1'), aNode('n2')]);
    large.addTask(running('big', 'n1', { service: 'a', labels: low(9), cpus: 4 }));
    for (let i = 0; i < 4; i++) large.addTask(running(`s${i}`, 'n2', { service: 's', labels: low(1), cpus: 1 }));
    expect(schedule(large, [aTask('t', { ...high, cpus: 3 })]).preemptions.map((one) => one.taskId)).toEqual(['big']);
  });

  it('never takes tasks of equal or higher priority, and none when it would not help', () => {
    const scheduler = clusterOf(
      [aNode('n1'), aNode('n2')],
      [
        running('a', 'n1', { service: 'a', labels: low(100), cpus: 4 }),
        running('b', 'n2', { service: 'b', labels: low(100), cpus: 2 }),
        running('c', 'n2', { service: 'c', labels: low(1), cpus: 2 }),
      ],
    );
    expect(schedule(scheduler, [aTask('t', { ...high, cpus: 3 })]).preemptions).toEqual([]);
  });

  it('makes room for host ports, and for the most replicas of a node', () => {
    const scheduler = clusterOf([aNode('n1')], [running('a', 'n1', { service: 'a', hostPort: 80 })]);
    const decided = schedule(scheduler, [aTask('t', { ...high, hostPort: 80 })]);
    expect(decided.preemptions.map((one) => one.taskId)).toEqual(['a']);
    const older = clusterOf([aNode('n1')], [running('b', 'n1', { service: 'high', labels: low(1) })]);
    const next = schedule(older, [aTask('t', { ...high, maxReplicas: 1 })]);
    expect(next.preemptions.map((one) => one.taskId)).toEqual(['b']);
  });

  it('waits for those who leave, keeps their room from others, and takes no further victims meanwhile', () => {
    const scheduler = clusterOf([aNode('n1')], [running('a', 'n1', { service: 'a', cpus: 3 })]);
    const waiting = aTask('t', { ...high, cpus: 4 });
    expect(schedule(scheduler, [waiting]).preemptions).toHaveLength(1);
    // One CPU is free, but it is part of the room that is kept.
    const small = aTask('small', { service: 'small', cpus: 1 });
    const second = schedule(scheduler, [small, waiting]);
    expect(second.assignments).toEqual([]);
    expect(second.preemptions).toEqual([]);
    const why = Object.fromEntries(second.unplaced.map((one) => [one.taskId, one.details.nearest?.lacks]));
    expect(why).toEqual({ small: 'keeps its room for a task of higher priority', t: 'makes room: tasks are leaving' });
    scheduler.removeTask('a');
    const replacement = aTask('a2', { service: 'a', cpus: 3 });
    const third = schedule(scheduler, [small, replacement, waiting]);
    expect(third.assignments.map((one) => one.taskId)).toEqual(['t']);
  });

  it('gives the rest of the room to others as soon as the task has its place', () => {
    const scheduler = clusterOf([aNode('n1')], [running('a', 'n1', { service: 'a', cpus: 4 })]);
    const waiting = aTask('t', { ...high, cpus: 3 });
    const small = aTask('small', { service: 'small', cpus: 1 });
    expect(schedule(scheduler, [waiting, small]).preemptions).toHaveLength(1);
    scheduler.removeTask('a');
    expect(counts(schedule(scheduler, [waiting, small]))).toEqual({ n1: 2 });
  });

  it('keeps no room for a group that waits no more', () => {
    const scheduler = clusterOf([aNode('n1')], [running('a', 'n1', { service: 'a', cpus: 3 })]);
    schedule(scheduler, [aTask('t', { ...high, cpus: 4 })]);
    expect(scheduler.promises).toBe(1);
    scheduler.forgetPromises(() => false);
    expect(counts(schedule(scheduler, [aTask('small', { service: 'small', cpus: 1 })]))).toEqual({ n1: 1 });
  });

  it('does not push off those that the group must be beside', () => {
    const scheduler = clusterOf([aNode('n1')], [running('a', 'n1', { service: 'db', cpus: 4 })]);
    const labels = { ...high.labels, 'shoal.affinity': 'service.name==db' };
    expect(schedule(scheduler, [aTask('t', { service: 'high', labels, cpus: 1 })]).preemptions).toEqual([]);
  });

  it('has a bound per pass', () => {
    const scheduler = clusterOf([aNode('n1')]);
    for (let i = 0; i < 4; i++) scheduler.addTask(running(`a${i}`, 'n1', { service: 'a', cpus: 1 }));
    const waiting = someTasks('t', 4, { ...high, cpus: 1 });
    expect(scheduler.preempt(waiting, 2)).toHaveLength(2);
    expect(scheduler.preempt(waiting, 2)).toHaveLength(2);
    expect(scheduler.preempt(waiting, 2)).toEqual([]);
  });
});
