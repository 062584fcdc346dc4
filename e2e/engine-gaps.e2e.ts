import { spawn } from 'node:child_process';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { WebSocket } from 'ws';
import { must } from '../base/index.ts';
import { Bed, Client, DOCKER, SHOAL, until } from './kit/index.ts';

/** Streams of containers over WebSockets, and `stats` that goes on while containers come and go. */
const bed = new Bed('gaps');
let client: Client;

beforeAll(async () => {
  await bed.up({ managers: 1, workers: 0, swarm: false });
  client = bed.client;
  await client.run('import', await bed.archive(), 'busybox:latest');
});
afterAll(() => bed.down());

/** Attaches to a container through a WebSocket. */
async function attach(container: string, query: string) {
  const path = client.host.replace('unix://', '');
  const socket = new WebSocket(`ws+unix://${path}:/v1.50/containers/${container}/attach/ws?${query}`);
  const seen = { text: '', code: 0, socket };
  socket.on('message', (data: Buffer) => (seen.text += data.toString('latin1')));
  socket.on('close', (code) => (seen.code = code));
  await new Promise((resolve, reject) => socket.on('open', resolve).on('error', reject));
  return seen;
}

it('a WebSocket carries a terminal: its log, what is typed, its end', async () => {
  await client.run('run', '-dit', '--name', 'terminal', 'busybox', 'sh', '-c', 'echo before; exec sh');
  await until('it wrote', 10_000, async () => (await client.run('logs', 'terminal')).includes('before'));
  const seen = await attach('terminal', 'logs=1&stream=1&stdin=1&stdout=1&stderr=1');
  await until('its log came', 10_000, () => seen.text.includes('before'));
  seen.socket.send('echo $((6*7))\n');
  await until('the answer came', 10_000, () => seen.text.includes('42'));
  seen.socket.send('exit 5\n');
  await until('the connection was closed in order', 10_000, () => seen.code === 1000);
  expect(await client.run('wait', 'terminal')).toBe('5');
});

it('a WebSocket carries pipes, ends their input with itself, and leaves by detach keys', async () => {
  await client.run('create', '-i', '--name', 'pipe', 'busybox', 'sh', '-c', 'cat; echo done >&2');
  const seen = await attach('pipe', 'stream=1&stdin=1&stdout=1&stderr=1');
  await client.run('start', 'pipe');
  seen.socket.send(Buffer.from([0x68, 0xff, 0x0a]));
  await until('its bytes came back', 10_000, () => seen.text === 'h\u00ff\n');
  seen.socket.close();
  await until('it was logged', 10_000, async () => (await client.run('logs', 'pipe')).includes('h'));
  expect(await client.run('wait', 'pipe')).toBe('0');
  await client.run('run', '-dit', '--name', 'held', 'busybox', 'sleep', '1000');
  const held = await attach('held', 'stream=1&stdin=1&stdout=1&detachKeys=ctrl-a,x');
  held.socket.send('\u0001x');
  await until('it has left', 10_000, () => held.code === 1000);
  expect(await client.run('inspect', '-f', '{{.State.Running}}', 'held')).toBe('true');
});

