import { expect, it } from 'vitest';
import { setText } from './why.ts';

it('sets long lines below their own beginning, and leaves pipes alone', () => {
  const text = 'Task web.1: pending\n\n  - one two three four five six seven eight nine ten\n';
  expect(setText(text, 0)).toBe(text);
  expect(setText(text, 40)).toBe('Task web.1: pending\n\n  - one two three four five six seven\n    eight nine ten\n');
  expect(setText(text, 5)).toBe(setText(text, 40));
});
