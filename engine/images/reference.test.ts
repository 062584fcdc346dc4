import { expect, test } from 'vitest';
import { familiarName, parseReference, repositoryOf, taggedReference, withDefaultTag } from './reference.ts';

const digest = `sha256:${'a'.repeat(64)}`;

test.each([
  ['busybox', 'docker.io/library/busybox', 'busybox:latest'],
  ['user/app:1.0', 'docker.io/user/app', 'user/app:1.0'],
  ['docker.io/busybox:v1', 'docker.io/library/busybox', 'busybox:v1'],
  ['index.docker.io/library/busybox', 'docker.io/library/busybox', 'busybox:latest'],
  ['localhost/x', 'localhost/x', 'localhost/x:latest'],
  ['localhost:5000/x', 'localhost:5000/x', 'localhost:5000/x:latest'],
  ['reg.example.com/a/b/c:t', 'reg.example.com/a/b/c', 'reg.example.com/a/b/c:t'],
  ['[::1]:5000/x', '[::1]:5000/x', '[::1]:5000/x:latest'],
  [`busybox@${digest}`, 'docker.io/library/busybox', `busybox@${digest}`],
  [`busybox:v1@${digest}`, 'docker.io/library/busybox', `busybox:v1@${digest}`],
  ['a__b/c--d.e', 'docker.io/a__b/c--d.e', 'a__b/c--d.e:latest'],
  ['library/a/b', 'docker.io/library/a/b', 'library/a/b:latest'],
])('%s', (text, repository, familiar) => {
  const reference = withDefaultTag(parseReference(text));
  expect(repositoryOf(reference)).toBe(repository);
  expect(familiarName(reference)).toBe(familiar);
  expect(withDefaultTag(parseReference(familiar))).toEqual(reference);
});

test.each([
  ['UPPER', 'invalid reference format: repository name (library/UPPER) must be lowercase'],
  ['host.io/a/B', 'invalid reference format: repository name (a/B) must be lowercase'],
  ['', 'invalid reference format'],
  ['a:', 'invalid reference format'],
  ['a:b:c', 'invalid reference format'],
  ['a//b', 'invalid reference format'],
  ['-a', 'invalid reference format'],
  ['a@sha256:12', 'invalid reference format'],
  ['a b', 'invalid reference format'],
  ['../etc', 'invalid reference format'],
  ['x'.repeat(256), 'repository name must not be more than 255 characters'],
  ['f'.repeat(64), 'cannot specify 64-byte hexadecimal strings'],
])('refuses %j', (text, words) => {
  expect(() => parseReference(text)).toThrow(words);
});

test('a tag given apart', () => {
  expect(taggedReference('a', '')).toMatchObject({ tag: 'latest' });
  expect(taggedReference('a:x', '')).toMatchObject({ tag: 'x' });
  expect(taggedReference('a', 'y')).toMatchObject({ tag: 'y' });
  expect(() => taggedReference('a', 'y z')).toThrow('invalid tag format');
  expect(() => taggedReference(`a@${digest}`, 'y')).toThrow('refusing to create a tag with a digest reference');
});
