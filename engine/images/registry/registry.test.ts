import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { createServer as createSocket, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { directSpawner, silentLogger, systemClock, systemRandom } from '../../../base/index.ts';
import { makeBusyboxArchive } from '../../testing/busybox.ts';
import type { Image, ImageProgress, RegistryAuth } from '../../types.ts';
import { openImages, type ImageStore } from '../index.ts';

const base = mkdtempSync(join(tmpdir(), 'shoal-registry-'));
const busybox = join(base, 'busybox.tar');
let registry: ChildProcess;
let address = '';
let count = 0;
const opened: ImageStore[] = [];
const servers: Server[] = [];

async function freePort(): Promise<number> {
  const socket = createSocket();
  await new Promise<void>((resolve) => socket.listen(0, '127.0.0.1', resolve));
  const { port } = socket.address() as AddressInfo;
  await new Promise((resolve) => socket.close(resolve));
  return port;
}

async function open(mirrors: string[] = [], insecure: string[] = []): Promise<ImageStore & { dataRoot: string }> {
  const dataRoot = join(base, `data-${++count}`);
  const images = await openImages({
    dataRoot,
    spawner: directSpawner,
    clock: systemClock,
    random: systemRandom,
    log: silentLogger,
    registries: { insecure, mirrors },
    onEvent: () => undefined,
    usedBy: () => [],
  });
  opened.push(images);
  return Object.assign(images, { dataRoot });
}

beforeAll(async () => {
  makeBusyboxArchive(busybox);
  const port = await freePort();
  address = `127.0.0.1:${port}`;
  const config = join(base, 'registry.yml');
  writeFileSync(
    config,
    `version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: ${base}/registry}}\n` +
      `http: {addr: "${address}"}\n`,
  );
  registry = spawn('docker-registry', ['serve', config], { stdio: 'ignore' });
  for (let tries = 0; ; tries++) {
    const up = await fetch(`http://${address}/v2/`)
      .then((r) => r.ok)
      .catch(() => false);
    if (up) return;
    if (tries > 200) throw new Error('docker-registry did not start');
    await systemClock.sleep(50);
  }
});

afterEach(async () => {
  for (const images of opened.splice(0)) {
    for (const root of images.roots()) await images.removeRoot(root);
    await images.close();
  }
  for (const server of servers.splice(0)) {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  }
});

afterAll(() => {
  registry.kill('SIGKILL');
  rmSync(base, { recursive: true, force: true });
});

const signal = new AbortController().signal;

async function pull(images: ImageStore, reference: string, auth?: RegistryAuth): Promise<[Image, ImageProgress[]]> {
  const lines: ImageProgress[] = [];
  const report = (line: ImageProgress): unknown => lines.push(line);
  const image = await images.pull(reference, { signal, report, ...(auth === undefined ? {} : { auth }) });
  return [image, lines];
}

async function pushed(name: string): Promise<{ image: Image; lines: ImageProgress[]; images: ImageStore }> {
  const images = await open();
  const image = await images.importArchive(busybox, {
    repository: `${address}/${name}`,
    tag: 'v1',
    message: '',
    changes: ['CMD ["/bin/sh"]'],
  });
  const lines: ImageProgress[] = [];
  await images.push(`${address}/${name}:v1`, { report: (line) => lines.push(line), signal });
  return { image, lines, images };
}

test('push to and pull from a registry, by tag and by digest', async () => {
  const { image, lines, images } = await pushed('team/bb');
  expect(lines[0]).toEqual({ status: `The push refers to repository [${address}/team/bb]` });
  expect(lines.map((l) => l.status)).toContain('Pushed');
  expect(lines.at(-2)?.status).toMatch(/^v1: digest: sha256:[0-9a-f]{64} size: \d+$/);
  const digest = String(lines.at(-1)?.aux?.['Digest']);
  expect(images.get(`${address}/team/bb:v1`).repoDigests).toEqual([`${address}/team/bb@${digest}`]);
  const again: ImageProgress[] = [];
  await images.push(`${address}/team/bb:v1`, { report: (line) => again.push(line), signal });
  expect(again.map((l) => l.status)).toContain('Layer already exists');
  expect(again.at(-1)?.aux?.['Digest']).toBe(digest);
  await images.tag(`${address}/team/bb:v1`, `${address}/other`, 'v2');
  const mounted: ImageProgress[] = [];
  await images.push(`${address}/other:v2`, { report: (line) => mounted.push(line), signal });
  expect(mounted.map((l) => l.status)).toContain('Mounted from team/bb');

  const other = await open();
  const [copy, pullLines] = await pull(other, `${address}/team/bb:v1`);
  expect(copy).toMatchObject({
    id: image.id,
    repoTags: [`${address}/team/bb:v1`],
    repoDigests: [`${address}/team/bb@${digest}`],
  });
  expect(pullLines[0]).toEqual({ status: 'Pulling from team/bb', id: 'v1' });
  const words = pullLines.map((l) => l.status);
  for (const word of ['Pulling fs layer', 'Verifying Checksum', 'Download complete', 'Extracting', 'Pull complete']) {
    expect(words).toContain(word);
  }
  expect(words.slice(-2)).toEqual([`Digest: ${digest}`, `Status: Downloaded newer image for ${address}/team/bb:v1`]);
  const [, secondLines] = await pull(other, `${address}/team/bb:v1`);
  expect(secondLines.map((l) => l.status)).toContain('Already exists');
  expect(secondLines.at(-1)?.status).toBe(`Status: Image is up to date for ${address}/team/bb:v1`);
  const root = await other.mountRoot('r', copy.id);
  expect(execFileSync('chroot', [root, '/bin/echo', 'ok'], { encoding: 'utf8' })).toBe('ok\n');

  const third = await open();
  const [byDigest] = await pull(third, `${address}/team/bb:v1@${digest}`);
  expect(byDigest.repoTags).toEqual([]);
  expect(third.get(`${address}/team/bb:v1@${digest}`).id).toBe(image.id);
  expect(await third.distribution(`${address}/team/bb:v1`, undefined, signal)).toMatchObject({
    digest,
    platforms: [{ os: 'linux', architecture: image.architecture }],
  });
});

test('a manifest list chooses by platform', async () => {
  const { image } = await pushed('multi');
  const raw = await fetch(`http://${address}/v2/multi/manifests/v1`, {
    headers: { Accept: 'application/vnd.docker.distribution.manifest.v2+json' },
  });
  const bytes = Buffer.from(await raw.arrayBuffer());
  const descriptor = {
    mediaType: 'application/vnd.docker.distribution.manifest.v2+json',
    size: bytes.length,
    digest: `sha256:${createHash('sha256').update(bytes).digest('hex')}`,
  };
  const type = 'application/vnd.docker.distribution.manifest.list.v2+json';
  const put = (tag: string, platforms: object[]): Promise<Response> =>
    fetch(`http://${address}/v2/multi/manifests/${tag}`, {
      method: 'PUT',
      headers: { 'Content-Type': type },
      body: JSON.stringify({
        schemaVersion: 2,
        mediaType: type,
        manifests: platforms.map((platform) => ({ ...descriptor, platform })),
      }),
    });
  const own = { os: 'linux', architecture: image.architecture };
  expect((await put('list', [{ os: 'linux', architecture: 's390x' }, own])).status).toBe(201);
  expect((await put('foreign', [{ os: 'linux', architecture: 's390x' }])).status).toBe(201);
  const images = await open();
  expect((await pull(images, `${address}/multi:list`))[0].id).toBe(image.id);
  await expect(pull(images, `${address}/multi:foreign`)).rejects.toThrow('no matching manifest for linux/');
  expect((await images.distribution(`${address}/multi:list`, undefined, signal)).platforms).toEqual([
    { os: 'linux', architecture: 's390x' },
    own,
  ]);
});

test('refusals in the words of Docker', async () => {
  await pushed('words');
  const images = await open();
  await expect(pull(images, `${address}/words:nope`)).rejects.toMatchObject({
    code: 'NotFound',
    message: `manifest for ${address}/words:nope not found: manifest unknown: manifest unknown`,
  });
  const port = await freePort();
  await expect(pull(images, `127.0.0.1:${port}/x`)).rejects.toThrow(
    `Get "http://127.0.0.1:${port}/v2/x/manifests/latest": dial tcp 127.0.0.1:${port}: connect: connection refused`,
  );
  const before = performance.now();
  await expect(images.distribution('no-such-host.invalid/x', undefined, signal)).rejects.toThrow(
    /lookup no-such-host.invalid: /,
  );
  expect(performance.now() - before).toBeLessThan(10_000);
  await expect(images.push('absent', { report: () => undefined, signal })).rejects.toThrow(
    'An image does not exist locally with the tag: absent',
  );
});

interface Fake {
  host: string;
  /** Requests seen, as "METHOD path". */
  seen: string[];
  manifest: Buffer;
  layer: Buffer;
  digests: { manifest: string; layer: string; config: string };
}

const sha = (data: Buffer): string => `sha256:${createHash('sha256').update(data).digest('hex')}`;

/** A registry of one repository `r` with one image of one layer; `handle` may answer a request itself. */
async function fake(handle: (request: IncomingMessage, response: ServerResponse, it: Fake) => boolean): Promise<Fake> {
  const tree = join(base, `tree-${++count}`);
  mkdirSync(tree);
  writeFileSync(join(tree, 'data'), Buffer.from(systemRandom.bytes(400_000)));
  const tar = execFileSync('tar', ['-c', '-C', tree, '.'], { maxBuffer: 10_000_000 });
  const layer = gzipSync(tar);
  const config = Buffer.from(
    JSON.stringify({
      os: 'linux',
      architecture: 'amd64',
      config: {},
      rootfs: { type: 'layers', diff_ids: [sha(tar)] },
    }),
  );
  const manifest = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: 'application/vnd.oci.image.manifest.v1+json',
      config: { mediaType: 'application/vnd.oci.image.config.v1+json', digest: sha(config), size: config.length },
      layers: [{ mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip', digest: sha(layer), size: layer.length }],
    }),
  );
  const digests = { manifest: sha(manifest), layer: sha(layer), config: sha(config) };
  const it: Fake = { host: '', seen: [], manifest, layer, digests };
  const server = createServer((request, response) => {
    it.seen.push(`${request.method} ${request.url}`);
    if (handle(request, response, it)) return;
    if (request.url?.startsWith('/v2/r/manifests/') === true) {
      response.setHeader('Content-Type', 'application/vnd.oci.image.manifest.v1+json').end(manifest);
    } else if (request.url === `/v2/r/blobs/${digests.config}`) response.end(config);
    else if (request.url === `/v2/r/blobs/${digests.layer}`) response.end(layer);
    else response.writeHead(404).end();
  });
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  it.host = `localhost:${(server.address() as AddressInfo).port}`;
  return it;
}

