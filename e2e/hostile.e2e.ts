import {
  createReadStream,
  createWriteStream,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { createGzip } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { directSpawner, runChecked } from '../base/index.ts';
import { cgroupRoots } from '../lab/index.ts';
import { Bed, seconds, until } from './kit/index.ts';

/** What means harm to the host, through the stock client: contained, with a clear error, and nothing left of it. */
const bed = new Bed('hostile');
/** The disk of the daemon: soon full. */
const DISK_MB = 128;
let image = '';

beforeAll(async () => {
  await bed.up({ managers: 1, workers: 0, swarm: false });
  await bed.lab.kill('m1');
  const disk = bed.lab.names.hostDataDir('m1');
  await bed.inside('m1', ['mount', '-t', 'tmpfs', '-o', `size=${DISK_MB}m`, 'small', disk]);
  await bed.lab.start('m1');
  image = `${await bed.serveImages()}:v1`;
});
afterAll(() => bed.down());

/** The directory of all containers' control groups in the tree that counts processes. */
function processLimits(): string {
  const root = cgroupRoots().find((path) => existsSync(join(path, groups(), 'pids.max')));
  return join(root ?? '/sys/fs/cgroup', groups());
}
const groups = (): string => `${bed.lab.names.hostCgroup('m1')}/containers`;

async function doctorIsClean(): Promise<void> {
  expect((await bed.on('m1', 'shoal').try(['doctor'])).stdout).toMatch(/\nOK: nothing is wrong\n$/);
}

async function usedKiB(): Promise<number> {
  const words = await bed.inside('m1', ['df', '--output=used', bed.lab.names.hostDataDir('m1')]);
  return Number(words.split('\n').at(-1));
}

/** Runs a container to its end; returns its exit code and all it has written. It stays when it has a name. */
async function ended(...args: string[]): Promise<{ code: number; words: string }> {
  const id = await bed.client.run('run', '-d', ...args);
  const code = Number(await bed.client.run('wait', id));
  const { stdout, stderr } = await bed.client.try(['logs', id]);
  if (!args.includes('--name')) await bed.client.run('rm', id);
  return { code, words: `${stdout}${stderr}` };
}

describe('inside a container', () => {
  it('a fork bomb meets its own limit, and the daemon goes on', async () => {
    const bomb = 'bomb() { bomb | bomb & }; bomb; sleep 100';
    await bed.client.run('run', '-d', '--name', 'bomb', '--pids-limit', '40', image, 'sh', '-c', bomb);
    const { Id } = await bed.client.inspect<{ Id: string }>('inspect', 'bomb');
    const events = join(processLimits(), Id, 'pids.events');
    await until('the limit is met', 20_000, () => /max [1-9]/.test(readFileSync(events, 'utf8')));
    expect(Number(readFileSync(join(processLimits(), Id, 'pids.current'), 'utf8'))).toBeLessThanOrEqual(40);
    await until('it is told', 10_000, async () => {
      const { stdout, stderr } = await bed.client.try(['logs', 'bomb']);
      return /can't fork|Resource temporarily unavailable/.test(stdout + stderr);
    });
    expect(await ended(image, 'echo', 'well')).toEqual({ code: 0, words: 'well\n' });
    expect(await seconds(() => bed.client.run('rm', '-f', 'bomb'))).toBeLessThan(12);
    await doctorIsClean();
  });

  it('all containers together leave process numbers to the host', () => {
    const most = Number(readFileSync('/proc/sys/kernel/pid_max', 'utf8'));
    const limit = Number(readFileSync(join(processLimits(), 'pids.max'), 'utf8'));
    expect(limit).toBeGreaterThan(0);
    expect(limit).toBeLessThan(most);
  });

  it('a filled disk is an error in the container; the daemon answers, and space comes back with its removal', async () => {
    const before = await usedKiB();
    const { code, words } = await ended('--name', 'fill', image, 'dd', 'if=/dev/zero', 'of=/fill', 'bs=1M');
    expect(code).toBe(1);
    expect(words === '' || words.includes('No space left on device')).toBe(true);
    expect(await bed.client.lines('ps', '-aq')).toHaveLength(1);
    const none = await bed.client.fails('run', '-d', '--name', 'more', image, 'true');
    expect(none).toMatch(/no space left on device/i);
    expect(none.length).toBeLessThan(600);
    await bed.client.try(['rm', '-f', 'more']);
    await bed.client.run('rm', 'fill');
    expect(await ended(image, 'echo', 'well')).toEqual({ code: 0, words: 'well\n' });
    expect(await usedKiB()).toBeLessThan(before + 2048);
    await doctorIsClean();
  });

  it('a filled tmpfs is an error in the container', async () => {
    const dd = ['dd', 'if=/dev/zero', 'of=/t/fill', 'bs=64k'];
    const { code, words } = await ended('--tmpfs', '/t:size=1m', image, ...dd);
    expect(code).toBe(1);
    expect(words).toContain('No space left on device');
  });
});

describe('archives', () => {
  /** Zeros without end, compressed. */
  async function bomb(name: string, megabytes: number, packer: string): Promise<string> {
    const [plain, packed] = [bed.file(`${name}.plain`), bed.file(name)];
    await runChecked(directSpawner, { file: 'truncate', args: ['-s', `${megabytes}M`, plain] });
    if (packer === 'gzip') await pipeline(createReadStream(plain), createGzip({ level: 1 }), createWriteStream(packed));
    else await runChecked(directSpawner, { file: packer, args: ['-1', '-q', plain, '-o', packed] });
    return packed;
  }

  it.each(['gzip', 'zstd'])('that grow without end (%s) are stopped, and nothing is left of them', async (packer) => {
    const path = await bomb(`bomb.${packer}`, 400, packer);
    const before = await usedKiB();
    for (const verb of [
      ['load', '-i', path],
      ['import', path, 'bomb:1'],
    ]) {
      const words = await bed.client.fails(...verb);
      expect(words).toContain(`no space left on device: the ${packer} archive does not fit below`);
    }
    expect(await usedKiB()).toBeLessThan(before + 1024);
    expect(await bed.client.lines('images', '-q', 'bomb')).toEqual([]);
    await doctorIsClean();
  });

  it('whose names climb out are refused', async () => {
    const dir = bed.file('climb');
    mkdirSync(dir);
    writeFileSync(join(dir, 'f'), 'bad');
    const path = bed.file('climb.tar');
    const args = ['-P', '-cf', path, '-C', dir, '--transform', 's,^f$,../../../../shoal-hostile,', 'f'];
    await runChecked(directSpawner, { file: 'tar', args });
    expect(await bed.client.fails('import', path, 'climb:1')).toContain('climbs out of it');
    expect(existsSync('/shoal-hostile')).toBe(false);
    await doctorIsClean();
  });

  it('keep setuid files and device nodes, which the container may not use', async () => {
    const dir = bed.file('special');
    mkdirSync(dir);
    const make =
      'cp /bin/busybox .; cp /bin/busybox su; chmod 4755 su; mknod disk b 254 0; mknod null c 1 3; chmod 666 null';
    await runChecked(directSpawner, { file: 'sh', args: ['-ec', make], cwd: dir });
    const path = bed.file('special.tar');
    await runChecked(directSpawner, { file: 'tar', args: ['-cf', path, '-C', dir, '.'] });
    await bed.client.run('import', path, 'special:1');
    const script = '/busybox stat -c "%A %n" /su /disk; /busybox head -c1 /disk; echo x >/null && echo fine';
    const { words } = await ended('special:1', '/busybox', 'sh', '-c', script);
    expect(words).toContain('-rwsr-xr-x /su');
    expect(words).toMatch(/^b\S+ \/disk$/m);
    expect(words).toContain('/disk: Operation not permitted');
    expect(words).toContain('fine');
  });
});

describe('a registry', () => {
  it('that serves other bytes than its digests say is not believed', async () => {
    await bed.client.run('tag', image, `${bed.registry}/false:1`);
    await bed.client.run('push', `${bed.registry}/false:1`);
    await bed.client.run('rmi', '-f', `${bed.registry}/false:1`, image, image.replace(/v1$/, 'v2'));
    const blobs = join(bed.lab.names.dataDir, 'registry/docker/registry/v2/blobs/sha256');
    const files = readdirSync(blobs, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('/data'));
    for (const name of files) {
      const bytes = readFileSync(join(blobs, name));
      // Layers only: what is no JSON.
      if (bytes[0] === 0x7b) continue;
      bytes[bytes.length - 20] = (bytes.at(-20) ?? 0) ^ 0xff;
      writeFileSync(join(blobs, name), bytes);
    }
    const words = await bed.client.fails('pull', `${bed.registry}/false:1`);
    expect(words).toMatch(/verification failed|does not match|damaged/);
    expect(await bed.client.lines('images', '-q', `${bed.registry}/false`)).toEqual([]);
    await doctorIsClean();
  });
});

it('leaves nothing behind', async () => {
  await bed.down();
  expect(bed.lab.leftovers()).toEqual([]);
});
