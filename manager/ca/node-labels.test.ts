import { expect, it } from 'vitest';
import { checkedNodeLabels } from './node-labels.ts';

it('labels at join have bounds', () => {
  expect(checkedNodeLabels({ zone: 'a', ssd: '' })).toEqual({ zone: 'a', ssd: '' });
  const many = Object.fromEntries(Array.from({ length: 65 }, (_, i) => [`l${i}`, '']));
  expect(() => checkedNodeLabels(many)).toThrow('at most 64 labels');
  expect(() => checkedNodeLabels({ '': 'x' })).toThrow('a node label needs a name');
  expect(() => checkedNodeLabels({ zone: 'ä'.repeat(128) })).toThrow(
    "node label 'zone': name and value have at most 255",
  );
});