test('a corrupt blob is refused and nothing of it stays', async () => {
  const it = await fake((request, response, { digests, layer }) => {
    if (!request.url!.endsWith(digests.layer)) return false;
    const bad = Buffer.from(layer);
    bad[1000] = (bad[1000]! + 1) & 0xff;
    response.end(bad);
    return true;
  });
  const images = await open();
  await expect(pull(images, `${it.host}/r`)).rejects.toThrow(
    `filesystem layer verification failed for digest ${it.digests.layer}`,
  );
  expect(images.list()).toEqual([]);
  expect(readdirSync(join(images.dataRoot, 'image/blobs/sha256'))).toEqual([]);
  expect(readdirSync(join(images.dataRoot, 'image/tmp'))).toEqual([]);
  expect(readdirSync(join(images.dataRoot, 'overlay2'))).toEqual(['l']);
});

test('a wrong manifest digest and an endless blob are refused', async () => {
  const it = await fake((request, response, { digests, layer }) => {
    if (!request.url!.endsWith(digests.layer)) return false;
    response.end(Buffer.concat([layer, layer]));
    return true;
  });
  const images = await open();
  await expect(pull(images, `${it.host}/r@sha256:${'1'.repeat(64)}`)).rejects.toThrow(
    'manifest verification failed for digest',
  );
  await expect(pull(images, `${it.host}/r`)).rejects.toThrow('is longer than');
});

