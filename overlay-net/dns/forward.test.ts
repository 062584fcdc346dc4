import packet from 'dns-packet';
import { createSocket, type Socket } from 'node:dgram';
import { createServer, type Server } from 'node:net';
import { afterEach, expect, test } from 'vitest';
import { systemClock, systemRandom } from '../../base/index.ts';
import { createForwarder, parseResolvConf, type Upstream } from './forward.ts';

const closers: (() => void)[] = [];
afterEach(() => {
  for (const close of closers.splice(0)) close();
});

const query = (name: string): Buffer =>
  packet.encode({ type: 'query', id: 77, flags: packet.RECURSION_DESIRED, questions: [{ type: 'A', name }] });

type Reply = Partial<packet.Packet> & { address?: string };

function encodeReply(bytes: Buffer, { address, ...more }: Reply): Buffer {
  const { id = 0, questions = [] } = packet.decode(bytes);
  const name = questions[0]?.name ?? '';
  const answers: packet.Answer[] = address === undefined ? [] : [{ type: 'A', name, data: address }];
  return packet.encode({ type: 'response', id, questions, answers, ...more });
}

/** A server on loopback that replies as told, or never. Returns `address#port` and the questions it got. */
async function upstream(how: Reply | undefined, byTcp?: Reply): Promise<{ server: string; asked: number[] }> {
  const socket: Socket = createSocket('udp4');
  const asked: number[] = [];
  socket.on('message', (bytes, from) => {
    asked.push(bytes.readUInt16BE(0));
    if (how !== undefined) socket.send(encodeReply(bytes, how), from.port, from.address);
  });
  await new Promise<void>((resolve) => socket.bind(0, '127.0.0.1', resolve));
  const { port } = socket.address();
  closers.push(() => socket.close());
  if (byTcp !== undefined) {
    const stream: Server = createServer((client) => {
      client.on('data', (bytes) => {
        const reply = encodeReply(bytes.subarray(2), byTcp);
        client.write(Buffer.concat([Buffer.of(reply.length >> 8, reply.length & 255), reply]));
      });
      client.on('error', () => undefined);
    });
    await new Promise<void>((resolve) => stream.listen(port, '127.0.0.1', resolve));
    closers.push(() => stream.close());
  }
  return { server: `127.0.0.1#${port}`, asked };
}

const of = (...servers: string[]): Upstream => ({ servers, namespace: '', hostServers: false });
const forwarder = createForwarder({ clock: systemClock, random: systemRandom });
const answered = async (name: string, to: Upstream): Promise<packet.Packet | undefined> => {
  const got = await forwarder.forward('box', query(name), to, 'udp');
  return got === undefined ? undefined : packet.decode(got);
};

test('the second is asked when the first is silent or fails; what it says comes back under the asked id', async () => {
  const [silent, broken, good] = [
    await upstream(undefined),
    await upstream({ flags: 2 }),
    await upstream({ address: '198.51.100.7' }),
  ];
  expect(await answered('example.test', of(broken.server, good.server))).toMatchObject({
    id: 77,
    answers: [{ data: '198.51.100.7' }],
  });
  expect(await answered('Example.test', of(silent.server, good.server))).toMatchObject({ id: 77 });
  // A failure is better than nothing, but no-such-name is an answer.
  expect((await answered('example.test', of(broken.server)))?.flags).toBe(2);
  expect(broken.asked.length).toBe(3);
});

test('what does not fit a datagram is asked by TCP', async () => {
  const cut = await upstream({ flags: packet.TRUNCATED_RESPONSE }, { address: '198.51.100.8' });
  expect(await answered('big.test', of(cut.server))).toMatchObject({ answers: [{ data: '198.51.100.8' }] });
});

test('a reply to another question is not taken', async () => {
  const liar = await upstream({ address: '203.0.113.6', questions: [{ type: 'A', name: 'other.test' }] });
  const good = await upstream({ address: '198.51.100.9' });
  expect(await answered('true.test', of(liar.server, good.server))).toMatchObject({
    answers: [{ data: '198.51.100.9' }],
  });
});

test('one sandbox has so many questions outstanding and no more, and leaves room for others', async () => {
  const silent = await upstream(undefined);
  const slow = Array.from({ length: 256 }, (_, i) =>
    forwarder.forward('busy', query(`n${i}.test`), of(silent.server), 'udp'),
  );
  expect(await forwarder.forward('busy', query('more.test'), of(silent.server), 'udp')).toBeUndefined();
  const good = await upstream({ address: '198.51.100.9' });
  expect(await answered('other.test', of(good.server))).toMatchObject({ answers: [{ data: '198.51.100.9' }] });
  expect(new Set(await Promise.all(slow))).toEqual(new Set([undefined]));
}, 15_000);

test("the host's resolvers are those of its file as it is now, and only for containers with a way out", async () => {
  const [one, two] = [await upstream({ address: '192.0.2.1' }), await upstream({ address: '192.0.2.2' })];
  let file = `search x\nnameserver 127.0.0.11\nnameserver ${one.server}\n`;
  let now = 0;
  const clock = { ...systemClock, monotonic: () => now, after: systemClock.after.bind(systemClock) };
  const host = createForwarder({ clock, random: systemRandom, hostFile: () => file });
  const own: Upstream = { servers: [], namespace: '', hostServers: true };
  const first = async (): Promise<unknown> => {
    const got = await host.forward('box', query('a.test'), own, 'udp');
    return got === undefined ? undefined : (packet.decode(got).answers?.[0] as { data: unknown } | undefined)?.data;
  };
  expect(await first()).toBe('192.0.2.1');
  file = `nameserver ${two.server}\n`;
  now += 1000;
  expect(await first()).toBe('192.0.2.2');
  expect(await host.forward('box', query('a.test'), { ...own, hostServers: false }, 'udp')).toBeUndefined();
  expect(parseResolvConf('search x\nnameserver 127.0.0.11\n nameserver 192.0.2.1 # c\n')).toEqual(['192.0.2.1']);
});

test('a server that cannot be reached fails at once and takes nothing down', async () => {
  const startMs = performance.now();
  // Reserved addresses: the kernel refuses both.
  expect(await answered('a.test', of('255.255.255.255', '::ffff:0.0.0.0#1'))).toBeUndefined();
  expect(performance.now() - startMs).toBeLessThan(1900);
});
