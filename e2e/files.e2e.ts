import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { directSpawner, runChecked } from '../base/index.ts';
import { Bed } from './kit/index.ts';

/** Files of containers through the stock client: copies, differences, archives, images made of them. */
const bed = new Bed('files');
const dir = mkdtempSync(join(tmpdir(), 'shoal-e2e-files-'));
const at = (name: string): string => join(dir, name);

beforeAll(async () => {
  await bed.up({ managers: 1, workers: 0, swarm: false });
  await bed.client.run('import', '--change', 'CMD ["sleep","1000"]', await bed.archive(), 'busybox');
});
afterAll(async () => {
  await bed.down();
  rmSync(dir, { recursive: true, force: true });
});

const client = (): Bed['client'] => bed.client;

describe('docker cp', () => {
  it('copies files, directories and links both ways, also while the container is stopped', async () => {
    mkdirSync(at('tree/sub'), { recursive: true });
    writeFileSync(at('tree/sub/file'), 'content', { mode: 0o640 });
    symlinkSync('sub/file', at('tree/link'));
    await client().run('run', '-d', '--name', 'cp', '-v', 'vol:/vol', 'busybox');
    for (const state of ['running', 'stopped']) {
      if (state === 'stopped') await client().run('stop', '-t', '0', 'cp');
      await client().run('cp', at('tree'), `cp:/tmp/${state}`);
      await client().run('cp', at('tree/sub/file'), `cp:/vol/${state}`);
      await client().run('cp', at('tree/.'), `cp:/tmp/${state}`);
      await client().run('cp', `cp:/tmp/${state}`, at(state));
      expect(readFileSync(at(`${state}/sub/file`), 'utf8')).toBe('content');
      expect(statSync(at(`${state}/sub/file`)).mode & 0o777).toBe(0o640);
      expect(readlinkSync(at(`${state}/link`))).toBe('sub/file');
      await client().run('cp', '-L', `cp:/tmp/${state}/link`, at(`${state}-followed`));
      expect(readFileSync(at(`${state}-followed`), 'utf8')).toBe('content');
      await client().run('cp', `cp:/vol/${state}`, at(`${state}-vol`));
      expect(readFileSync(at(`${state}-vol`), 'utf8')).toBe('content');
      const packed = await client().try(['cp', `cp:/vol/${state}`, '-']);
      expect(packed.stdout).toContain('ustar');
    }
    expect(await client().fails('cp', 'cp:/none', at('x'))).toContain('Could not find the file /none in container cp');
    expect(await client().fails('cp', at('tree'), 'cp:/etc/passwd')).toMatch(/cannot copy directory|not a directory/);
    expect(await client().fails('cp', at('tree/sub/file'), 'cp:/none/x')).toMatch(/no such|Could not find/i);
    expect(await client().fails('cp', 'nobody:/x', at('x'))).toContain('No such container: nobody');
  });

  it("refuses what is read-only in Docker's words", async () => {
    await client().run('create', '--name', 'ro', '--read-only', '-v', 'vol:/vol:ro', 'busybox');
    expect(await client().fails('cp', at('tree'), 'ro:/tmp')).toContain('container rootfs is marked read-only');
    expect(await client().fails('cp', at('tree'), 'ro:/vol')).toContain('mounted volume is marked read-only');
    await client().run('rm', 'ro');
  });

  it('passes large files through without keeping them', async () => {
    const bytes = 256 * 1024 * 1024;
    writeFileSync(at('large'), '');
    truncateSync(at('large'), bytes);
    const before = bed.daemonMb('m1');
    await client().run('cp', at('large'), 'cp:/tmp/large');
    const during = bed.daemonMb('m1');
    await client().run('cp', 'cp:/tmp/large', at('back'));
    expect(statSync(at('back')).size).toBe(bytes);
    expect(Math.max(during, bed.daemonMb('m1')) - before).toBeLessThan(80);
    await client().run('rm', '-f', 'cp');
  });

  it('is not led astray by links that the container swaps meanwhile', async () => {
    writeFileSync(at('secret'), 'of the host');
    const swap = `mkdir /w /w/d; echo inside >/w/d/secret; cd /w
      while :; do mv d e; ln -s ${dir} d; rm d; mv e d; done`;
    await client().run('run', '-d', '--name', 'swap', 'busybox', 'sh', '-c', swap);
    mkdirSync(at('planted'));
    writeFileSync(at('planted/evil'), 'x');
    for (let i = 0; i < 6; i++) {
      const [read] = await Promise.all([
        client().try(['cp', 'swap:/w/d/secret', '-']),
        client().try(['cp', at('planted/evil'), 'swap:/w/d/']),
      ]);
      expect(read.stdout).not.toContain('of the host');
    }
    expect(readdirSync(dir)).not.toContain('evil');
    await client().run('rm', '-f', 'swap');
  });
});