it('an image is mounted read-only while it is needed, and the doctor knows of it', async () => {
  const docker = (...args: string[]): Promise<string> => client.run(...args);
  await docker('tag', 'busybox', 'tool:1');
  await docker('run', '--name', 'maker', 'busybox', 'sh', '-c', 'mkdir /kit; echo made > /kit/file');
  await docker('commit', 'maker', 'kit:1');
  await docker('rm', 'maker');
  const mount = ['--mount', 'type=image,source=kit:1,target=/x', '--mount'];
  mount.push('type=image,source=kit:1,target=/y,image-subpath=kit');
  const script = 'cat /x/kit/file /y/file; touch /x/new || sleep 1000';
  await docker('run', '-d', '--name', 'user', ...mount, 'busybox', 'sh', '-c', script);
  await until('it has tried', 10_000, async () => (await docker('logs', 'user')) === 'made\nmade');
  const shown = await docker(
    'inspect',
    '-f',
    '{{range .Mounts}}{{.Type}} {{.Name}} {{.Destination}} {{.RW}},{{end}}',
    'user',
  );
  expect(shown.split(',').sort().join()).toBe(',image kit:1 /x false,image kit:1 /y false');
  expect(await docker('inspect', '-f', '{{range .HostConfig.Mounts}}{{json .}}{{end}}', 'user')).toContain(
    '{"Type":"image","Source":"kit:1","Target":"/y","ImageOptions":{"Subpath":"kit"}}',
  );
  expect(await client.fails('rmi', 'kit:1')).toMatch(
    /unable to remove repository reference "kit:1" \(must force\) - container/,
  );
  expect(await docker('image', 'prune', '-af')).not.toContain('kit');
  // The image may be forced off the list; its layers stay, also over a crash of the daemon.
  await docker('stop', '-t', '0', 'user');
  await docker('rmi', '-f', await docker('images', '-q', 'kit:1'));
  await docker('start', 'user');
  await until('it has read again', 10_000, async () => (await docker('logs', 'user')) === 'made\n'.repeat(4).trimEnd());
  expect(await docker('cp', 'user:/y/file', '-')).toContain('made');
  const doctor = (): Promise<{ OK: boolean; Lines: string[] }> => bed.api('/shoal/doctor');
  expect((await doctor()).Lines.join()).not.toMatch(/orphan|user|root/);
  await docker('stop', '-t', '0', 'user');
  expect(await docker('cp', 'user:/y/file', '-')).toContain('made');
  expect(await client.fails('cp', bed.file('busybox.tar'), 'user:/x/')).toMatch(/read-only/);
  expect((await doctor()).OK).toBe(true);
  await docker('rm', 'user');
});

/** `docker stats` as it goes on: what it has printed of each container, by name. */
function watchStats(...names: string[]) {
  const [file = '', ...before] = client.program === 'docker' ? [must(DOCKER, 'docker')] : SHOAL;
  const env = { PATH: process.env.PATH ?? '', HOME: bed.file(''), DOCKER_HOST: client.host };
  const format = ['--format', '{{.Name}} {{.CPUPerc}} {{.PIDs}}'];
  const child = spawn(file, [...before, 'stats', ...format, ...names], { env, stdio: ['ignore', 'pipe', 'pipe'] });
  const seen = { text: '', child, count: (word: string) => seen.text.split(`${word} `).length - 1 };
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (data: Buffer) => (seen.text += data.toString()));
  return seen;
}

it('stats goes on while containers come and go', async () => {
  const start = (name: string): Promise<string> => client.run('run', '-d', '--name', name, 'busybox', 'sleep', '1000');
  await Promise.all(['one', 'two', 'three'].map(start));
  const all = watchStats();
  const some = watchStats('one', 'two');
  const measured = (seen: { text: string }, name: string): boolean =>
    new RegExp(`${name} \\d+\\.\\d\\d% 1\\b`).test(seen.text);
  const names = ['one', 'two', 'three'];
  await until('all are told of', 15_000, () => names.every((name) => measured(all, name)) && measured(some, 'two'));
  await client.run('rm', '-f', 'two');
  await start('four');
  await until('the new one is told of', 15_000, () => measured(all, 'four'));
  const before = [all, some].map((seen) => [seen.count('one'), seen.count('three')]);
  await until('the others go on', 15_000, () => all.count('one') > (before[0]?.[0] ?? 0) + 1);
  await until('and where they were asked for', 15_000, () => some.count('one') > (before[1]?.[0] ?? 0) + 1);
  expect(measured(some, 'three') || measured(some, 'four')).toBe(false);
  expect(all.text.slice(all.text.lastIndexOf('\u001b[H'))).not.toContain('two ');
  for (const { child } of [all, some]) child.kill('SIGKILL');
  await until('the daemon is well', 5000, async () => (await client.run('ps', '-q')).length > 0);
});
