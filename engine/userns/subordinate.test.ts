import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeEach, describe, expect, it } from 'vitest';
import { silentLogger, type SpawnRequest, type SpawnResult } from '../../base/index.ts';
import { capabilityInside, capabilityOnHost } from './file-capabilities.ts';
import { hostId, insideId } from './ids.ts';
import { remapIds, type RemapOptions } from './subordinate.ts';

const base = mkdtempSync(join(tmpdir(), 'shoal-subid-'));
afterAll(() => rmSync(base, { recursive: true, force: true }));

const at = (name: string): string => join(base, name);
const files = { passwd: at('passwd'), group: at('group'), subuid: at('subuid'), subgid: at('subgid') };
const put = (texts: Partial<Record<keyof typeof files, string>>): void => {
  for (const [name, text] of Object.entries(texts)) writeFileSync(at(name), text);
};

/** Takes useradd's part. */
function run(request: SpawnRequest): Promise<SpawnResult> {
  expect(request.file).toBe('useradd');
  writeFileSync(files.passwd, `${readFileSync(files.passwd, 'utf8')}dockremap:x:999:999::/:/bin/false\n`);
  const none = Buffer.alloc(0);
  return Promise.resolve({ code: 0, signal: null, stdout: none, stderr: none, truncated: false, timedOut: false });
}

const options: RemapOptions = { spawner: { run, close: () => undefined }, log: silentLogger, files };
const remap = (spec: string): ReturnType<typeof remapIds> => remapIds(spec, options);

beforeEach(() =>
  put({
    passwd: 'root:x:0:0::/:/bin/sh\nanna:x:1000:1000::/:/bin/sh\nbert:x:1001:1001::/:/bin/sh\n',
    group: 'root:x:0:\nanna:x:1000:\nteam:x:50:anna\n',
    subuid: '# ids\nanna:100000:65536\nbert:300000:10\n1000:200000:4',
    subgid: 'anna:500000:65536\nteam:600000:65536\n',
  }),
);

describe('the ids of --userns-remap', () => {
  const uids = [
    { inside: 0, outside: 100_000, count: 65_536 },
    { inside: 65_536, outside: 200_000, count: 4 },
  ];
  const gids = [{ inside: 0, outside: 500_000, count: 65_536 }];

  it.each(['anna', '1000', 'anna:anna', '1000:1000', 'anna:team', 'anna:50'])('%s', async (spec) => {
    expect(await remap(spec)).toEqual({ uids, gids });
  });

  it('are those of the group where the user has none', async () => {
    put({ subgid: 'team:600000:65536\n' });
    expect((await remap('anna:team'))?.gids[0]?.outside).toBe(600_000);
  });

  it('are nobody’s for root and for nothing', async () => {
    expect([await remap(''), await remap('root'), await remap('0')]).toEqual([undefined, undefined, undefined]);
  });

  it('are made with the user of default, behind all others, once', async () => {
    const found = await remap('default');
    expect(found?.uids).toEqual([{ inside: 0, outside: 300_010, count: 65_536 }]);
    expect(found?.gids).toEqual([{ inside: 0, outside: 665_536, count: 65_536 }]);
    expect(await remap('default')).toEqual(found);
    expect(await remap('dockremap')).toEqual(found);
    expect(readFileSync(files.subuid, 'utf8')).toMatch(/\n1000:200000:4\ndockremap:300010:65536\n$/);
  });

  it.each([
    ['carla', `there is no user "carla" in ${files.passwd}`],
    ['anna:nobody', `there is no group "nobody" in ${files.group}`],
    ['bert', `no subgid ranges found for user "bert": add the line bert:665536:65536 to ${files.subgid}`],
    ['a:b:c', 'invalid user/group specification in --userns-remap: "a:b:c"'],
    ['anna:', 'invalid user/group specification in --userns-remap: "anna:"'],
  ])('%s is refused', async (spec, words) => {
    await expect(remap(spec)).rejects.toThrow(words);
  });

  it.each([
    ['anna:0:65536', 'holds root of this host'],
    ['anna:x:65536', 'is no range: owner:first:count'],
    ['anna:4294967000:65536', 'is no range'],
    ['anna:100000:0', 'is no range'],
  ])('the line %s is refused', async (line, words) => {
    put({ subuid: `${line}\n` });
    await expect(remap('anna')).rejects.toThrow(words);
  });
});

it('ids and capabilities of files go both ways', () => {
  const ranges = [
    { inside: 0, outside: 1000, count: 10 },
    { inside: 10, outside: 5000, count: 5 },
  ];
  expect([0, 9, 10, 14].map((id) => hostId(ranges, id))).toEqual([1000, 1009, 5000, 5004]);
  expect([1000, 1009, 5000, 5004, 0, 1010].map((id) => insideId(ranges, id))).toEqual([0, 9, 10, 14, 65_534, 65_534]);
  expect(() => hostId(ranges, 15)).toThrow('Container ID 15 cannot be mapped to a host ID');
  const inside = Buffer.from('0100000200200000000000000000000000000000', 'hex');
  const host = Buffer.from('0100000300200000000000000000000000000000e8030000', 'hex');
  expect(capabilityOnHost(inside, 1000)).toEqual(host);
  expect(capabilityInside(host, 1000)).toEqual(inside);
  expect(capabilityInside(host, 1001)).toEqual(host);
});
