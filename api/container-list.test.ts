/** The filters of `docker ps` and of `docker events`. */
import { describe, expect, it } from 'vitest';
import { notFound } from '../base/index.ts';
import { Filters } from './filters.ts';
import type { ContainerFacts, EventFacts, Ports } from './ports.ts';
import { listContainers } from './routes/container-list.ts';
import { eventPasses } from './routes/events.ts';
import { goDurationMs, pointInTimeMs } from './times.ts';

const base = {
  config: { name: '', labels: {}, network: { mode: 'none' } },
  state: 'running',
  startedMs: 1,
  exitCode: 0,
};
const container = (id: string, createdMs: number, more: object = {}, config: object = {}): ContainerFacts =>
  ({
    ...{ ...base, id, createdMs, imageId: 'i1', endpoints: [], mounts: [], ports: [] },
    ...more,
    config: { ...base.config, name: `n-${id}`, ...config },
  }) as unknown as ContainerFacts;

const all = [
  container('a', 1, { state: 'exited', exitCode: 3 }),
  container('b', 2, { imageId: 'i2' }, { exposedPorts: ['80/tcp', '53/udp'] }),
  container('c', 3, { state: 'paused', health: 'healthy' }, { labels: { x: '1', 'com.docker.swarm.task.id': 't' } }),
  container(
    'd',
    4,
    { state: 'created', startedMs: 0 },
    { network: { mode: 'sandbox', endpoints: [{ networkId: 'net' }] } },
  ),
  container('e', 5, { state: 'restarting', mounts: [{ name: 'vol', source: '/s', destination: '/data' }] }),
  container('f', 6, {}, { network: { mode: 'sandbox', endpoints: [], ports: [{ targetPort: 80, protocol: 'tcp' }] } }),
];
const images = [
  { id: 'i1', diffIds: ['l1'], name: 'base' },
  { id: 'i2', diffIds: ['l1', 'l2'], name: 'child' },
];
const ports = {
  engine: {
    containers: {
      list: () => [...all],
      inspect: (name: string) => {
        const found = all.find(({ id }) => id === name);
        if (found === undefined) throw notFound(`No such container: ${name}`);
        return found;
      },
    },
    images: {
      get: (name: string) => {
        const found = images.find((image) => image.name === name || image.id === name);
        if (found === undefined) throw notFound(`No such image: ${name}`);
        return found;
      },
    },
  },
} as unknown as Ports;

const ps = (filters: Record<string, string[]>, more: Record<string, string> = { all: '1' }): string =>
  listContainers(ports, new URLSearchParams({ ...more, filters: JSON.stringify(filters) }))
    .map(({ id }) => id)
    .join('');

describe('docker ps', () => {
  it('lists what lives, the newest first; a wanted status means all', () => {
    expect(ps({}, {})).toBe('fecb');
    expect(ps({}, { limit: '2' })).toBe('fe');
    expect(ps({ status: ['exited', 'created'] }, {})).toBe('da');
  });

  it('filters by what containers are', () => {
    expect(ps({ ancestor: ['base'] })).toBe('fedcba');
    expect(ps({ ancestor: ['child'] })).toBe('b');
    expect(ps({ ancestor: ['gone'] })).toBe('');
    expect(ps({ before: ['c'] })).toBe('ba');
    expect(ps({ since: ['c'] })).toBe('fed');
    expect(ps({ since: ['b'], before: ['e'] })).toBe('dc');
    expect(ps({ exited: ['3'] })).toBe('a');
    expect(ps({ exited: ['0'] })).toBe('');
    expect(ps({ expose: ['79-81'] })).toBe('b');
    expect(ps({ expose: ['53/udp'] })).toBe('b');
    expect(ps({ publish: ['80/tcp'] })).toBe('f');
    expect(ps({ health: ['healthy'] })).toBe('c');
    expect(ps({ 'is-task': ['true'] })).toBe('c');
    expect(ps({ label: ['x=1'] })).toBe('c');
    expect(ps({ name: ['^n-[ab]$'] })).toBe('ba');
    expect(ps({ network: ['net'] })).toBe('d');
    expect(ps({ volume: ['/data'] })).toBe('e');
    expect(ps({ volume: ['vol'] })).toBe('e');
  });

  it('refuses values that mean nothing', () => {
    expect(() => ps({ status: ['bogus'] })).toThrow('Unrecognised filter value for status: bogus');
    expect(() => ps({ health: ['fit'] })).toThrow('Unrecognised filter value for health: fit');
    expect(() => ps({ exited: ['x'] })).toThrow("invalid filter 'exited=x'");
    expect(() => ps({ publish: ['1:2'] })).toThrow("filter for 'publish' should not contain ':': 1:2");
    expect(() => ps({ before: ['nope'] })).toThrow('No such container: nope');
    expect(() => ps({ nope: ['1'] })).toThrow("invalid filter 'nope'");
  });
});

describe('docker events', () => {
  const event = (type: string, action: string, attributes: Record<string, string>, actorId = 'abc'): EventFacts => ({
    ...{ type, action, actorId, attributes },
    scope: 'local',
    timeMs: 0,
  });
  const passes = (filters: Record<string, string[]>, given: EventFacts): boolean =>
    eventPasses(given, new Filters(new Map(Object.entries(filters))));
  const health = event('container', 'health_status: healthy', { name: 'web', image: 'nginx:1', a: 'b' });

  it('are filtered by what they are about', () => {
    expect(passes({ container: ['web'] }, health)).toBe(true);
    expect(passes({ container: ['ab'] }, health)).toBe(true);
    expect(passes({ container: ['db'] }, health)).toBe(false);
    expect(passes({ volume: ['web'] }, health)).toBe(false);
    expect(passes({ event: ['health_status'] }, health)).toBe(true);
    expect(passes({ event: ['health_status: healthy'] }, health)).toBe(true);
    expect(passes({ event: ['health'] }, health)).toBe(false);
    expect(passes({ image: ['nginx'] }, health)).toBe(true);
    expect(passes({ image: ['nginx:2'] }, health)).toBe(false);
    expect(passes({ label: ['a=b'] }, health)).toBe(true);
    expect(passes({ type: ['image'] }, health)).toBe(false);
    expect(passes({ type: ['image', 'container'], scope: ['local'] }, health)).toBe(true);
    expect(passes({ image: ['r/i'] }, event('image', 'tag', { name: 'r/i:2' }, 'sha256:1'))).toBe(true);
  });
});

describe('times of filters', () => {
  it('are ages, seconds, or dates', () => {
    expect(goDurationMs('1h30m')).toBe(5_400_000);
    expect(goDurationMs('1.5s')).toBe(1500);
    expect(goDurationMs('-10ms')).toBe(-10);
    expect(goDurationMs('soon')).toBeUndefined();
    expect(pointInTimeMs('until', '24h', 100_000_000)).toBe(13_600_000);
    expect(pointInTimeMs('until', '1700000000.5', 0)).toBe(1_700_000_000_500);
    expect(pointInTimeMs('until', '2026-01-02T03:04:05Z', 0)).toBe(Date.UTC(2026, 0, 2, 3, 4, 5));
    expect(pointInTimeMs('until', '2026-01-02', 0)).toBe(new Date(2026, 0, 2).getTime());
    expect(() => pointInTimeMs('until', 'soon', 0)).toThrow('invalid value for "until": soon');
  });
});