test('a broken connection is resumed by range', async () => {
  const ranges: (string | undefined)[] = [];
  const it = await fake((request, response, { digests, layer }) => {
    if (!request.url!.endsWith(digests.layer)) return false;
    const { range } = request.headers;
    ranges.push(range);
    const start = Number(/bytes=(\d+)-/.exec(range ?? '')?.[1] ?? 0);
    const rest = layer.subarray(start);
    response.writeHead(start === 0 ? 200 : 206, {
      'Content-Length': rest.length,
      ...(start === 0 ? {} : { 'Content-Range': `bytes ${start}-${layer.length - 1}/${layer.length}` }),
    });
    if (ranges.length < 3) response.write(rest.subarray(0, 150_000), () => response.destroy());
    else response.end(rest);
    return true;
  });
  const images = await open();
  await pull(images, `${it.host}/r`);
  expect(ranges.length).toBe(3);
  expect(ranges[0]).toBeUndefined();
  expect(ranges[2]).toMatch(/^bytes=\d+-$/);
});

test('a hundred pulls at once are one, also for layers', async () => {
  const it = await fake(() => false);
  const images = await open();
  const done = await Promise.all(Array.from({ length: 100 }, (_, i) => pull(images, `${it.host}/r:t${i % 2}`)));
  expect(new Set(done.map(([image]) => image.id)).size).toBe(1);
  expect(it.seen.filter((line) => line.endsWith(it.digests.layer)).length).toBe(1);
  expect(it.seen.filter((line) => line.includes('/manifests/')).length).toBe(2);
  expect(images.get(`${it.host}/r:t0`).repoTags).toEqual([`${it.host}/r:t0`, `${it.host}/r:t1`]);
  for (const [, lines] of done) expect(lines.at(-1)?.status).toMatch(/^Status: /);
});

