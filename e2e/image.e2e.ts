import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { directSpawner, must, runChecked, systemClock } from '../base/index.ts';
import { Bed, until } from './kit/index.ts';

/** Images: how they come to a host, go to a registry, and what a service does while one is missing. */
const bed = new Bed('image');
let archive = '';

beforeAll(async () => {
  await bed.up({ managers: 1, workers: 1 });
  bed.registry = await bed.lab.registry();
  archive = await bed.archive();
});
afterAll(() => bed.down());

const importImage = (host: string, name: string, version: string): Promise<string> =>
  bed.on(host).run('import', '--change', `ENV VERSION=${version}`, '--change', 'CMD ["sh","/start.sh"]', archive, name);

const sha256 = (bytes: Uint8Array | string): string => createHash('sha256').update(bytes).digest('hex');

/** Writes an archive in the layout of `docker save`, made by hand. */
async function saveLayout(tag: string, legacy: boolean): Promise<string> {
  const dir = bed.file(legacy ? 'legacy' : 'oci');
  mkdirSync(dir, { recursive: true });
  const layer = readFileSync(archive);
  const config = JSON.stringify({
    architecture: 'amd64',
    os: 'linux',
    config: { Cmd: ['sh', '/start.sh'], Env: ['PATH=/bin', 'VERSION=loaded'] },
    rootfs: { type: 'layers', diff_ids: [`sha256:${sha256(layer)}`] },
    history: [{ created: '2026-01-01T00:00:00Z', created_by: 'by hand' }],
  });
  const layerName = `${sha256(layer)}/layer.tar`;
  mkdirSync(join(dir, sha256(layer)), { recursive: true });
  writeFileSync(join(dir, layerName), layer);
  writeFileSync(join(dir, `${sha256(config)}.json`), config);
  const manifest = [{ Config: `${sha256(config)}.json`, RepoTags: [tag], Layers: [layerName] }];
  writeFileSync(join(dir, 'manifest.json'), JSON.stringify(manifest));
  const path = bed.file(`${legacy ? 'legacy' : 'oci'}.tar`);
  await runChecked(directSpawner, { file: 'tar', args: ['-C', dir, '-cf', path, '.'] });
  return path;
}

async function serves(service: string, version: string): Promise<void> {
  const task = await bed.theTask(service);
  expect(await bed.inTask(task, 'cat', '/var/www/index.html')).toContain(`${version} `);
}

describe('images on one host', () => {
  it('are imported with changes, listed, inspected, tagged and removed', async () => {
    const id = await importImage('m1', 'plain:one', 'one');
    expect(id).toMatch(/^sha256:[0-9a-f]{64}$/);
    const client = bed.on('m1');
    expect(await client.lines('image', 'ls', '--format', '{{.Repository}}:{{.Tag}}')).toContain('plain:one');
    interface Image {
      Id: string;
      Config: { Cmd: string[]; Env: string[] };
    }
    const image = await client.inspect<Image>('image', 'inspect', 'plain:one');
    expect(image.Id).toBe(id);
    expect(image.Config.Cmd).toEqual(['sh', '/start.sh']);
    expect(image.Config.Env).toContain('VERSION=one');
    await client.run('tag', 'plain:one', 'plain:two');
    expect(await client.run('rmi', 'plain:one')).toContain('Untagged: plain:one');
    expect(await client.run('image', 'inspect', '--format', '{{.Id}}', 'plain:two')).toBe(id);
    expect(await client.run('rmi', 'plain:two')).toContain(`Deleted: ${id}`);
    expect(await client.fails('image', 'inspect', 'plain:two')).toMatch(/No such image: plain:two/);
  });

  it('are loaded from an archive in the layout of docker save', async () => {
    expect(await bed.on('w1').run('load', '-i', await saveLayout('loaded:1', true))).toBe('Loaded image: loaded:1');
    const flags = ['--detach', '--quiet', '--no-resolve-image', '--constraint', 'node.hostname==w1'];
    await bed.client.run('service', 'create', ...flags, '--name', 'loaded', 'loaded:1');
    await serves('loaded', 'loaded');
    await bed.client.run('service', 'rm', 'loaded');
  });

  it('a damaged archive is refused and changes nothing', async () => {
    const path = bed.file('broken.tar');
    writeFileSync(path, readFileSync(archive).subarray(0, 100_000));
    const before = await bed.on('w1').run('image', 'ls', '-q');
    expect(await bed.on('w1').fails('load', '-i', path)).not.toBe('');
    expect(await bed.on('w1').run('image', 'ls', '-q')).toBe(before);
    expect(await bed.on('w1').run('info', '--format', '{{.ServerVersion}}')).not.toBe('');
  });
});

