import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { SeededRandom, systemRandom } from '../../base/index.ts';
import { Config, Service, ServiceRevision } from '../../proto/index.ts';
import { encodeSnapshot } from '../store/codec.ts';
import { TableSet } from '../store/tables.ts';
import { readContent, recordsOf, type Manifest } from './content.ts';
import { FORMAT, readBackup, writeBackup, type BackupRecord } from './format.ts';

const about: Omit<Manifest, 'counts'> = {
  clusterId: 'c1',
  nodeId: 'n1',
  raftIndex: 77,
  raftTerm: 3,
  stale: false,
  autolock: false,
  newestChangeMs: 5,
  members: [{ raftId: 9, nodeId: 'n1', addr: 'a:2377' }],
};
const options = { version: '0.1.0', createdMs: 1_700_000_000_000, random: new SeededRandom(1) };

function tables(): TableSet {
  const set = new TableSet();
  for (let i = 0; i < 300; i++) {
    set.put('service', Service.create({ id: `s${i}`, spec: { annotations: { name: `service-${i}` } } }));
  }
  const spec = { annotations: { name: 'service-0' } };
  set.put('revision', ServiceRevision.create({ id: 's0.1', service_id: 's0', number: 1, spec, reason: 'create' }));
  // Larger than a chunk, and of every byte value.
  const data = Uint8Array.from({ length: 700_000 }, (_, i) => (i * 31) % 256);
  set.put('config', Config.create({ id: 'big', spec: { annotations: { name: 'big' }, data } }));
  return set;
}

async function collect(bytes: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  for await (const part of bytes) parts.push(part);
  return Buffer.concat(parts);
}

async function* pieces(bytes: Buffer, size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

const make = async (passphrase?: string, set = tables()): Promise<Buffer> =>
  collect(await writeBackup(recordsOf(set, about), { ...options, passphrase }));

describe.each([
  ['in clear', undefined],
  ['encrypted', 'correct horse'],
])('a backup %s', (_how, passphrase) => {
  it.each([1_000, 65_536, 10_000_000])('is read as it was written, %i bytes at a time', async (size) => {
    const set = tables();
    const read = await readContent(pieces(await make(passphrase, set), size), passphrase);
    expect(Buffer.compare(encodeSnapshot(read.tables), encodeSnapshot(set))).toBe(0);
    expect(read.manifest).toMatchObject({ ...about, counts: { service: 300, config: 1, revision: 1, node: 0 } });
    expect(read.header).toMatchObject({ format: FORMAT, version: '0.1.0', createdMs: options.createdMs });
  });

  it('is refused wherever a bit is flipped, or it is cut, or goes on', async () => {
    const good = await make(passphrase);
    const random = new SeededRandom(7);
    const places = [
      0,
      9,
      12,
      16,
      40,
      good.length - 33,
      good.length - 1,
      ...Array.from({ length: 10 }, () => random.int(good.length)),
    ];
    for (const at of places) {
      const bad = Buffer.from(good);
      bad.writeUInt8(bad.readUInt8(at) ^ (1 << random.int(8)), at);
      await expect(readContent(pieces(bad, 65_536), passphrase), `flip at ${at}`).rejects.toThrow(
        /damaged|no backup|newer/,
      );
    }
    for (const length of [0, 5, 30, 400, good.length - 40, good.length - 1]) {
      const cut = pieces(good.subarray(0, length), 65_536);
      await expect(readContent(cut, passphrase), `cut at ${length}`).rejects.toThrow(/damaged|no backup/);
    }
    const longer = Buffer.concat([good, Buffer.from('x')]);
    await expect(readContent(pieces(longer, 65_536), passphrase)).rejects.toThrow('something follows its end');
  });
});

describe('a backup', () => {
  it('shows nothing of its content when it is encrypted, and opens for its passphrase only', async () => {
    const sealed = await make('correct horse');
    expect(sealed.includes('service-1')).toBe(false);
    expect((await make()).includes('service-1')).toBe(true);
    const read = (word?: string) => readContent(pieces(sealed, 65_536), word);
    await expect(read('battery staple')).rejects.toMatchObject({
      code: 'InvalidArgument',
      message: expect.stringContaining('the passphrase is wrong') as string,
    });
    await expect(read()).rejects.toThrow('the backup is encrypted: give its passphrase');
  });

  it('encrypts no two files with the same key', async () => {
    const [one, two] = await Promise.all([make('same'), make('same')]);
    expect(Buffer.compare(one, two)).not.toBe(0);
  });

  it('of a newer format is refused with the version that wrote it', async () => {
    const header = Buffer.from(
      JSON.stringify({ format: FORMAT + 1, version: '9.9.9', createdMs: 0, encryption: null }),
    );
    const length = Buffer.alloc(4);
    length.writeUInt32BE(header.length);
    const check = createHash('sha256').update(header).digest().subarray(0, 4);
    const file = Buffer.concat([Buffer.from('SHOALBAK'), length, check, header, Buffer.from('whatever')]);
    await expect(readContent(pieces(file, 100), undefined)).rejects.toMatchObject({
      code: 'FailedPrecondition',
      message: expect.stringContaining(
        'written by Shoal 9.9.9 in format 2; this version reads up to format 1',
      ) as string,
    });
  });

  it('that is none is told apart', async () => {
    await expect(readContent(pieces(Buffer.from('hello there, world'), 4), undefined)).rejects.toThrow(
      'this is no backup',
    );
  });

  it('streams: no more than a few chunks are held, whatever its size', async () => {
    const object: BackupRecord = { kind: 200, data: Buffer.alloc(100_000, 1) };
    function* many(): Generator<BackupRecord> {
      for (let i = 0; i < 600; i++) yield object;
    }
    const random = systemRandom;
    const bytes = await writeBackup(many(), { ...options, random, passphrase: 'word' });
    const before = process.memoryUsage().rss;
    let [largest, count] = [0, 0];
    const { records } = await readBackup(
      (async function* () {
        for await (const chunk of bytes) {
          largest = Math.max(largest, chunk.length);
          yield chunk;
        }
      })(),
      'word',
    );
    for await (const record of records()) count += record.data.length;
    expect([count, largest < 600_000]).toEqual([60_000_000, true]);
    expect(process.memoryUsage().rss - before).toBeLessThan(150e6);
  });
});
