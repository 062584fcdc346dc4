import { mkdirSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Bed } from './kit/index.ts';

/** Volumes as the stock client drives them. */
const bed = new Bed('volumes');
beforeAll(async () => {
  await bed.up({ managers: 1, workers: 0, swarm: false });
  const changes = ['--change', 'VOLUME /var/www'];
  await bed.client.run('import', ...changes, await bed.archive(), 'box');
});
afterAll(() => bed.down());

const sh = (flags: readonly string[], script: string): Promise<string> =>
  bed.client.run('run', '--rm', ...flags, 'box', 'sh', '-c', script);

describe('docker volume', () => {
  it('create, ls with filters, inspect, rm in use, prune', async () => {
    const { client } = bed;
    await client.run('volume', 'create', '--label', 'team=x', 'named');
    const anonymous = await client.run('volume', 'create');
    await client.run('create', '--name', 'holder', '-v', 'named:/x', 'box', 'true');
    const names = async (...filter: string[]): Promise<string[]> =>
      (await client.run('volume', 'ls', '-q', ...filter.flatMap((one) => ['-f', one]))).split('\n');
    expect(await names('label=team=x')).toEqual(['named']);
    expect(await names('dangling=true')).toEqual([anonymous]);
    expect(await names('name=nam', 'driver=local')).toEqual(['named']);
    const facts = await client.inspect<Record<string, unknown>>('volume', 'inspect', 'named');
    expect(facts).toMatchObject({ Driver: 'local', Scope: 'local', Labels: { team: 'x' }, Name: 'named' });
    const id = await client.run('inspect', '-f', '{{.Id}}', 'holder');
    expect(await client.fails('volume', 'rm', 'named')).toContain(`remove named: volume is in use - [${id}]`);
    expect(await client.fails('volume', 'rm', 'nope')).toContain('get nope: no such volume');
    expect(await client.run('volume', 'prune', '-f')).toContain(anonymous);
    await client.run('rm', '-v', 'holder');
    expect(await client.run('volume', 'prune', '-af')).toContain('named');
    expect(await names()).toEqual(['']);
  });

  it('options of the local driver, and what it cannot do', async () => {
    const { client } = bed;
    await client.run(
      'volume',
      'create',
      ...['type=tmpfs', 'device=tmpfs', 'o=size=2m'].flatMap((o) => ['-o', o]),
      'mem',
    );
    expect(await sh(['-v', 'mem:/m'], 'df -m /m | tail -1')).toMatch(/^tmpfs\s+2\s/);
    mkdirSync(bed.file('source'));
    writeFileSync(bed.file('source/f'), 'of the host');
    const bind = ['type=none', `device=${bed.file('source')}`, 'o=bind,ro'].flatMap((o) => ['-o', o]);
    await client.run('volume', 'create', ...bind, 'bound');
    expect(await sh(['-v', 'bound:/b'], 'cat /b/f; touch /b/g 2>&1 || true')).toMatch(/of the host.*Read-only/s);
    expect(await client.fails('volume', 'create', '-o', 'size=1g', 'x1')).toContain(
      'quota size requested but no quota',
    );
    expect(await client.fails('volume', 'create', '-d', 'nosuch', 'x1')).toContain('plugin "nosuch" not found');
    const missing = ['type=none', 'device=/nowhere', 'o=bind'].flatMap((o) => ['-o', o]);
    await client.run('volume', 'create', ...missing, 'missing');
    expect(await client.fails('run', '-v', 'missing:/x', 'box', 'true')).toContain('failed to mount local volume');
  });

  it('is filled from the image, shared, and mounted in part', async () => {
    expect(await sh(['-v', 'site:/bin2'], 'ls /bin2')).toBe('');
    await sh(['-v', 'site:/x'], 'mkdir -p /x/a/b; echo deep > /x/a/b/f; ln -s /etc /x/out');
    const part = (subpath: string): string[] => ['--mount', `type=volume,src=site,dst=/p,volume-subpath=${subpath}`];
    expect(await sh(part('a/b'), 'cat /p/f; ls /p')).toBe('deep\nf');
    expect(await bed.client.fails('run', '--rm', ...part('out'), 'box', 'true')).toContain('escapes the volume');
    await sh(['-v', 'full:/bin'], 'true');
    expect(await sh(['-v', 'full:/x'], 'ls -l /x/busybox /x/sh')).toMatch(/-> busybox$/);
    expect(await sh(['--mount', 'type=volume,src=none,dst=/var/www,volume-nocopy'], 'ls /var/www')).toBe('');
  });

  it('by a plugin: made, mounted by container, unmounted and removed', async () => {
    const calls: string[] = [];
    const storage = bed.file('storage');
    mkdirSync(storage);
    const server = createServer((request, response) => {
      request.resume();
      const method = (request.url ?? '').slice('/VolumeDriver.'.length);
      calls.push(method);
      const answer = {
        Implements: ['VolumeDriver'],
        Mountpoint: storage,
        Volume: { Name: 'far', Mountpoint: storage },
      };
      response.end(JSON.stringify(answer));
    });
    const name = `e2e-${process.pid}`;
    mkdirSync('/run/docker/plugins', { recursive: true });
    await new Promise<void>((resolve) => server.listen(`/run/docker/plugins/${name}.sock`, resolve));
    try {
      expect(await bed.client.run('info', '-f', '{{json .Plugins.Volume}}')).toContain(`"${name}"`);
      await bed.client.run('volume', 'create', '-d', name, 'far');
      expect(await sh(['-v', 'far:/x'], 'echo hi > /x/f; cat /x/f')).toBe('hi');
      await bed.client.run('volume', 'rm', 'far');
      expect(calls.filter((call) => /^(Create|Mount|Unmount|Remove)$/.test(call))).toEqual([
        ...['Create', 'Mount', 'Unmount', 'Remove'],
      ]);
    } finally {
      server.close();
    }
  });
});