describe('a registry', () => {
  let digest = '';

  it('takes a push and gives it back by tag and by digest', async () => {
    const name = `${bed.registry}/team/app`;
    await importImage('m1', `${name}:1`, 'pushed');
    const text = await bed.on('m1').run('push', `${name}:1`);
    digest = must(/1: digest: (sha256:[0-9a-f]{64}) size: \d+/.exec(text)?.[1], 'digest');
    expect(await bed.on('w1').run('pull', `${name}:1`)).toContain(`Digest: ${digest}`);
    expect(await bed.on('w1').run('pull', `${name}:1`)).toContain('Image is up to date');
    await bed.on('w1').run('rmi', `${name}:1`);
    expect(await bed.on('w1').run('pull', `${name}@${digest}`)).toContain(digest);
    expect(await bed.on('w1').run('image', 'ls', '--digests', '--format', '{{.Repository}} {{.Digest}}')).toContain(
      `${name} ${digest}`,
    );
  });

  it('gives a service its image by digest, so that every task runs the same', async () => {
    const name = `${bed.registry}/team/app`;
    await bed.client.run('service', 'create', '--detach', '--quiet', '--name', 'app', '--replicas', '2', `${name}:1`);
    await bed.replicas('app', 2);
    const image = await bed.client.run(
      'service',
      'inspect',
      '--format',
      '{{.Spec.TaskTemplate.ContainerSpec.Image}}',
      'app',
    );
    expect(image).toBe(`${name}:1@${digest}`);
    await bed.client.run('service', 'rm', 'app');
  });

  it('is told apart from one that is not there, within bounded time', async () => {
    expect(await bed.on('m1').fails('pull', `${bed.registry}/team/none:1`)).toMatch(/not found|manifest unknown/i);
    const dead = bed.registry.replace(/:\d+$/, ':5999');
    const words = await bed.on('m1').fails('pull', `${dead}/x:1`);
    expect(words).toMatch(/connection refused|ECONNREFUSED/i);
    expect(words).toContain(dead);
  });
});

describe('an image that is missing', () => {
  it('is told by rejected tasks that do not spin; once it is there, the service converges', async () => {
    const flags = ['--detach', '--quiet', '--no-resolve-image', '--name', 'late', '--constraint', 'node.hostname==w1'];
    await bed.client.run('service', 'create', ...flags, '--restart-delay', '2s', 'late:1');
    const began = systemClock.monotonic();
    const rejected = await until('a rejected task', 20_000, async () => {
      return (await bed.tasks('late')).find((task) => task.Status.State === 'rejected');
    });
    expect(rejected.Status.Err).toContain('No such image: late:1');
    await systemClock.sleep(Math.max(0, 4_000 - (systemClock.monotonic() - began)));
    // The first, its replacement at once, and one more after each delay of 2 s.
    expect((await bed.tasks('late')).length).toBeLessThanOrEqual(4);
    await importImage('w1', 'late:1', 'late');
    await bed.theTask('late', 20_000);
    await serves('late', 'late');
    await bed.client.run('service', 'rm', 'late');
  });
});

describe('the end', () => {
  it('leaves nothing behind', async () => {
    await bed.down();
    expect(bed.lab.leftovers()).toEqual([]);
  });
});
