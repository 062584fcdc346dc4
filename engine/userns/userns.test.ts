import { execFileSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { Readable } from 'node:stream';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { bindIdmapped, directSpawner, silentLogger, systemClock, systemRandom } from '../../base/index.ts';
import { config, logText, makeFixture, runToEnd, until, type Fixture } from '../containers/fixture.ts';
import type { Engine } from '../engine.ts';
import { buildHelper, removeHelper } from '../files/testing.ts';
import { openImages, type ImageStore } from '../images/index.ts';
import { makeBusyboxArchive } from '../testing/busybox.ts';
import type { ContainerConfig, IdMapping } from '../types.ts';
import { UserNamespaces } from './namespaces.ts';

const remap: IdMapping = {
  // Two ranges, as several lines of /etc/subuid give them.
  uids: [
    { inside: 0, outside: 300_000, count: 60_000 },
    { inside: 60_000, outside: 800_000, count: 5536 },
  ],
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
  expect(`${out}${err}`).toMatch(/^ 0 300000 60000\n 60000 800000 5536\n 0 400000 65536\n0\n/);
  expect(out).toMatch(/-rw-r--r-- +1 0 +0 /);
  expect(out).toMatch(/all\n$/);
  expect(err).toBe('told\n');
  const { upper } = images.rootParts(id);
  expect([ids(join(upper, 'new')), ids(upper)]).toEqual(['300000:400000', '300000:400000']);
  await end(id);
});

it('lets a process open its output again, whoever it is, also one that is run later', async () => {
  const id = await running({ user: '1000:1000', cmd: ['sh', '-c', 'echo main >/dev/stdout; sleep 1000'] });
  await until(async () => (await logText(engine, id)).out === 'main\n', 'the first line');
  expect(await inside(id, 'id -u; echo again >/dev/stdout; echo bad >/dev/stderr')).toBe('1000\nagain\nbad');
  expect(await inside(id, 'cat /proc/1/status')).toMatch(/^Uid:\s+1000/m);
  const { pid } = engine.containers.inspect(id);
  expect(readFileSync(`/proc/${pid}/status`, 'utf8')).toMatch(/^Uid:\s+301000/m);
  await end(id);
});

it('gives volumes, files and memory to the users inside', async () => {
  const source = join(base, 'made/bind');
  const file = { target: '/run/secrets/s', data: Buffer.from('secret'), uid: 7, gid: 8, mode: 0o400 };
  const mounts: ContainerConfig['mounts'] = [
    { type: 'volume', source: 'empty', target: '/v', readOnly: false },
    { type: 'volume', source: 'filled', target: '/etc', readOnly: false },
    { type: 'bind', source, target: '/b', readOnly: false, createMountpoint: true },
    { type: 'image', source: 'busybox', target: '/i', readOnly: true },
    { type: 'tmpfs', source: '', target: '/t', readOnly: false, tmpfsOptions: ['uid=5', 'mode=700'] },
  ];
  const id = await running({ mounts, files: [file], ipcMode: 'shareable', workingDir: '/w/d' });
  const seen = await inside(
    id,
    'touch /v/f /b/f /etc/f /dev/shm/f /t/f; ls -ln /v/f /b/f /etc/f /etc/passwd /dev/shm/f /run/secrets/s /i/bin/busybox | ' +
      "tr -s ' ' | cut -d' ' -f3,4,9; ls -lnd /t /dev/shm /w/d | tr -s ' ' | cut -d' ' -f3,9",
  );
  expect(seen.split('\n')).toEqual([
    ...[
      '0 0 /b/f',
      '0 0 /dev/shm/f',
      '0 0 /etc/f',
      '0 0 /etc/passwd',
      '0 0 /i/bin/busybox',
      '7 8 /run/secrets/s',
      '0 0 /v/f',
    ],
    ...['0 /dev/shm', '5 /t', '0 /w/d'],
  ]);
  const volume = (name: string): string => engine.volumes.get(name).mountpoint;
  const there = [
    join(volume('empty'), 'f'),
    volume('empty'),
    join(volume('filled'), 'passwd'),
    source,
    join(base, 'made'),
  ];
  expect(there.map(ids)).toEqual(there.map(() => '300000:400000'));
  await end(id);
});

/** Owner and name of each member. */
const listed = (archive: Buffer): string[] =>
  execFileSync('tar', ['--numeric-owner', '-tvf', '-'], { input: archive })
    .toString()
    .trimEnd()
    .split('\n')
    .map((line) => line.split(/\s+/))
    .map((words) => `${words[1]} ${words[5]}`);

async function bytes(source: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of source) chunks.push(chunk);
  return Buffer.concat(chunks);
}

