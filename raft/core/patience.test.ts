import { expect, test } from 'vitest';
import { Patience } from './patience.ts';

const after = (silences: readonly number[]): Patience => {
  const patience = new Patience();
  for (const silence of silences) patience.heard(silence);
  return patience;
};

test('a leader that is heard in time gets no more than the election timeout', () => {
  expect(after([]).extraTicks(10)).toBe(0);
  expect(after([2, 5, 3]).extraTicks(10)).toBe(0);
});

test('one that was late gets twice its longest silence, up to two election timeouts more', () => {
  expect(after([7, 2]).extraTicks(10)).toBe(4);
  expect(after([9]).extraTicks(10)).toBe(8);
  expect(after([14, 13, 60]).extraTicks(10)).toBe(20);
});

test('lateness is forgotten, a tick of it in sixty', () => {
  const patience = after([9]);
  const tick = (count: number): void => {
    for (let i = 0; i < count; i++) patience.tick();
  };
  tick(59);
  expect(patience.extraTicks(10)).toBe(8);
  tick(1);
  expect(patience.extraTicks(10)).toBe(6);
  patience.heard(8);
  tick(59);
  expect(patience.extraTicks(10)).toBe(6);
  tick(60 * 8);
  expect(patience.extraTicks(10)).toBe(0);
});
