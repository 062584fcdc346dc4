import { describe, expect, it } from 'vitest';
import {
  AssignmentsMessage,
  type AssignmentChange_AssignmentAction,
  type Assignment,
  type Partially,
} from '../proto/index.ts';
import { diffAssignments, type HeldAssignments } from './assignments.ts';

const held = (fields: Partial<HeldAssignments> = {}): HeldAssignments => ({
  reference: '1',
  tasks: new Set(['t1', 't2']),
  tables: new Set(['net']),
  secrets: new Set(['s1']),
  configs: new Set(),
  ...fields,
});
const change = (action: AssignmentChange_AssignmentAction, assignment: Partially<Assignment>) => ({
  action,
  assignment,
});

describe('assignments', () => {
  it('a complete set takes away what it does not name', () => {
    const message = AssignmentsMessage.create({
      type: 0,
      results_in: '1',
      changes: [change(0, { task: { id: 't2' } }), change(0, { secret: { id: 's2' } })],
    });
    expect(diffAssignments(held({ reference: undefined }), message)).toMatchObject({
      complete: true,
      reference: '1',
      tasks: [{ id: 't2' }],
      removedTasks: ['t1'],
      removedTables: ['net'],
      removedSecrets: ['s1'],
      secrets: [{ id: 's2' }],
    });
  });

  it('an increment changes what it names', () => {
    const message = AssignmentsMessage.create({
      type: 1,
      applies_to: '1',
      results_in: '2',
      changes: [
        change(0, { network_table: { network_id: 'net', version: 4 } }),
        change(1, { task: { id: 't1' } }),
        change(0, { config: { id: 'c1' } }),
        change(1, { secret: { id: 's1' } }),
      ],
    });
    expect(diffAssignments(held(), message)).toMatchObject({
      complete: false,
      tables: [{ network_id: 'net', version: 4 }],
      removedTasks: ['t1'],
      removedSecrets: ['s1'],
      configs: [{ id: 'c1' }],
      removedTables: [],
      tasks: [],
    });
  });

  it('the last word on an id counts', () => {
    const task = { id: 't1' };
    const both = (first: 0 | 1, second: 0 | 1) =>
      diffAssignments(
        held(),
        AssignmentsMessage.create({
          type: 1,
          applies_to: '1',
          changes: [change(first, { task }), change(second, { task })],
        }),
      );
    expect(both(0, 1)).toMatchObject({ tasks: [], removedTasks: ['t1'] });
    expect(both(1, 0)).toMatchObject({ tasks: [{ id: 't1' }], removedTasks: [] });
  });

  it('finds gaps', () => {
    const message = AssignmentsMessage.create({ type: 1, applies_to: '2', results_in: '3' });
    expect(diffAssignments(held(), message)).toBe('gap');
    expect(diffAssignments(held({ reference: undefined }), message)).toBe('gap');
  });
});