it('copies, compares, exports and commits with the ids that the container sees', async () => {
  const tree = join(base, 'tree');
  mkdirSync(join(tree, 'in'), { recursive: true });
  writeFileSync(join(tree, 'in/file'), 'x');
  execFileSync('chown', ['-R', '12:34', join(tree, 'in')]);
  const archive = execFileSync('tar', ['-C', tree, '-cf', '-', 'in']);
  const put = (id: string, copyUidGid: boolean): Promise<void> =>
    engine.files.write(id, '/tmp', Readable.from([archive]), { noOverwriteDirNonDir: false, copyUidGid });
  const id = await running();
  await put(id, false);
  expect(await inside(id, "ls -ln /tmp/in/file | tr -s ' ' | cut -d' ' -f3,4")).toBe('12 34');
  await inside(
    id,
    'chown 5:6 /bin/busybox; echo again >/etc/passwd; rm /etc/group; mkdir -p /made/by; touch /made/by/7; chown 60007 /made/by/7',
  );
  const expected = ['C /bin', 'C /bin/busybox', 'C /etc', 'C /etc/passwd', 'D /etc/group', 'A /made', 'A /made/by'];
  const changes = async (): Promise<string[]> =>
    (await engine.files.changes(id)).map(({ path, kind }) => `${['C', 'A', 'D'][kind]} ${path}`).sort();
  const wanted = [...expected, 'A /made/by/7', 'C /tmp', 'A /tmp/in', 'A /tmp/in/file'].sort();
  expect(await changes()).toEqual(wanted);
  await engine.containers.kill(id, 'KILL');
  await until(() => engine.containers.inspect(id).state === 'exited', 'the end');
  await put(id, true);
  expect(await changes()).toEqual(wanted);
  const read = async (path: string): Promise<string[]> =>
    listed(await bytes((await engine.files.read(id, path)).archive));
  expect(await read('/tmp/in')).toEqual(['12/34 in/', '12/34 in/file']);
  expect(await read('/etc/hosts')).toEqual(['0/0 hosts']);
  const whole = listed(await bytes(await engine.files.export(id)));
  expect(whole).toEqual(expect.arrayContaining(['5/6 bin/busybox', '60007/0 made/by/7', '0/0 etc/', '0/0 root/']));
  const image = await engine.files.commit(id, { ...quiet, repository: 'again' });
  for (const usernsMode of ['', 'host']) {
    const script =
      'stat -c "%u %g %n" /bin/busybox /made/by/7 /etc/passwd 2>/dev/null || ls -ln /bin/busybox /made/by/7';
    const { out, id: next } = await runToEnd(engine, ['sh', '-c', script], { image: image.id, usernsMode });
    expect(out).toMatch(/5 +6 .*busybox/);
    expect(out).toMatch(/60007 +0 .*made/);
    await end(next);
  }
  await end(id);
});

it('keeps capabilities of files for the root inside, in both directions and through an image', async () => {
  const tree = join(base, 'capable');
  mkdirSync(tree);
  writeFileSync(join(tree, 'program'), 'x');
  const capability = '0x0100000200200000000000000000000000000000';
  execFileSync('setfattr', ['-n', 'security.capability', '-v', capability, join(tree, 'program')]);
  const archive = execFileSync('tar', ['-C', tree, '--xattrs', '--xattrs-include=*', '-cf', '-', 'program']);
  const plain = { noOverwriteDirNonDir: false, copyUidGid: false };
  const { id } = await engine.containers.create(config({ cmd: ['true'] }));
  await engine.files.write(id, '/root', Readable.from([archive]), plain);
  const stored = (path: string): string =>
    execFileSync('getfattr', ['--only-values', '-n', 'security.capability', path]).toString('hex');
  const atHost = `01000003${capability.slice(10)}${'e0930400'}`;
  expect(stored(join(images.rootParts(id).upper, 'root/program'))).toBe(atHost);
  const attribute = async (container: string): Promise<string> => {
    const got = await bytes((await engine.files.read(container, '/root/program')).archive);
    const at = got.indexOf('security.capability=') + 'security.capability='.length;
    return `0x${got.subarray(at, at + 20).toString('hex')}`;
  };
  expect(await attribute(id)).toBe(capability);
  const image = await engine.files.commit(id, { ...quiet, repository: 'capable' });
  const next = await engine.containers.create(config({ image: image.id, cmd: ['true'] }));
  expect(await attribute(next.id)).toBe(capability);
  await engine.containers.start(next.id);
  await engine.containers.wait(next.id, 'not-running', never);
  expect(await engine.files.changes(next.id)).toEqual([]);
  for (const one of [id, next.id]) await end(one);
});

