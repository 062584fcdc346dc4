import { describe, expect, it } from 'vitest';
import { DrainWatch } from './drain-watch.ts';
import type { Task } from './objects.ts';

let count = 0;
function task(NodeID: string, Slot: number, State: string, DesiredState = 'running', Err?: string): Task {
  const Status = { Timestamp: '', State, ...(Err === undefined ? {} : { Err }) };
  return { ID: `t${count++}`, CreatedAt: '', Spec: {}, ServiceID: 'web', Slot, NodeID, DesiredState, Status };
}

const brief = (watch: DrainWatch, tasks: Task[]): string[] =>
  watch.holds(tasks).map(({ task: { Slot }, where, why }) => `${Slot} ${where}${why === '' ? '' : ` ${why}`}`);

describe('a drain', () => {
  it('is over when nothing is there any more and every replacement runs', () => {
    const watch = new DrainWatch('n1');
    const [old, global] = [task('n1', 1, 'running'), task('n1', 0, 'running')];
    watch.see([old, global]);
    expect(watch.services).toEqual(['web']);
    expect(brief(watch, [old, global])).toEqual(['1 here', '0 here']);
    const fresh = task('', 1, 'pending', 'running', 'no suitable node');
    expect(brief(watch, [old, fresh])).toEqual(['1 here no suitable node', '1 elsewhere no suitable node']);
    const stopping = { ...old, DesiredState: 'shutdown' };
    expect(brief(watch, [stopping, task('n2', 1, 'running')])).toEqual(['1 here']);
    const stopped = task('n1', 1, 'shutdown', 'shutdown');
    expect(brief(watch, [stopped, task('n2', 1, 'preparing')])).toEqual(['1 elsewhere']);
    expect(brief(watch, [stopped, task('n2', 1, 'running')])).toEqual([]);
  });

  it('waits for no replacement that nobody wants, nor for other slots', () => {
    const watch = new DrainWatch('n1');
    watch.see([task('n1', 1, 'running'), task('n1', 3, 'failed', 'shutdown')]);
    expect(brief(watch, [task('n1', 1, 'shutdown', 'shutdown'), task('n2', 2, 'pending')])).toEqual([]);
    expect(brief(watch, [task('n2', 1, 'pending', 'shutdown'), task('n2', 3, 'pending')])).toEqual([]);
  });
});