test('one caller giving up does not end the pull of another; the last one does', async () => {
  let release = (): void => undefined;
  const it = await fake((request, response, { digests, layer }) => {
    if (!request.url!.endsWith(digests.layer)) return false;
    response.write(layer.subarray(0, 1000));
    release = () => response.end(layer.subarray(1000));
    return true;
  });
  const images = await open();
  const reference = `${it.host}/r`;
  const first = new AbortController();
  const started = new Promise<void>((resolve) => {
    const report = (line: ImageProgress): void => {
      if (line.status === 'Downloading') resolve();
    };
    void images.pull(reference, { signal: first.signal, report }).catch(() => undefined);
  });
  await started;
  const second = images.pull(reference, { signal });
  const leaving = images.pull(reference, { signal: first.signal });
  first.abort(new Error('gone'));
  await expect(leaving).rejects.toThrow('gone');
  release();
  expect((await second).repoTags).toEqual([`${reference}:latest`]);
  await images.remove(reference, { force: false });
  const alone = new AbortController();
  const last = images.pull(reference, {
    signal: alone.signal,
    report: (l) => l.status === 'Downloading' && alone.abort(new Error('stop')),
  });
  await expect(last).rejects.toThrow('stop');
  await expect.poll(() => readdirSync(join(images.dataRoot, 'image/tmp'))).toEqual([]);
});

test('bearer tokens, and redirects that do not carry them', async () => {
  const leaked: (string | undefined)[] = [];
  const storage = await fake((request) => {
    leaked.push(request.headers.authorization);
    return false;
  });
  const it = await fake((request, response, self) => {
    const url = new URL(request.url!, 'http://x');
    if (url.pathname === '/token') {
      const good = request.headers.authorization === `Basic ${Buffer.from('me:secret').toString('base64')}`;
      const scoped =
        url.searchParams.get('scope') === 'repository:r:pull' && url.searchParams.get('service') === 'reg, one';
      response.writeHead(good && scoped ? 200 : 401).end(JSON.stringify({ token: 'T', expires_in: 300 }));
      return true;
    }
    if (request.headers.authorization !== 'Bearer T') {
      response
        .writeHead(401, {
          'WWW-Authenticate': `Bearer realm="http://${self.host}/token",service="reg, one",scope="repository:r:pull"`,
        })
        .end(JSON.stringify({ errors: [{ code: 'UNAUTHORIZED', message: 'authentication required' }] }));
      return true;
    }
    if (!url.pathname.endsWith(self.digests.layer)) return false;
    storage.layer = self.layer;
    response.writeHead(307, { Location: `http://${storage.host}/v2/r/blobs/${self.digests.layer}` }).end();
    return true;
  });
  // The storage server has the other's layer.
  servers.at(-2)!.removeAllListeners('request');
  servers.at(-2)!.on('request', (request: IncomingMessage, response: ServerResponse) => {
    leaked.push(request.headers.authorization);
    response.end(it.layer);
  });
  const images = await open();
  await expect(pull(images, `${it.host}/r`, { username: 'me', password: 'wrong' })).rejects.toMatchObject({
    code: 'Unauthenticated',
    message: 'unauthorized: incorrect username or password',
  });
  await pull(images, `${it.host}/r`, { username: 'me', password: 'secret' });
  expect(leaked).toEqual([undefined]);
  expect(it.seen.filter((line) => line.startsWith('GET /token')).length).toBe(2);
});

test('basic credentials, and none where they are needed', async () => {
  const it = await fake((request, response) => {
    if (request.headers.authorization === `Basic ${Buffer.from('u:p').toString('base64')}`) return false;
    response
      .writeHead(401, { 'WWW-Authenticate': 'Basic realm="x"' })
      .end(JSON.stringify({ errors: [{ code: 'UNAUTHORIZED', message: 'authentication required' }] }));
    return true;
  });
  const images = await open();
  await expect(pull(images, `${it.host}/r`)).rejects.toThrow('no basic auth credentials');
  await pull(images, `${it.host}/r`, { username: 'u', password: 'p' });
});

