import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { directSpawner, silentLogger, systemClock, systemRandom } from '../../base/index.ts';
import type { Volumes } from '../types.ts';
import { openVolumes } from './index.ts';

const base = mkdtempSync(join(tmpdir(), 'shoal-plugins-'));
const plugins = join(base, 'plugins');

/** A volume plugin whose volumes are directories; it writes down what it is asked. */
class TestPlugin {
  readonly calls: string[] = [];
  readonly volumes = new Map<string, { Opts: Record<string, string>; mounts: Set<string> }>();
  readonly server: Server;
  failing = '';

  constructor() {
    this.server = createServer((request, response) => {
      const chunks: Buffer[] = [];
      request.on('data', (chunk: Buffer) => chunks.push(chunk));
      request.on('end', () => {
        const body = JSON.parse(Buffer.concat(chunks).toString() || '{}') as { Name: string; ID: string; Opts: never };
        const method = (request.url ?? '').slice(1);
        this.calls.push([method, body.Name, body.ID].filter((word) => word !== undefined).join(' '));
        const answer = method === this.failing ? { Err: 'out of order' } : this.#answer(method, body);
        response.writeHead('Err' in answer ? 500 : 200, { 'Content-Type': 'application/json' });
        response.end(JSON.stringify(answer));
      });
    });
  }

  #answer(method: string, { Name, ID, Opts }: { Name: string; ID: string; Opts: never }): object {
    const volume = this.volumes.get(Name);
    const Mountpoint = join(base, 'storage', Name ?? '');
    const known = { Name, Mountpoint, Status: { replicas: 3 } };
    switch (method) {
      case 'Plugin.Activate':
        return { Implements: ['VolumeDriver'] };
      case 'VolumeDriver.Capabilities':
        return { Capabilities: { Scope: 'global' } };
      case 'VolumeDriver.Create':
        this.volumes.set(Name, { Opts, mounts: new Set() });
        mkdirSync(Mountpoint, { recursive: true });
        return {};
      case 'VolumeDriver.List':
        return { Volumes: [...this.volumes.keys()].map((name) => ({ Name: name })) };
    }
    if (volume === undefined) return { Err: `no volume ${Name}` };
    if (method === 'VolumeDriver.Remove') this.volumes.delete(Name);
    if (method === 'VolumeDriver.Mount') volume.mounts.add(ID);
    if (method === 'VolumeDriver.Unmount') volume.mounts.delete(ID);
    return method === 'VolumeDriver.Get' ? { Volume: known } : { Mountpoint };
  }
}

const plugin = new TestPlugin();
const open = (): Promise<Volumes> =>
  openVolumes({
    dataRoot: join(base, 'data'),
    spawner: directSpawner,
    clock: systemClock,
    random: systemRandom,
    log: silentLogger,
    onEvent: () => undefined,
    pluginDirectories: [plugins, join(base, 'etc')],
  });
const request = (name: string, driver: string) => ({ name, driver, labels: { a: 'b' }, options: { size: '5' } });
let volumes: Volumes;

beforeAll(async () => {
  mkdirSync(plugins);
  mkdirSync(join(base, 'etc'));
  plugin.server.listen(join(plugins, 'far.sock'));
  await once(plugin.server, 'listening');
  volumes = await open();
});
afterAll(() => {
  plugin.server.close();
  rmSync(base, { recursive: true, force: true });
});

