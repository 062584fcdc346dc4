import { expect, test } from 'vitest';
import { conmonArguments } from './conmon-version.ts';

test.each([
  ['2.1.6', true],
  ['2.0.30', true],
  ['2.0.29', false],
  ['2.0.29-dev', false],
  ['3.0.0', true],
  ['1.9.99', false],
  ['2', false],
  ['unknown', false],
])('conmon %s', (version, without) => {
  expect(conmonArguments(version)).toEqual(without ? ['--no-sync-log'] : []);
});
