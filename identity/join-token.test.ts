import { createHash } from 'node:crypto';
import { expect, it } from 'vitest';
import { SeededRandom } from '../base/index.ts';
import { checkRootDigest, makeJoinToken, parseJoinToken, rootDigest, sameToken } from './join-token.ts';

it('makes tokens of the documented form and reads them back', () => {
  const token = makeJoinToken('root', new SeededRandom(1));
  expect(token).toMatch(/^SWMTKN-1-[0-9a-z]{50}-[0-9a-z]{25}$/);
  expect(parseJoinToken(token).digest).toBe(rootDigest('root'));
  const value = BigInt(`0x${createHash('sha256').update('root').digest('hex')}`);
  expect(rootDigest('root')).toBe(value.toString(36).padStart(50, '0'));
});

it('refuses malformed tokens in the words of Docker', () => {
  const good = makeJoinToken('root');
  for (const bad of ['', 'x', 'SWMTKN-1-a-b', good.slice(0, -1), `${good}-x`, good.replace('SWMTKN-1', 'SWMTKN-3')]) {
    expect(() => parseJoinToken(bad)).toThrow('invalid join token');
  }
});

it('names the expected fingerprint when the root is another', () => {
  const token = parseJoinToken(makeJoinToken('root'));
  checkRootDigest('root', token);
  expect(() => checkRootDigest('other', token)).toThrow(
    `remote CA does not match fingerprint. Expected: ${token.digest}`,
  );
});

it('compares whole tokens; an empty one matches nothing', () => {
  expect(sameToken('a', 'a')).toBe(true);
  expect(sameToken('a', 'b')).toBe(false);
  expect(sameToken('', '')).toBe(false);
});
