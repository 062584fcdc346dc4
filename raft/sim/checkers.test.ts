import { expect, test } from 'vitest';
import type { Membership } from '../core/index.ts';
import type { Raft } from '../core/index.ts';
import { DiskAccount, type AccountedMember } from './account.ts';
import { Checkers, Violation } from './checkers.ts';

/** As much of a member as the checkers look at. */
function core(id: number, term: number, terms: readonly number[]): Raft {
  const fake = { id, term, firstIndex: 1, lastIndex: terms.length, termAt: (index: number) => [0, ...terms][index] };
  return fake as unknown as Raft;
}

test('election safety: a term has one leader', () => {
  const checkers = new Checkers();
  checkers.leads(core(1, 5, []));
  checkers.leads(core(1, 5, []));
  checkers.leads(core(2, 6, []));
  expect(() => checkers.leads(core(3, 5, []))).toThrow('election safety: members 1 and 3 both lead term 5');
});

test('leader completeness: a leader has what was committed in earlier terms, not what comes later', () => {
  const checkers = new Checkers();
  checkers.committed(core(1, 2, [1, 2]), 1);
  checkers.committed(core(1, 2, [1, 2]), 2);
  checkers.leads(core(2, 3, [1, 2, 2]));
  // Led term 2 before; nobody asks a leader for what was committed in its own term or later.
  checkers.leads(core(1, 2, [1]));
  expect(() => checkers.leads(core(3, 4, [1]))).toThrow('leader completeness');
  expect(() => checkers.leads(core(3, 5, [1, 1]))).toThrow('leader completeness');
});

test('log matching: an index and a term name one entry and one history', () => {
  const data = Uint8Array.of(1);
  const checkers = new Checkers();
  checkers.entry(1, 7, 3, 2, data);
  checkers.entry(2, 7, 3, 2, Uint8Array.of(1));
  checkers.entry(2, 7, 3, undefined, data);
  checkers.entry(2, 7, 4, 3, Uint8Array.of(9));
  expect(() => checkers.entry(3, 7, 3, 1, data)).toThrow('follows term 1 on member 3, term 2 elsewhere');
  expect(() => checkers.entry(3, 7, 3, 2, Uint8Array.of(2))).toThrow('differs on member 3');
});

test('state-machine safety: one command and one state at an index', () => {
  const checkers = new Checkers();
  checkers.committed(core(1, 2, [1, 2]), 2);
  expect(() => checkers.committed(core(2, 2, [1, 1]), 2)).toThrow('state-machine safety');
  checkers.applied(1, 4, 70, 111);
  checkers.applied(2, 4, 70, 111);
  expect(() => checkers.applied(3, 4, 71, 111)).toThrow('write 71 at 4, not 70');
  expect(() => checkers.applied(3, 4, 70, 112)).toThrow('another state after 4');
  checkers.restored(2, 6, 111);
  expect(() => checkers.restored(2, 6, 5)).toThrow('another state');
});

test('an acknowledged write is where it was said to be', () => {
  const checkers = new Checkers();
  checkers.applied(1, 4, 70, 111);
  checkers.acknowledge(70, 4);
  expect(() => checkers.acknowledge(71, 4)).toThrow(Violation);
  expect(() => checkers.acknowledge(70, 5)).toThrow(Violation);
});

function membership(voters: number[], outgoing: number[] = []): Membership {
  const none: ReadonlySet<number> = new Set();
  return { voters: new Set(voters), outgoing: new Set(outgoing), learners: none, learnersNext: none, autoLeave: false };
}

function account(health: Record<number, AccountedMember['health']>, force: Membership[]): DiskAccount {
  const members = new Map<number, AccountedMember>();
  const ids = Object.keys(health).map(Number);
  for (const [i, id] of ids.entries()) {
    members.set(id, { id, health: health[id] ?? 'sound', membership: force[i] ?? force[0] ?? null, retired: false });
  }
  return new DiskAccount(members);
}

function may(made: DiskAccount, id: number, health: AccountedMember['health'] = 'sound'): boolean {
  return made.mayDamage({ id, health, membership: null, retired: false });
}

test('a majority of disks stays sound in every membership that anybody decides by', () => {
  const three = membership([1, 2, 3]);
  expect(may(account({ 1: 'sound', 2: 'sound', 3: 'sound' }, [three]), 1)).toBe(true);
  expect(may(account({ 1: 'sound', 2: 'damaged', 3: 'sound' }, [three]), 1)).toBe(false);
  expect(may(account({ 1: 'damaged', 2: 'sound', 3: 'sound' }, [three]), 1, 'damaged')).toBe(true);
  // Member 3 still decides by an older membership, in which 1 and 2 are a majority by themselves.
  const mixed = account({ 1: 'sound', 2: 'sound', 3: 'sound', 4: 'sound' }, [
    membership([1, 2, 3, 4]),
    membership([1, 2]),
  ]);
  expect(may(mixed, 1)).toBe(false);
  expect(may(mixed, 3)).toBe(true);
  const joint = account({ 1: 'sound', 2: 'sound', 3: 'sound', 4: 'dead' }, [membership([1, 2, 3], [3, 4])]);
  expect(may(joint, 3)).toBe(false);
  const coming = account({ 1: 'sound', 2: 'sound', 3: 'sound' }, [three]);
  const pending = { voters: new Set([1, 2]) };
  coming.expect(pending);
  expect(may(coming, 1)).toBe(false);
  coming.forget(pending);
  expect(may(coming, 1)).toBe(true);
});
