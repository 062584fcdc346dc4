/** Times, durations, task states, service definitions. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  assertUint,
  ControlService,
  DispatcherService,
  durationFromNs,
  durationToMs,
  durationToNs,
  grpcMethod,
  grpcService,
  isTerminal,
  Task,
  TaskState,
  taskStateFromName,
  taskStateName,
  timestampFromMs,
  timestampToIso,
  timestampToMs,
  ZERO_TIME,
} from './index.ts';

describe('time', () => {
  it('prints as Docker does', () => {
    expect(timestampToIso({ seconds: 0, nanos: 0 })).toBe('1970-01-01T00:00:00Z');
    expect(timestampToIso({ seconds: 1_700_000_000, nanos: 120_000_000 })).toBe('2023-11-14T22:13:20.12Z');
    expect(timestampToIso({ seconds: 1_700_000_000, nanos: 7 })).toBe('2023-11-14T22:13:20.000000007Z');
    expect(timestampToIso(null)).toBe(ZERO_TIME);
  });

  it('goes to the wire and back', () => {
    fc.assert(
      fc.property(fc.integer({ min: -1e12, max: 4e12 }), (ms) => {
        const stamp = timestampFromMs(ms);
        expect(stamp.nanos).toBeGreaterThanOrEqual(0);
        expect(stamp.nanos).toBeLessThan(1e9);
        expect(timestampToMs(stamp)).toBe(ms);
      }),
    );
    expect(timestampToMs(undefined)).toBe(0);
  });

  it('never makes a whole second of nanoseconds', () => {
    expect(timestampFromMs(1999.9999999)).toEqual({ seconds: 2, nanos: 0 });
    fc.assert(
      fc.property(fc.double({ min: 0, max: 4e12, noNaN: true }), (ms) => timestampFromMs(ms).nanos < 1_000_000_000),
    );
  });
});

describe('durations', () => {
  it('go to the wire and back, also negative ones', () => {
    fc.assert(
      fc.property(fc.integer({ min: -1e15, max: 1e15 }), (ns) => {
        expect(durationToNs(durationFromNs(ns))).toBe(ns);
      }),
    );
  });

  it('know absent from zero', () => {
    expect(durationToNs(null)).toBeUndefined();
    expect(durationToNs(durationFromNs(0))).toBe(0);
    expect(durationToMs(undefined, 7)).toBe(7);
    expect(durationToMs(durationFromNs(1_500_000_000), 7)).toBe(1500);
  });
});

describe('task states', () => {
  it('have a name each', () => {
    for (const state of Object.values(TaskState)) expect(taskStateFromName(taskStateName(state))).toBe(state);
    expect(taskStateName(TaskState.PREPARING)).toBe('preparing');
    expect(taskStateFromName('RUNNING')).toBeUndefined();
  });

  it('rise in the order of a task’s life', () => {
    const life = ['new', 'pending', 'assigned', 'accepted', 'preparing', 'ready', 'starting', 'running'];
    const numbers = life.map((name) => taskStateFromName(name) ?? -1);
    expect(numbers).toEqual([...numbers].sort((a, b) => a - b));
    expect(numbers.some((state) => isTerminal(state as TaskState))).toBe(false);
    for (const name of ['complete', 'shutdown', 'failed', 'rejected', 'remove', 'orphaned']) {
      expect(isTerminal(taskStateFromName(name) as TaskState)).toBe(true);
    }
  });
});

describe('services', () => {
  it('have the paths of the wire', () => {
    expect(DispatcherService.Session.path).toBe('/docker.swarmkit.v1.Dispatcher/Session');
    expect(DispatcherService.Session.responseStream).toBe(true);
    expect(ControlService.GetTask.path).toBe('/docker.swarmkit.v1.Control/GetTask');
  });

  it('carry messages through grpc-js definitions', () => {
    const method = grpcMethod(ControlService.GetTask);
    const bytes = method.responseSerialize({ task: Task.create({ id: 't1', slot: 3 }) });
    expect(Buffer.isBuffer(bytes)).toBe(true);
    expect(method.responseDeserialize(bytes).task).toMatchObject({ id: 't1', slot: 3 });
    const service = grpcService(ControlService);
    expect(Object.keys(service)).toEqual(Object.keys(ControlService));
    expect(service.GetTask.path).toBe(method.path);
  });
});

describe('whole numbers of the wire', () => {
  it('stay below 2^53', () => {
    assertUint(0, 'index');
    for (const bad of [-1, 0.5, 2 ** 53, Number.NaN])
      expect(() => assertUint(bad, 'index')).toThrow('index is a whole');
  });
});
