import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import { afterEach, expect, test } from 'vitest';
import { AF_INET, closeFd, SOCK_STREAM, socketAddress4, sockets, VirtualClock } from '../../../base/index.ts';
import { Transport } from './transport.ts';

const open: (() => void)[] = [];
afterEach(() => {
  for (const close of open.splice(0)) close();
});

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** A listener whose queue is full: the kernel drops every further attempt to connect. */
async function deafListener(): Promise<number> {
  const port = await freePort();
  const fd = sockets.open(AF_INET, SOCK_STREAM);
  open.push(() => closeFd(fd));
  sockets.bind(fd, socketAddress4('127.0.0.1', port));
  sockets.listen(fd, 0);
  const filler: Socket = connect(port, '127.0.0.1');
  open.push(() => filler.destroy());
  await new Promise((resolve) => filler.once('connect', resolve));
  return port;
}

test('a connection that does not come about is tried anew, three times in all', async () => {
  const clock = new VirtualClock();
  const transport = new Transport(clock, []);
  open.push(() => transport.close());
  const port = await deafListener();
  const request = transport.request(new URL(`http://127.0.0.1:${port}/v2/`), {
    method: 'GET',
    signal: new AbortController().signal,
  });
  const outcome = request.then(
    () => 'answered',
    (error: Error) => error.message,
  );
  await clock.advanceAsync(5_900);
  expect(await Promise.race([outcome, Promise.resolve('waiting')])).toBe('waiting');
  await clock.advanceAsync(200);
  expect(await outcome).toContain(`dial tcp 127.0.0.1:${port}: i/o timeout`);
});
