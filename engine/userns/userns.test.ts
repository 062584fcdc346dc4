import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { directSpawner, silentLogger, systemClock, systemRandom } from '../../base/index.ts';
import { config, logText, makeFixture, runToEnd, until, type Fixture } from '../containers/fixture.ts';
import type { Engine } from '../engine.ts';
import { buildHelper, removeHelper } from '../files/testing.ts';
import { openImages, type ImageStore } from '../images/index.ts';
import { makeBusyboxArchive } from '../testing/busybox.ts';
import type { ContainerConfig, IdMapping } from '../types.ts';

const remap: IdMapping = {
  uids: [{ inside: 0, outside: 300_000, count: 65_536 }],
  gids: [{ inside: 0, outside: 400_000, count: 65_536 }],
};
const base = mkdtempSync(join(tmpdir(), 'shoal-userns-'));
const never = new AbortController().signal;
const quiet = { repository: '', tag: '', author: '', comment: '', changes: [], pause: false };
let fixture: Fixture;
let engine: Engine;
let images: ImageStore;

beforeAll(async () => {
  const common = { dataRoot: join(base, 'data'), spawner: directSpawner, clock: systemClock, random: systemRandom };
  // The containers' root passes through; nobody lists it.
  execFileSync('chmod', ['711', base]);
  mkdirSync(common.dataRoot);
  images = await openImages({
    ...common,
    log: silentLogger,
    registries: { insecure: [], mirrors: [] },
    onEvent: () => undefined,
    usedBy: () => [],
    isRunning: () => false,
  });
  makeBusyboxArchive(join(base, 'busybox.tar'));
  const changes = ['CMD ["sh"]'];
  await images.importArchive(join(base, 'busybox.tar'), { repository: 'busybox', tag: '', message: '', changes });
  fixture = makeFixture(base, {}, { images, remap, fileHelper: await buildHelper() });
  engine = await fixture.open();
});
afterAll(async () => {
  await engine.shutdown();
  await fixture.destroy();
  await images.close();
  removeHelper();
  rmSync(base, { recursive: true, force: true });
});

const end = (id: string): Promise<void> => engine.containers.remove(id, { force: true, volumes: true });
const ids = (path: string): string => `${statSync(path).uid}:${statSync(path).gid}`;

async function running(more: Partial<ContainerConfig> = {}): Promise<string> {
  const { id } = await engine.containers.create(config({ cmd: ['sleep', '1000'], ...more }));
  await engine.containers.start(id);
  return id;
}

async function inside(id: string, script: string): Promise<string> {
  const request = { command: ['sh', '-c', script], env: [], privileged: false };
  const { stdout, stderr } = await engine.containers.exec(id, request, AbortSignal.timeout(20_000));
  return Buffer.concat([stdout, stderr]).toString('utf8').trim();
}

it('runs root of a container as another user of the host, with its own /proc, /sys and output', async () => {
  const script =
    'cat /proc/self/uid_map /proc/self/gid_map | tr -s " "; id -u; ls -ln /etc/hosts /bin/busybox | cut -c1-30; ' +
    'echo told >/dev/stderr; echo x >>/etc/hosts && echo y >/dev/shm/f && touch /new /etc/new && ls /sys/class >/dev/null && echo all';
  const { out, err, id } = await runToEnd(engine, ['sh', '-c', script]);
  expect(`${out}${err}`).toMatch(/^ 0 300000 65536\n 0 400000 65536\n0\n/);
  expect(out).toMatch(/-rw-r--r-- +1 0 +0 /);
  expect(out).toMatch(/all\n$/);
  expect(err).toBe('told\n');
  const { upper } = images.rootParts(id);
  expect([ids(join(upper, 'new')), ids(upper)]).toEqual(['300000:400000', '300000:400000']);
  await end(id);
});
