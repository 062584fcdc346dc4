import fc from 'fast-check';
import { expect, test } from 'vitest';
import { checkKey, type Operation } from './linear.ts';

let hints = 0;

function op(kind: Operation['kind'], start: number, end: number, rest: Partial<Operation>): Operation {
  const outcome = end === Number.POSITIVE_INFINITY ? 'unknown' : 'ok';
  return { kind, value: 0, expected: 0, found: -1, outcome, start, end, hint: hints++, ...rest };
}
const put = (value: number, start: number, end: number): Operation => op('put', start, end, { value });
const get = (found: number, start: number, end: number): Operation => op('get', start, end, { found });
const cas = (expected: number, value: number, found: number, start: number, end: number): Operation =>
  op('cas', start, end, { expected, value, found });
const NEVER = Number.POSITIVE_INFINITY;

test.each<[string, Operation[]]>([
  ['nothing', []],
  ['reads before and after a write', [get(0, 0, 1), put(1, 2, 3), get(1, 4, 5)]],
  ['a read beside a write sees either', [put(1, 0, 10), get(0, 1, 2), get(1, 3, 4)]],
  ['writes beside each other in any order', [put(1, 0, 10), put(2, 0, 10), get(2, 1, 2), get(1, 3, 4)]],
  ['an unknown write that nobody saw', [put(1, 0, 1), put(2, 2, NEVER), get(1, 3, 4), get(1, 90, 91)]],
  ['an unknown write that happened much later', [put(1, 0, 1), put(2, 2, NEVER), get(1, 50, 51), get(2, 90, 91)]],
  ['compare-and-set that succeeds', [put(1, 0, 1), cas(1, 2, 1, 2, 3), get(2, 4, 5)]],
  ['compare-and-set that fails and says why', [put(1, 0, 1), cas(7, 2, 1, 2, 3), get(1, 4, 5)]],
  ['unknown compare-and-set, seen', [put(1, 0, 1), cas(1, 2, -1, 2, NEVER), get(1, 3, 4), get(2, 5, 6)]],
])('good: %s', (_, history) => {
  expect(checkKey(history).ok).toBe(true);
});

test.each<[string, Operation[]]>([
  ['a stale read', [put(1, 0, 1), put(2, 2, 3), get(1, 4, 5)]],
  ['a lost write', [put(1, 0, 1), get(0, 2, 3)]],
  ['two reads that see writes in two orders', [put(1, 0, 9), put(2, 0, 9), get(1, 10, 11), get(2, 12, 13)]],
  ['a value from nowhere', [put(1, 0, 1), get(5, 2, 3)]],
  ['a read that goes back', [put(1, 0, 10), get(1, 1, 2), get(0, 3, 4)]],
  ['both of two compare-and-sets', [put(1, 0, 1), cas(1, 2, 1, 2, 9), cas(1, 3, 1, 2, 9)]],
  ['an unknown write seen, then unseen', [put(1, 0, 1), put(2, 2, NEVER), get(2, 3, 4), get(1, 5, 6)]],
  ['a value seen before it was written', [get(1, 0, 1), put(1, 2, 3)]],
  [
    'unknown compare-and-set seen although another value stood there',
    [put(1, 0, 1), cas(9, 2, -1, 2, NEVER), get(2, 3, 4)],
  ],
])('bad: %s', (_, history) => {
  const verdict = checkKey(history);
  expect(verdict.ok).toBe(false);
  expect(verdict.undecided).toBe(false);
  expect(verdict.explained).toBeLessThan(history.length);
});

/** All orders, without any cleverness; operations without an answer may be left out. */
function bruteForce(ops: readonly Operation[], state: number): boolean {
  if (ops.every((o) => o.outcome === 'unknown')) return true;
  const firstEnd = Math.min(...ops.map((o) => o.end));
  return ops.some((o, i) => {
    if (o.start > firstEnd) return false;
    let next = state;
    if (o.kind === 'put') next = o.value;
    else if (o.outcome === 'unknown') next = state === o.expected ? o.value : state;
    else if (o.found !== state) return false;
    else if (o.kind === 'cas' && o.found === o.expected) next = o.value;
    return bruteForce([...ops.slice(0, i), ...ops.slice(i + 1)], next);
  });
}

test('agrees with trying all orders', () => {
  const instant = fc.integer({ min: 0, max: 12 });
  const operation = fc.record({
    kind: fc.constantFrom('put' as const, 'get' as const, 'cas' as const),
    expected: fc.integer({ min: 0, max: 4 }),
    found: fc.integer({ min: 0, max: 4 }),
    start: instant,
    length: instant,
    known: fc.boolean(),
    hint: instant,
  });
  fc.assert(
    fc.property(fc.array(operation, { maxLength: 6 }), (specs) => {
      let next = 1;
      const history = specs.map((spec): Operation => {
        const known = spec.known || spec.kind === 'get';
        return {
          kind: spec.kind,
          value: spec.kind === 'get' ? 0 : next++,
          expected: spec.expected,
          found: known ? spec.found : -1,
          outcome: known ? 'ok' : 'unknown',
          start: spec.start,
          end: known ? spec.start + spec.length + 0.5 : NEVER,
          hint: spec.hint,
        };
      });
      expect(checkKey(history).ok).toBe(bruteForce(history, 0));
    }),
    { numRuns: 3000 },
  );
});

test('a long history with bursts is checked at once', () => {
  const history: Operation[] = [];
  for (let burst = 0; burst < 50; burst++) {
    const start = burst * 100;
    for (let i = 0; i < 60; i++) history.push({ ...put(burst * 60 + i + 1, start, start + 50), hint: burst * 100 + i });
    history.push(get(burst * 60 + 60, start + 60, start + 61));
  }
  expect(checkKey(history)).toMatchObject({ ok: true });
});
