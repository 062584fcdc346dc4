import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { TaskState, isTerminal } from '../proto/index.ts';
import type { TaskObservation } from './executor.ts';
import { nextAction } from './task-machine.ts';

const S = TaskState;
const absent: TaskObservation = { state: 'absent' };
const created: TaskObservation = { state: 'created' };
const running: TaskObservation = { state: 'running' };
const exited = (exitCode: number, error?: string): TaskObservation => ({
  state: 'exited',
  exit: { exitCode, ...(error === undefined ? {} : { error }) },
});

const step = (desired: TaskState, state: TaskState, observed: TaskObservation, removed = false) =>
  nextAction({ desired, state, observed, removed });

describe('task machine', () => {
  it('goes from assigned to running, one state at a time', () => {
    expect(step(S.RUNNING, S.ASSIGNED, absent)).toMatchObject({ kind: 'become', state: S.ACCEPTED });
    expect(step(S.RUNNING, S.ACCEPTED, absent)).toMatchObject({ kind: 'become', state: S.PREPARING });
    expect(step(S.RUNNING, S.PREPARING, absent)).toEqual({ kind: 'prepare', next: S.READY });
    expect(step(S.RUNNING, S.READY, created)).toMatchObject({ kind: 'become', state: S.STARTING });
    expect(step(S.RUNNING, S.STARTING, created)).toEqual({ kind: 'start' });
    expect(step(S.RUNNING, S.STARTING, running)).toEqual({ kind: 'start' });
    expect(step(S.RUNNING, S.RUNNING, running)).toEqual({ kind: 'watch' });
  });

  it('waits in READY for permission, and runs jobs to their end', () => {
    expect(step(S.READY, S.READY, created)).toEqual({ kind: 'idle' });
    expect(step(S.COMPLETE, S.READY, created)).toMatchObject({ state: S.STARTING });
    expect(step(S.COMPLETE, S.RUNNING, running)).toEqual({ kind: 'watch' });
  });

  it('words the end of a container as Docker does', () => {
    expect(step(S.RUNNING, S.RUNNING, exited(0))).toMatchObject({ state: S.COMPLETE, message: 'finished', err: '' });
    expect(step(S.RUNNING, S.RUNNING, exited(2))).toMatchObject({ state: S.FAILED, err: 'task: non-zero exit (2)' });
    const killed = step(S.RUNNING, S.RUNNING, exited(137, 'out of memory'));
    expect(killed).toMatchObject({ state: S.FAILED, err: 'task: non-zero exit (137): out of memory' });
    expect(step(S.RUNNING, S.RUNNING, exited(0, 'unhealthy'))).toMatchObject({ state: S.FAILED });
  });

  it('stops what is to stop, and says so when nothing runs', () => {
    expect(step(S.SHUTDOWN, S.RUNNING, running)).toEqual({ kind: 'shutdown' });
    expect(step(S.SHUTDOWN, S.RUNNING, exited(143))).toMatchObject({ state: S.SHUTDOWN, exit: { exitCode: 143 } });
    expect(step(S.REMOVE, S.PREPARING, absent)).toMatchObject({ state: S.SHUTDOWN });
    expect(step(S.SHUTDOWN, S.READY, created)).toMatchObject({ state: S.SHUTDOWN });
  });

  it('goes on after a restart, whatever is left', () => {
    expect(step(S.RUNNING, S.READY, absent)).toEqual({ kind: 'prepare', next: S.READY });
    expect(step(S.RUNNING, S.STARTING, absent)).toEqual({ kind: 'prepare', next: S.STARTING });
    expect(step(S.RUNNING, S.STARTING, exited(1))).toMatchObject({ state: S.FAILED });
    expect(step(S.RUNNING, S.RUNNING, absent)).toMatchObject({ state: S.FAILED });
    expect(step(S.RUNNING, S.RUNNING, created)).toMatchObject({ state: S.FAILED });
  });

  it('stops a container whose task has ended, and removes what is not assigned', () => {
    expect(step(S.RUNNING, S.REJECTED, running)).toEqual({ kind: 'shutdown' });
    expect(step(S.RUNNING, S.FAILED, exited(1))).toEqual({ kind: 'idle' });
    expect(step(S.RUNNING, S.RUNNING, running, true)).toEqual({ kind: 'remove' });
  });

  it('never goes back, and leaves no container of a stopped task running', () => {
    const states = fc.constantFrom(...Object.values(TaskState));
    const observations = fc.constantFrom(absent, created, running, exited(0), exited(1));
    fc.assert(
      fc.property(states, states, observations, fc.boolean(), (desired, state, observed, removed) => {
        const action = step(desired, state, observed, removed);
        if (action.kind === 'become') expect(action.state).toBeGreaterThan(state);
        if (action.kind === 'prepare') expect(action.next).toBeGreaterThanOrEqual(state);
        if (isTerminal(state) || desired >= S.SHUTDOWN)
          expect(['prepare', 'start', 'watch']).not.toContain(action.kind);
        if (removed) expect(action.kind).toBe('remove');
      }),
    );
  });
});