test('a login asks the registry whether credentials are good', async () => {
  const it = await fake((request, response) => {
    const good = request.headers.authorization === `Basic ${Buffer.from('u:p').toString('base64')}`;
    if (request.url !== '/v2/') return false;
    response.writeHead(good ? 200 : 401, good ? {} : { 'WWW-Authenticate': 'Basic realm="x"' }).end('{}');
    return true;
  });
  const images = await open();
  const signal = new AbortController().signal;
  await images.login(it.host, { username: 'u', password: 'p' }, signal);
  await images.login(`http://${it.host}/v1/`, { username: 'u', password: 'p' }, signal);
  await expect(images.login(it.host, { username: 'u', password: 'no' }, signal)).rejects.toMatchObject({
    code: 'Unauthenticated',
    message: `login attempt to http://${it.host}/v2/ failed with status: 401 Unauthorized`,
  });
});

test('other rules for registries take effect at once', async () => {
  const it = await fake((request) => {
    request.url = request.url!.replace('/v2/library/r/', '/v2/r/');
    return false;
  });
  const images = await open();
  images.setRegistries({ insecure: ['10.0.0.0/8'], mirrors: [`http://${it.host}`] });
  expect((await pull(images, 'r'))[0].repoTags).toEqual(['r:latest']);
});

test('a mirror serves docker.io; one that fails is passed over', async () => {
  const dead = `http://127.0.0.1:${await freePort()}`;
  const it = await fake((request) => {
    request.url = request.url!.replace('/v2/library/r/', '/v2/r/');
    return false;
  });
  const images = await open([dead, `http://${it.host}`]);
  const [image] = await pull(images, 'r');
  expect(image.repoTags).toEqual(['r:latest']);
  expect(readFileSync(join(await images.mountRoot('m', image.id), 'data')).length).toBe(400_000);
});

test('layers packed with zstd, and the same layer twice, go out and come back', async () => {
  const images = await open();
  const packed = join(base, `packed-${++count}.tar.zst`);
  execFileSync('zstd', ['-q', busybox, '-o', packed]);
  const names = { repository: `${address}/zstd`, tag: 'v1', message: '', changes: [] };
  const { diffIds } = await images.importArchive(packed, names);
  await images.push(`${address}/zstd:v1`, { report: () => undefined, signal });
  const at = join(base, `twice-${++count}`);
  mkdirSync(at);
  const diffId = diffIds[0]!;
  const rootfs = { type: 'layers', diff_ids: [diffId, diffId] };
  writeFileSync(join(at, 'config.json'), JSON.stringify({ architecture: 'amd64', os: 'linux', config: {}, rootfs }));
  execFileSync('cp', [busybox, join(at, 'layer.tar')]);
  writeFileSync(
    join(at, 'manifest.json'),
    JSON.stringify([{ Config: 'config.json', RepoTags: [`${address}/twice:v1`], Layers: ['layer.tar', 'layer.tar'] }]),
  );
  execFileSync('tar', ['-cf', `${at}.tar`, '-C', at, '.']);
  const loader = await open();
  await loader.load(`${at}.tar`, () => undefined);
  await loader.push(`${address}/twice:v1`, { report: () => undefined, signal });
  const blobs = readdirSync(join(loader.dataRoot, 'image/blobs/sha256'));
  expect(blobs.length).toBe(2);
  for (const name of ['zstd', 'twice']) {
    const other = await open();
    const [image] = await pull(other, `${address}/${name}:v1`);
    expect(new Set(image.diffIds)).toEqual(new Set([diffId]));
  }
});

test('a registry on loopback may have any certificate', async () => {
  const [key, certificate] = [join(base, 'key.pem'), join(base, 'cert.pem')];
  const subject = ['-subj', '/CN=nobody', '-days', '1'];
  execFileSync(
    'openssl',
    ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-keyout', key, '-out', certificate, ...subject],
    {
      stdio: 'ignore',
    },
  );
  const it = await fake(() => false);
  const plain = servers.at(-1)!;
  const server = createTlsServer({ key: readFileSync(key), cert: readFileSync(certificate) }, (request, response) =>
    plain.emit('request', request, response),
  );
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  try {
    const images = await open();
    await pull(images, `127.0.0.1:${(server.address() as AddressInfo).port}/r`);
    expect(it.seen.length).toBe(3);
  } finally {
    server.closeAllConnections();
    server.close();
  }
});
