/** Volume routes over a unix socket, with volumes that answer from memory. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { httpCall, httpJson, readText, silentLogger } from '../base/index.ts';
import type { Ports, VolumeFacts, VolumesPort } from './ports.ts';
import { ApiServer } from './server.ts';

const dir = mkdtempSync(join(tmpdir(), 'shoal-'));
const host = `unix://${join(dir, 'api.sock')}`;
const volume = (name: string, more: Partial<VolumeFacts> = {}): VolumeFacts => ({
  name,
  driver: 'local',
  mountpoint: `/v/${name}`,
  createdMs: 1500,
  labels: {},
  options: {},
  ...more,
});
const all = [volume('one', { labels: { a: 'b' } }), volume('two'), volume('far', { driver: 'nas', scope: 'global' })];
const seen: unknown[] = [];
const volumes = {
  listAll: () => Promise.resolve({ volumes: all, warnings: ['one is down'] }),
  inspect: () => Promise.resolve(volume('one', { status: { replicas: 3 } })),
  usersOf: (name: string) => (name === 'one' ? ['c1'] : []),
  create: (request: unknown) => {
    seen.push(request);
    return Promise.resolve(volume('made'));
  },
  prune: (options: Parameters<VolumesPort['prune']>[0]) => {
    seen.push(options.all);
    return Promise.resolve({ deleted: all.filter(options.matches).map(({ name }) => name), reclaimedBytes: 7 });
  },
} as unknown as VolumesPort;
const swarm = { state: () => ({ controlAvailable: false }) };
const ports = { system: { version: '0.1.0' }, engine: { volumes }, swarm } as unknown as Ports;
const server = new ApiServer({ ports, log: silentLogger });
beforeAll(() => server.listen(host));
afterAll(async () => {
  await server.close();
  rmSync(dir, { recursive: true, force: true });
});

const filter = (value: object): string => `filters=${encodeURIComponent(JSON.stringify(value))}`;

describe('volumes', () => {
  const names = async (query: string): Promise<string[]> => {
    const answer = await httpJson<{ Volumes: { Name: string }[] }>({ host, method: 'GET', path: `/volumes?${query}` });
    return answer.Volumes.map((one) => one.Name);
  };

  it('are listed by dangling, driver, label and name, with warnings', async () => {
    expect(await names('')).toEqual(['one', 'two', 'far']);
    expect(await names(filter({ dangling: ['true'] }))).toEqual(['two', 'far']);
    expect(await names(filter({ dangling: { '0': true } }))).toEqual(['one']);
    expect(await names(filter({ driver: ['nas'], name: ['fa'] }))).toEqual(['far']);
    expect(await names(filter({ label: ['a=b'] }))).toEqual(['one']);
    const bad = await httpCall({ host, method: 'GET', path: `/volumes?${filter({ dangling: ['maybe'] })}` });
    expect([bad.status, await readText(bad.body)]).toEqual([400, expect.stringContaining("invalid filter 'dangling=")]);
    expect(await httpJson({ host, method: 'GET', path: '/volumes' })).toMatchObject({ Warnings: ['one is down'] });
  });

  it('are inspected with their status, and made without a name when none is given', async () => {
    expect(await httpJson({ host, method: 'GET', path: '/volumes/one' })).toEqual({
      ...{ CreatedAt: '1970-01-01T00:00:01Z', Driver: 'local', Labels: null, Mountpoint: '/v/one', Name: 'one' },
      ...{ Options: null, Scope: 'local', Status: { replicas: 3 } },
    });
    await httpJson({ host, method: 'POST', path: '/volumes/create', body: {} });
    expect(seen.at(-1)).toEqual({ name: '', driver: '', labels: {}, options: {} });
  });

  it('are pruned as the client’s version has it, by labels', async () => {
    const prune = (version: string, value: object): Promise<object> =>
      httpJson({ host, method: 'POST', path: `/v${version}/volumes/prune?${filter(value)}` });
    expect(await prune('1.50', { label: ['a'] })).toEqual({ VolumesDeleted: ['one'], SpaceReclaimed: 7 });
    expect(seen.at(-1)).toBe(false);
    expect(await prune('1.50', { all: ['true'], 'label!': ['a'] })).toMatchObject({ VolumesDeleted: ['two', 'far'] });
    expect(seen.at(-1)).toBe(true);
    await prune('1.41', {});
    expect(seen.at(-1)).toBe(true);
  });

  it('cannot be updated', async () => {
    const answer = await httpCall({ host, method: 'PUT', path: '/volumes/one?version=1', body: {} });
    expect(answer.status).toBe(503);
    expect(await readText(answer.body)).toContain(
      'volume update only valid for cluster volumes, but swarm is unavailable',
    );
  });
});