test('a plugin makes, mounts once for each container, tells of, unmounts and removes its volumes', async () => {
  expect(await volumes.drivers()).toEqual(['local', 'far']);
  const made = await volumes.create(request('Data: one', 'far'));
  expect(made).toMatchObject({ driver: 'far', scope: 'global', labels: { a: 'b' }, mountpoint: '' });
  expect(plugin.volumes.get('Data: one')?.Opts).toEqual({ size: '5' });
  const path = join(base, 'storage/Data: one');
  expect(await volumes.acquire('Data: one', 'c1')).toBe(path);
  expect(await volumes.acquire('Data: one', 'c1')).toBe(path);
  expect(await volumes.acquire('Data: one', 'c2')).toBe(path);
  expect([...(plugin.volumes.get('Data: one')?.mounts ?? [])]).toEqual(['c1', 'c2']);
  expect(await volumes.inspect('Data: one')).toMatchObject({ mountpoint: path, status: { replicas: 3 } });
  const from = join(base, 'image');
  mkdirSync(from);
  writeFileSync(join(from, 'seed'), 'x');
  await volumes.fill('Data: one', from);
  expect(readFileSync(join(path, 'seed'), 'utf8')).toBe('x');
  await expect(volumes.remove('Data: one', false)).rejects.toThrow('volume is in use - [c1, c2]');
  // As after a restart of the daemon.
  const again = await open();
  again.retain('Data: one', 'c1');
  again.retain('Data: one', 'c1');
  again.retain('Data: one', 'c2');
  for (const user of ['c1', 'c1', 'c2', 'c2']) await again.release('Data: one', user);
  expect(plugin.volumes.get('Data: one')?.mounts.size).toBe(0);
  expect(plugin.calls.filter((call) => call.startsWith('VolumeDriver.Unmount'))).toHaveLength(2);
  await again.remove('Data: one', false);
  expect([again.list(), plugin.volumes.size]).toEqual([[], 0]);
  expect((await open()).list()).toEqual([]);
  volumes = again;
});

test('volumes that were made elsewhere are found, and a prune leaves those of plugins', async () => {
  plugin.volumes.set('elsewhere', { Opts: {}, mounts: new Set() });
  expect((await volumes.listAll()).volumes).toMatchObject([{ name: 'elsewhere', driver: 'far' }]);
  expect(await volumes.inspect('elsewhere')).toMatchObject({ driver: 'far', status: { replicas: 3 } });
  expect((await volumes.prune({ all: true, matches: () => true })).deleted).toEqual([]);
  const conflict = "create elsewhere: driver 'far' already has volume 'elsewhere': volume name must be unique";
  await expect(volumes.create(request('elsewhere', 'local'))).rejects.toThrow(conflict);
  expect(await volumes.create({ ...request('elsewhere', ''), options: {} })).toMatchObject({ driver: 'far' });
  await volumes.remove('elsewhere', false);
  expect(plugin.volumes.size).toBe(0);
  await expect(volumes.inspect('elsewhere')).rejects.toThrow('get elsewhere: no such volume');
});

test('errors name the call and carry the words of the plugin; nothing is left of what failed', async () => {
  plugin.failing = 'VolumeDriver.Create';
  await expect(volumes.create(request('x', 'far'))).rejects.toThrow('create x: VolumeDriver.Create: out of order');
  plugin.failing = 'VolumeDriver.Mount';
  await volumes.create(request('x', 'far'));
  const words = "error while mounting volume 'x': VolumeDriver.Mount: out of order";
  await expect(volumes.acquire('x', 'c1')).rejects.toThrow(words);
  expect(volumes.usersOf('x')).toEqual([]);
  plugin.failing = 'VolumeDriver.Remove';
  await expect(volumes.remove('x', false)).rejects.toThrow('remove x: VolumeDriver.Remove: out of order');
  await volumes.remove('x', true);
  expect(volumes.list()).toEqual([]);
  plugin.failing = '';
  plugin.volumes.clear();
});

test('plugins are found by .spec and .json files too; one that is down is told of, and hides no others', async () => {
  const other = new TestPlugin();
  other.server.listen(0, '127.0.0.1');
  await once(other.server, 'listening');
  const { port } = other.server.address() as AddressInfo;
  writeFileSync(join(base, 'etc/tcp.spec'), `tcp://127.0.0.1:${port}\n`);
  writeFileSync(join(base, 'etc/down.json'), JSON.stringify({ Name: 'down', Addr: `unix://${base}/nobody.sock` }));
  writeFileSync(join(base, 'etc/broken.json'), '{');
  expect(await volumes.drivers()).toEqual(['local', 'far', 'tcp']);
  expect((await volumes.listAll()).warnings).toEqual([
    `error looking up volume plugin down: Plugin.Activate: nobody listens at unix://${base}/nobody.sock`,
  ]);
  await expect(volumes.create(request('x', 'down'))).rejects.toMatchObject({ code: 'NotFound' });
  await expect(volumes.create(request('x', 'none'))).rejects.toThrow(
    'error looking up volume plugin none: plugin "none" not found',
  );
  other.server.close();
});
