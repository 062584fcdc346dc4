import { afterAll, beforeAll, expect, it } from 'vitest';
import { WebSocket } from 'ws';
import { Bed, Client, until } from './kit/index.ts';

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