describe('images made of containers', () => {
  it('hold what diff tells, and know where they come from', async () => {
    const script = 'echo new >/etc/new; rm /bin/yes; rm -r /root; echo x >>/etc/passwd';
    await client().run('run', '--name', 'made', '-e', 'A=1', 'busybox', 'sh', '-c', script);
    expect((await client().lines('diff', 'made')).sort()).toEqual(
      ['A /etc/new', 'C /bin', 'C /etc', 'C /etc/passwd', 'D /bin/yes', 'D /root'].sort(),
    );
    const id = await client().run('commit', '-a', 'me', '-m', 'why', '-c', 'CMD ["cat","/etc/new"]', 'made', 'made:1');
    expect(await client().run('run', '--rm', 'made:1')).toBe('new');
    expect(await client().run('run', '--rm', 'made:1', 'ls', '/')).not.toContain('root');
    const history = await client().lines('history', '--format', '{{.Comment}}|{{.Size}}', 'made:1');
    expect(history[0]).toMatch(/^why\|\d+B$/);
    expect(history[1]).toMatch(/^Imported from -\|/);
    expect(await client().run('ps', '-as', '--filter', 'name=made', '--format', '{{.Size}}')).toMatch(
      /^\d+B \(virtual /,
    );
    expect(await client().run('inspect', '-f', '{{.Parent}} {{.Author}}', 'made:1')).toMatch(
      /^sha256:[0-9a-f]{64} me$/,
    );
    expect(await client().run('images', '-q', '--no-trunc', '--filter', 'since=busybox')).toBe(id);
    expect(await client().fails('rmi', 'busybox')).toContain('is using its referenced image');
    await client().run('export', '-o', at('export.tar'), 'made');
    const names = await runChecked(directSpawner, { file: 'tar', args: ['-tf', at('export.tar')] });
    expect(names.split('\n')).toContain('etc/new');
    expect(names.split('\n')).not.toContain('bin/yes');
    await client().run('rm', 'made');
  });

  it('are saved with all their tags, loaded, pruned', async () => {
    await client().run('tag', 'made:1', 'made:2');
    await client().run('save', '-o', at('saved.tar'), 'made');
    await client().run('rmi', '-f', 'made:1', 'made:2');
    const zipped = at('saved.tar.gz');
    await runChecked(directSpawner, { file: 'gzip', args: ['-k', at('saved.tar')] });
    expect((await client().lines('load', '-i', zipped)).sort()).toEqual([
      'Loaded image: made:1',
      'Loaded image: made:2',
    ]);
    expect(await client().lines('images', '--filter', 'reference=ma*:2', '--format', '{{.Tag}}')).toEqual(['2']);
    expect(await client().run('image', 'prune', '-f')).toContain('Total reclaimed space: 0B');
    expect(await client().run('image', 'prune', '-af')).toContain('untagged: made:2');
    expect(await client().lines('images', '-q')).toEqual([]);
  });
});