it('loses nothing when a crash has left the layers bound below a root', async () => {
  const { id } = await runToEnd(engine, ['touch', '/new']);
  const root = dirname(images.rootParts(id).upper);
  const users = new UserNamespaces(directSpawner);
  const namespace = await users.shared(remap);
  bindIdmapped({ source: dirname(root), target: join(root, 'shifted'), namespace });
  // Also what is deleted without a look at its mounts is safe: the binding is read-only.
  expect(() => rmSync(join(root, 'shifted', 'l'), { recursive: true })).toThrow('EROFS');
  await engine.containers.start(id);
  await engine.containers.wait(id, 'not-running', never);
  bindIdmapped({ source: dirname(root), target: join(root, 'shifted'), namespace });
  users.closeAll();
  await end(id);
  expect(existsSync(root)).toBe(false);
  const next = await runToEnd(engine, ['ls', '/bin/busybox']);
  expect(next.exitCode).toBe(0);
  await end(next.id);
});

it('refuses what cannot be, and leaves the host its users where that is asked for', async () => {
  const make = (more: Partial<ContainerConfig>): Promise<unknown> => engine.containers.create(config(more));
  await expect(make({ privileged: true })).rejects.toThrow(
    'privileged mode is incompatible with user namespaces.  You',
  );
  await expect(make({ network: { mode: 'host' } })).rejects.toThrow(
    "cannot share the host's network namespace when user namespaces are enabled",
  );
  await expect(make({ pidMode: 'host' })).rejects.toThrow(
    'cannot share the host PID namespace when user namespaces are',
  );
  await expect(make({ usernsMode: 'keep' })).rejects.toThrow('invalid USER mode: keep');
  const host = await running({ usernsMode: 'host', privileged: true, pidMode: 'host' });
  expect(await inside(host, 'cat /proc/self/uid_map | tr -s " "')).toBe('0 0 4294967295');
  const { id } = await engine.containers.create(config({ ipcMode: 'host', cmd: ['ls', '/dev/shm'] }));
  await engine.containers.start(id);
  expect((await engine.containers.wait(id, 'not-running', never)).exitCode).toBe(0);
  const join = await engine.containers.create(config({ pidMode: `container:${host}` }));
  await expect(engine.containers.start(join.id)).rejects.toThrow(`container ${host} has other user ids on the host`);
  for (const one of [host, id, join.id]) await end(one);
});

it('shows devices at other places than the host has them, though it can make no nodes', async () => {
  const one = { pathOnHost: '/dev/zero', pathInContainer: '/dev/deep/naught', permissions: 'r' };
  const same = { pathOnHost: '/dev/full', pathInContainer: '/dev/full', permissions: 'rwm' };
  const script = 'ls -ln /dev/deep/naught /dev/full; dd if=/dev/deep/naught bs=4 count=1 2>/dev/null | wc -c';
  const { out, id } = await runToEnd(engine, ['sh', '-c', script], { devices: [one, same] });
  expect(out.replace(/ +/g, ' ')).toMatch(/ 1, 5 .* \/dev\/deep\/naught\n.* 1, 7 .* \/dev\/full\n4\n$/);
  await end(id);
});

it('shares the user namespace of a container whose other namespaces are shared', async () => {
  const owner = await running({ ipcMode: 'shareable' });
  const shared: Partial<ContainerConfig> = {
    network: { mode: 'container', container: owner },
    pidMode: `container:${owner}`,
    ipcMode: `container:${owner}`,
  };
  const id = await running({ ...shared, cmd: ['sleep', '999'] });
  expect(await inside(id, 'touch /dev/shm/f; ls /sys/class/net; cat /proc/*/cmdline | grep -c sleep')).toMatch(/^lo\n/);
  const users = [owner, id].map((one) => statSync(`/proc/${engine.containers.inspect(one).pid}/ns/user`).ino);
  expect(users[0]).toBe(users[1]);
  const other = await running();
  const both = await engine.containers.create(config({ ...shared, pidMode: `container:${other}` }));
  await expect(engine.containers.start(both.id)).rejects.toThrow('do not share a user namespace');
  for (const one of [both.id, other, id, owner]) await end(one);
});

it('finds its containers again, and holds nothing open for them', async () => {
  const id = await running({ restart: { name: 'always', maximumRetryCount: 0 } });
  const held = (): string[] =>
    readdirSync('/proc/self/fd').filter((fd) => {
      try {
        return (
          statSync(`/proc/self/fd/${fd}`).isFile() &&
          execFileSync('readlink', [`/proc/${process.pid}/fd/${fd}`]).includes('net:[')
        );
      } catch {
        return false;
      }
    });
  expect(held()).toEqual([]);
  await engine.shutdown();
  engine = await fixture.open();
  expect(await inside(id, 'id -u; touch /after')).toBe('0');
  await engine.control.restart(id, { graceMs: 0 });
  expect(await inside(id, 'ls /after')).toBe('/after');
  expect(engine.info().remapped).toBe(true);
  expect(await engine.doctor.examine({ deep: false, repair: false })).toMatchObject({ findings: [] });
  await end(id);
});
