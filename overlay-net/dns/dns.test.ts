import packet from 'dns-packet';
import fc from 'fast-check';
import { createSocket } from 'node:dgram';
import { expect, test } from 'vitest';
import { SeededRandom, systemClock, systemRandom } from '../../base/index.ts';
import { NetworkTable } from '../../proto/index.ts';
import { decodeQuery, encodeResponse, reverseAddress } from './codec.ts';
import { createForwarder, parseResolvConf } from './forward.ts';
import { answerLocally } from './server.ts';
import { addName, emptyZone, overlayZone, type Zone } from './zone.ts';

const query = (name: string, type: 'A' | 'AAAA' | 'PTR', edns = false): Buffer =>
  packet.encode({
    type: 'query',
    id: 77,
    flags: packet.RECURSION_DESIRED,
    questions: [{ type, name }],
    additionals: edns
      ? [
          {
            type: 'OPT',
            name: '.',
            udpPayloadSize: 4096,
            extendedRcode: 0,
            ednsVersion: 0,
            flags: 0,
            flag_do: false,
            options: [],
          },
        ]
      : [],
  });

const zone: Zone = emptyZone('Back');
for (let i = 1; i <= 60; i++) addName(zone, 'many', `10.0.0.${i}`);
addName(zone, 'Web', '10.0.1.2');
zone.names.set('10.0.1.2', 'web.back');
zone.addresses.set('gone', []);

function ask(bytes: Buffer, limitBytes?: number): packet.Packet | undefined {
  const question = decodeQuery(bytes);
  if (question === undefined) return undefined;
  const answers = answerLocally(question, [zone], new SeededRandom(1));
  if (answers === undefined) return undefined;
  const limit = limitBytes ?? question.udpBytes;
  return packet.decode(encodeResponse(bytes, question, answers, { rcode: 0, ttlSeconds: 5, limitBytes: limit }));
}

test('answers are those a known codec understands', () => {
  const got = ask(query('WEB.back', 'A'));
  expect(got?.id).toBe(77);
  expect(got?.answers).toMatchObject([{ type: 'A', data: '10.0.1.2', ttl: 5 }]);
  expect(ask(query('2.1.0.10.in-addr.arpa', 'PTR'))?.answers).toMatchObject([{ type: 'PTR', data: 'web.back' }]);
  // Known names have no IPv6 address, which is not the same as being unknown.
  expect(ask(query('web', 'AAAA'))?.answers).toEqual([]);
  expect(ask(query('gone', 'A'))?.answers).toEqual([]);
  expect(ask(query('other', 'A'))).toBeUndefined();
});

test('a name of both families is answered by the family that is asked for, and found backwards', () => {
  const table = NetworkTable.create({
    endpoints: [
      {
        task_id: 't',
        task_name: 'db.1.t',
        service_id: 's',
        address: '10.0.2.5/24',
        address6: 'FD00:2:0::5/64',
        serving: true,
      },
    ],
    services: [{ service_id: 's', name: 'db', vip: '10.0.2.2', vip6: 'fd00:2::2' }],
  });
  const zones = [overlayZone('Net', table)];
  const told = (name: string, type: 'A' | 'AAAA' | 'PTR'): unknown => {
    const bytes = query(name, type);
    const question = decodeQuery(bytes);
    if (question === undefined) return undefined;
    const answers = answerLocally(question, zones, new SeededRandom(1)) ?? [];
    const response = encodeResponse(bytes, question, answers, { rcode: 0, ttlSeconds: 5, limitBytes: 512 });
    return packet.decode(response).answers?.map((answer) => (answer as { data: unknown }).data);
  };
  expect([told('db', 'A'), told('db', 'AAAA')]).toEqual([['10.0.2.2'], ['fd00:2::2']]);
  expect([told('tasks.db', 'A'), told('tasks.db', 'AAAA')]).toEqual([['10.0.2.5'], ['fd00:2::5']]);
  expect(told('db.1.t.net', 'AAAA')).toEqual(['fd00:2::5']);
  const reverse = `5${'.0'.repeat(23)}.2.0.0.0.0.0.d.f.ip6.arpa`;
  expect(told(reverse, 'PTR')).toEqual(['db.1.t.net']);
});

test('what does not fit is cut and marked, unless the client announced room', () => {
  const small = ask(query('many', 'A'));
  expect(small?.answers?.length).toBeLessThan(60);
  expect((small?.flags ?? 0) & packet.TRUNCATED_RESPONSE).not.toBe(0);
  const large = ask(query('many', 'A', true));
  expect(new Set(large?.answers?.map((answer) => (answer as { data: unknown }).data)).size).toBe(60);
  expect((large?.flags ?? 0) & packet.TRUNCATED_RESPONSE).toBe(0);
});

test('no bytes make the reader fail', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
      decodeQuery(bytes);
    }),
  );
  const whole = query('a.b.c', 'A');
  for (let end = 0; end < whole.length; end++) expect(decodeQuery(whole.subarray(0, end))).toBeUndefined();
  expect(reverseAddress('300.1.1.1.in-addr.arpa')).toBeUndefined();
});

test('other names go to the resolvers, the second when the first is silent', async () => {
  const silent = createSocket('udp4');
  const server = createSocket('udp4');
  server.on('message', (bytes, from) => {
    const asked = packet.decode(bytes);
    const data = '198.51.100.7';
    const answers: packet.Answer[] = [{ type: 'A', name: 'example.test', data }];
    const reply = packet.encode({ type: 'response', ...(asked.id === undefined ? {} : { id: asked.id }), answers });
    server.send(reply, from.port, from.address);
  });
  for (const socket of [silent, server]) await new Promise<void>((resolve) => socket.bind(0, '127.0.0.1', resolve));
  const forwarder = createForwarder(systemClock, systemRandom);
  const servers = [silent, server].map((socket) => `127.0.0.1#${socket.address().port}`);
  const answer = await forwarder.forward(query('example.test', 'A'), servers, 'udp');
  expect(packet.decode(answer as Buffer)).toMatchObject({ id: 77, answers: [{ data: '198.51.100.7' }] });
  silent.close();
  server.close();
  expect(parseResolvConf('search x\nnameserver 127.0.0.11\nnameserver 192.0.2.1\n')).toEqual(['192.0.2.1']);
});
