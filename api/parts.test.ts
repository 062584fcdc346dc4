/** Routes, filters, query values, versions, frames. */
import { describe, expect, it, test } from 'vitest';
import { queryBool, queryInt, queryTime, queryTimeMs, queryVersion } from './body.ts';
import { Filters } from './filters.ts';
import { Router, type Handler } from './router.ts';
import { tailCount, wireTail } from './routes/service-logs.ts';
import { frame } from './stream.ts';
import { API_VERSION, checkVersion, MIN_API_VERSION, olderThan } from './versions.ts';

const nothing: Handler = () => Promise.resolve();
const query = (text: string): URLSearchParams => new URLSearchParams(text);
const filters = (value: unknown, allowed = ['label', 'name', 'id']): Filters =>
  Filters.parse(query(`filters=${encodeURIComponent(JSON.stringify(value))}`), allowed);

describe('router', () => {
  const router = new Router([
    { method: 'GET', path: '/images/json', handler: nothing },
    { method: 'GET', path: '/images/{name*}/json', handler: nothing },
    { method: 'POST', path: '/nodes/{id}/update', handler: nothing },
  ]);

  it('captures segments, several of them where it is told to', () => {
    expect(router.find('GET', '/images/json')?.params).toEqual({});
    expect(router.find('GET', '/images/host:5000/a/b:1/json')?.params).toEqual({ name: 'host:5000/a/b:1' });
    expect(router.find('POST', '/nodes/a%2Fb/update')?.params).toEqual({ id: 'a/b' });
  });

  it('finds nothing for other methods and longer paths', () => {
    expect(router.find('DELETE', '/images/json')).toBeUndefined();
    expect(router.find('POST', '/nodes/a/b/update')).toBeUndefined();
    expect(router.find('POST', '/nodes//update')).toBeUndefined();
  });

  it('refuses escapes that are none', () => {
    expect(() => router.find('POST', '/nodes/%zz/update')).toThrow('invalid URL escape in "%zz"');
  });
});

describe('filters', () => {
  it('come in a new and an old form', () => {
    expect(filters({ name: { a: true, b: true } }).get('name')).toEqual(['a', 'b']);
    expect(filters({ name: ['a'] }).get('name')).toEqual(['a']);
    expect(Filters.parse(query(''), []).has('name')).toBe(false);
  });

  it('are refused when unknown or malformed', () => {
    expect(() => filters({ colour: ['red'] })).toThrow("invalid filter 'colour'");
    for (const bad of ['x', '[]', '1', '{"name":1}']) {
      expect(() => Filters.parse(query(`filters=${encodeURIComponent(bad)}`), ['name'])).toThrow('invalid filter');
    }
  });

  it('match when absent, or by one of their values', () => {
    const some = filters({ name: ['a', 'b'] });
    expect([some.matches('name', 'b'), some.matches('name', 'c'), some.matches('id', 'x')]).toEqual([
      true,
      false,
      true,
    ]);
    expect(some.some('name', (wanted) => wanted > 'a')).toBe(true);
  });

  it('find names by part or by regular expression, as dockerd does', () => {
    const found = (wanted: string): string[] =>
      ['web', 'webs', 'my-web', 'a[b'].filter((name) => filters({ name: [wanted] }).found('name', name));
    expect(found('web')).toEqual(['web', 'webs', 'my-web']);
    expect(found('^web')).toEqual(['web', 'webs']);
    expect(found('^web$')).toEqual(['web']);
    expect(found('a[b')).toEqual(['a[b']);
    expect(found(`(${'web'.repeat(100)})?`)).toEqual([]);
    expect(filters({}).found('name', 'x')).toBe(true);
  });

  it('want all labels', () => {
    const labels = filters({ label: ['tier=front', 'team'] });
    expect(labels.labels()).toEqual({ tier: 'front', team: '' });
    expect(labels.matchesLabels({ tier: 'front', team: 'x' })).toBe(true);
    expect(labels.matchesLabels({ tier: 'back', team: 'x' })).toBe(false);
    expect(filters({ label: ['constructor'] }).matchesLabels({})).toBe(false);
  });
});

describe('query values', () => {
  it('are booleans as Docker reads them', () => {
    for (const no of ['', 'x=', 'x=0', 'x=false', 'x=No', 'x=none']) expect(queryBool(query(no), 'x')).toBe(false);
    for (const yes of ['x=1', 'x=true', 'x=anything']) expect(queryBool(query(yes), 'x')).toBe(true);
  });

  it('are numbers, times and versions', () => {
    expect([queryInt(query('t=-1'), 't'), queryInt(query(''), 't')]).toEqual([-1, undefined]);
    expect(() => queryInt(query('t=1.5'), 't')).toThrow('invalid value for t: 1.5');
    expect(queryTimeMs(query('since=1700000000.25'), 'since')).toBe(1_700_000_000_250);
    expect(queryTimeMs(query('since=2023-11-14T22:13:20Z'), 'since')).toBe(1_700_000_000_000);
    expect(queryTimeMs(query('since=0'), 'since')).toBeUndefined();
    expect(() => queryTimeMs(query('since=soon'), 'since')).toThrow('invalid value for since');
    expect(queryVersion(query('version=12'), 'service')).toBe(12);
    expect(() => queryVersion(query(''), 'service')).toThrow("invalid service version '': must be a number");
  });

  it('are tails', () => {
    expect([tailCount(query('tail=all')), tailCount(query('tail=5')), tailCount(query(''))]).toEqual([
      undefined,
      5,
      undefined,
    ]);
    expect([wireTail(undefined), wireTail(0), wireTail(5)]).toEqual([0, -1, -6]);
  });
});

describe('versions', () => {
  it('compare by number, not by text', () => {
    expect(olderThan('1.9', '1.10')).toBe(true);
    expect(olderThan('1.41', '1.41')).toBe(false);
    checkVersion(API_VERSION);
    checkVersion(MIN_API_VERSION);
    expect(() => checkVersion('1.23')).toThrow(
      `client version 1.23 is too old. Minimum supported API version is ${MIN_API_VERSION}`,
    );
    expect(() => checkVersion('2.0')).toThrow(`Maximum supported API version is ${API_VERSION}`);
  });
});

describe('frames', () => {
  it('have a stream, three zeros, a length and the text', () => {
    expect([...frame('stdout', Buffer.from('ab'))]).toEqual([1, 0, 0, 0, 0, 0, 0, 2, 97, 98]);
    expect([...frame('stderr', new Uint8Array())]).toEqual([2, 0, 0, 0, 0, 0, 0, 0]);
    expect(frame('stdout', Buffer.alloc(70_000)).readUInt32BE(4)).toBe(70_000);
  });
});

test.each([
  ['1700000000.123456789', '2023-11-14T22:13:20.123456789Z'],
  ['1700000000', '2023-11-14T22:13:20.000000000Z'],
  ['2023-11-14T23:13:20.5+01:00', '2023-11-14T22:13:20.500000000Z'],
  ['0', undefined],
  ['0.000000000', undefined],
  ['', undefined],
])('the time %s of a query', (text, expected) => {
  expect(queryTime(new URLSearchParams({ since: text }), 'since')).toBe(expected);
  expect(() => queryTime(new URLSearchParams({ since: 'noon' }), 'since')).toThrow('invalid value for since: noon');
});
