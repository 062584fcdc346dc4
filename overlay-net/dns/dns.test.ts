import packet from 'dns-packet';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { NetworkTable, PortConfig_Protocol } from '../../proto/index.ts';
import { FORWARD, NameView, SILENCE, TCP_BYTES_MAX } from './answer.ts';
import { decodeQuery, reverseAddress } from './codec.ts';
import { NameTables } from './name-tables.ts';
import { changeOf } from '../table-change.ts';
import { LiveZone, overlayZone } from './live-zone.ts';
import { addName, changeText, emptyZone, zoneText, type Zone } from './zone.ts';

type Kind = packet.RecordType | 'ANY';

const query = (name: string, type: Kind, edns?: { version?: number; size?: number }): Buffer =>
  packet.encode({
    type: 'query',
    id: 77,
    flags: packet.RECURSION_DESIRED,
    // The codec knows ANY; its types do not.
    questions: [{ type: type as packet.RecordType, name }],
    additionals:
      edns === undefined
        ? []
        : [
            {
              type: 'OPT',
              name: '.',
              udpPayloadSize: edns.size ?? 4096,
              extendedRcode: 0,
              ednsVersion: edns.version ?? 0,
              flags: 0,
              flag_do: false,
              options: [],
            },
          ],
  });

function reply(zones: readonly Zone[], bytes: Buffer, transport: 'udp' | 'tcp' = 'udp'): packet.Packet | number {
  const room = Buffer.alloc(TCP_BYTES_MAX);
  const length = new NameView([], () => zones).answer(bytes, transport, room);
  return length > 0 ? packet.decode(room.subarray(0, length)) : length;
}

function ask(zones: readonly Zone[], ...args: Parameters<typeof query>): packet.Packet {
  const got = reply(zones, query(...args));
  if (typeof got === 'number') throw new Error(`no answer: ${got}`);
  return got;
}

const data = (answers: readonly packet.Answer[] | undefined): unknown[] =>
  (answers ?? []).map((answer) => (answer as { data: unknown }).data);
const told = (zones: readonly Zone[], name: string, type: Kind): unknown[] => data(ask(zones, name, type).answers);
/** RCODE in the flags of a packet. */
const rcode = (got: packet.Packet): number => (got.flags ?? 0) & 15;

const zone: Zone = emptyZone('Back');
for (let i = 1; i <= 60; i++) addName(zone, 'many', `10.0.0.${i}`);
addName(zone, 'Web', '10.0.1.2');
zone.names.set('10.0.1.2', 'web.back');
zone.addresses.set('gone', []);

const dual = overlayZone(
  'Net',
  NetworkTable.create({
    endpoints: [
      {
        task_id: 't',
        task_name: 'db.1.t',
        service_id: 's',
        address: '10.0.2.5/24',
        address6: 'FD00:2:0::5/64',
        serving: true,
        weight: 3,
      },
      { task_id: 'u', task_name: 'db.2.u', service_id: 's', address: '10.0.2.6/24', serving: false },
      { task_id: 'v', task_name: 'rr.1.v', service_id: 'r', address: '10.0.2.7/24', serving: true },
    ],
    services: [
      {
        service_id: 's',
        name: 'db',
        aliases: ['sql'],
        vip: '10.0.2.2',
        vip6: 'fd00:2::2',
        ports: [
          { name: 'pg', protocol: PortConfig_Protocol.TCP, target_port: 5432 },
          { name: '', protocol: PortConfig_Protocol.UDP, target_port: 53 },
        ],
      },
      { service_id: 'r', name: 'rr', ports: [{ name: 'web', target_port: 80 }] },
    ],
  }),
);

describe('answers', () => {
  test('are those a known codec understands', () => {
    const got = ask([zone], 'WEB.back', 'A');
    expect(got.id).toBe(77);
    // The case of the question is kept, which clients use as a check.
    expect(got.questions).toMatchObject([{ name: 'WEB.back' }]);
    expect(got.answers).toMatchObject([{ type: 'A', name: 'WEB.back', data: '10.0.1.2', ttl: 1 }]);
    expect(told([zone], '2.1.0.10.in-addr.arpa', 'PTR')).toEqual(['web.back']);
  });

  test('a name that is known is never asked of others, whatever is asked of it', () => {
    for (const [name, type] of [
      ['web', 'AAAA'],
      ['gone', 'A'],
      ['web', 'TXT'],
      ['db.2.u', 'A'],
    ] as const) {
      const got = ask([zone, dual], name, type);
      expect([got.answers, rcode(got)]).toEqual([[], 0]);
    }
    expect(rcode(ask([zone, dual], 'tasks.nobody', 'A'))).toBe(3);
    expect(rcode(ask([zone, dual], 'tasks.no.body.net', 'A'))).toBe(3);
    for (const name of ['other', 'tasks.example.com', 'x.back', '_x._tcp.other', '9.9.9.9.in-addr.arpa']) {
      expect(reply([zone, dual], query(name, 'A'))).toBe(FORWARD);
    }
  });

  test('a name of both families is answered by the family that is asked for, and found backwards', () => {
    const zones = [dual];
    expect([told(zones, 'db', 'A'), told(zones, 'db', 'AAAA')]).toEqual([['10.0.2.2'], ['fd00:2::2']]);
    expect(told(zones, 'sql.net', 'ANY')).toEqual(expect.arrayContaining(['10.0.2.2', 'fd00:2::2']));
    expect([told(zones, 'tasks.db', 'A'), told(zones, 'tasks.db', 'AAAA')]).toEqual([['10.0.2.5'], ['fd00:2::5']]);
    expect(told(zones, 'db.1.t.net', 'AAAA')).toEqual(['fd00:2::5']);
    const reverse = `5${'.0'.repeat(23)}.2.0.0.0.0.0.d.f.ip6.arpa`;
    expect(told(zones, reverse, 'PTR')).toEqual(['db.1.t.net']);
    expect(told(zones, '2.2.0.10.in-addr.arpa', 'PTR')).toEqual(['db.net']);
  });

  test('ports are found by name and protocol, of the service or of each task, with the addresses beside', () => {
    const whole = ask([dual], '_pg._tcp.db', 'SRV');
    expect(data(whole.answers)).toEqual([{ priority: 0, weight: 1, port: 5432, target: 'db.net' }]);
    expect(data(whole.additionals)).toEqual(['10.0.2.2', 'fd00:2::2']);
    expect(told([dual], '_tcp.sql.net', 'SRV')).toMatchObject([{ port: 5432, target: 'db.net' }]);
    expect(told([dual], '_udp.db', 'SRV')).toMatchObject([{ port: 53 }]);
    expect(told([dual], '_pg._tcp.tasks.db', 'SRV')).toEqual([
      { priority: 0, weight: 3, port: 5432, target: 'db.1.t.net' },
    ]);
    // Without a virtual address the tasks are the service.
    expect(told([dual], '_web._tcp.rr', 'SRV')).toMatchObject([{ port: 80, target: 'rr.1.v.net' }]);
    expect(rcode(ask([dual], '_no._tcp.db', 'SRV'))).toBe(3);
    expect(ask([dual], '_pg._tcp.db', 'A')).toMatchObject({ answers: [] });
  });

  test('what does not fit is cut and marked, unless the client announced room or came by TCP', () => {
    const small = ask([zone], 'many', 'A');
    expect(small.answers?.length).toBeLessThan(60);
    expect((small.flags ?? 0) & packet.TRUNCATED_RESPONSE).not.toBe(0);
    for (const whole of [ask([zone], 'many', 'A', {}), reply([zone], query('many', 'A'), 'tcp') as packet.Packet]) {
      expect(new Set(data(whole.answers)).size).toBe(60);
      expect((whole.flags ?? 0) & packet.TRUNCATED_RESPONSE).toBe(0);
    }
  });

  test('EDNS is answered with EDNS, a later version with what we speak', () => {
    expect(ask([zone], 'web', 'A').additionals).toEqual([]);
    expect(ask([zone], 'web', 'A', { size: 100 }).additionals).toMatchObject([{ type: 'OPT', extendedRcode: 0 }]);
    const later = ask([zone], 'web', 'A', { version: 1 });
    expect(later).toMatchObject({ answers: [], additionals: [{ type: 'OPT', extendedRcode: 1, ednsVersion: 0 }] });
  });

  test('each address comes first in turn', () => {
    const view = new NameView([], () => [zone]);
    const first = new Set<unknown>();
    const room = Buffer.alloc(4096);
    for (let i = 0; i < 60; i++) {
      const length = view.answer(query('many', 'A', {}), 'udp', room);
      first.add(data(packet.decode(room.subarray(0, length)).answers)[0]);
    }
    expect(first.size).toBe(60);
  });
});

describe('queries of any kind', () => {
  test('no bytes make the reader fail', () => {
    const room = Buffer.alloc(TCP_BYTES_MAX);
    const view = new NameView([], () => [zone, dual]);
    const valid = query('web.back', 'A', {});
    const mangled = fc
      .tuple(fc.nat(valid.length - 1), fc.nat(255), fc.nat(valid.length))
      .map(([at, byte, end]) => Buffer.from(valid.map((old, i) => (i === at ? byte : old)).subarray(0, end)));
    fc.assert(
      fc.property(fc.oneof(fc.uint8Array({ maxLength: 300 }), mangled), (bytes) => {
        const message = Buffer.from(bytes);
        decodeQuery(message);
        for (const transport of ['udp', 'tcp'] as const) {
          const length = view.answer(message, transport, room);
          expect(length).toBeGreaterThanOrEqual(FORWARD);
          expect(length).toBeLessThanOrEqual(transport === 'udp' ? 4096 : TCP_BYTES_MAX);
          // Answers are answers: two servers never talk to each other for ever.
          if (length > 0) expect(view.answer(Buffer.from(room.subarray(0, length)), 'udp', room)).toBe(SILENCE);
        }
      }),
      { numRuns: 2000 },
    );
  });

  test('what cannot be read is told so, and what is cut off stays unread', () => {
    const whole = query('a.b.c', 'A');
    for (let end = 0; end < whole.length; end++) {
      expect(decodeQuery(whole.subarray(0, end))).toBeUndefined();
      const got = reply([zone], whole.subarray(0, end));
      if (end < 12) expect(got).toBe(SILENCE);
      else expect(rcode(got as packet.Packet)).toBe(1);
    }
    const notify = Buffer.from(whole);
    notify[2] = 0x20;
    expect(rcode(reply([zone], notify) as packet.Packet)).toBe(4);
    // A name that points at itself.
    const loop = Buffer.concat([whole.subarray(0, 12), Buffer.of(0xc0, 12, 0, 1, 0, 1)]);
    expect(rcode(reply([zone], loop) as packet.Packet)).toBe(1);
    expect(reverseAddress('300.1.1.1.in-addr.arpa')).toBeUndefined();
  });
});

describe('tables of names', () => {
  const table = (address: string, serving = true): NetworkTable =>
    NetworkTable.create({
      endpoints: Array.from({ length: 5 }, (_, i) => {
        return { task_id: `t${i}`, task_name: `web.${i}.t`, service_id: 's', address: `${address}.${i}/24`, serving };
      }),
      services: [{ service_id: 's', name: 'web' }],
    });
  const load = (tables: NameTables, generation: number, from: NetworkTable, pieces = Infinity): void => {
    const texts = [...zoneText(from, 2)];
    texts.slice(0, pieces).forEach((text, i) => {
      const last = i === texts.length - 1;
      tables.apply({ kind: 'zone', id: 'o:n', network: 'net', generation, text, last });
    });
  };
  const first = (view: NameView, name: string): unknown[] => {
    const room = Buffer.alloc(4096);
    const length = view.answer(query(name, 'A'), 'udp', room);
    return length > 0
      ? data(packet.decode(room.subarray(0, length)).answers)
          .map(String)
          .sort((a, b) => (a < b ? -1 : 1))
      : [length];
  };

  test('a zone is replaced with its last piece, and pieces that were overtaken count for nothing', () => {
    const tables = new NameTables();
    const view = tables.view(['o:n', 'm:n']);
    expect(first(view, 'web')).toEqual([FORWARD]);
    load(tables, 1, table('10.1.0'));
    expect(first(view, 'web.2.t')).toEqual(['10.1.0.2']);
    load(tables, 2, table('10.2.0'), 2);
    expect(first(view, 'web.2.t')).toEqual(['10.1.0.2']);
    load(tables, 3, table('10.3.0'));
    expect(first(view, 'web')).toEqual([0, 1, 2, 3, 4].map((i) => `10.3.0.${i}`));
    load(tables, 4, table('10.3.0', false));
    expect(first(view, 'web')).toEqual([]);
    tables.apply({ kind: 'zone-gone', id: 'o:n' });
    expect(first(view, 'web')).toEqual([FORWARD]);
  });

  test('what is told step by step is what a whole table tells', () => {
    const task = fc.record({
      id: fc.integer({ min: 1, max: 8 }),
      name: fc.integer({ min: 1, max: 6 }),
      service: fc.integer({ min: 1, max: 3 }),
      address: fc.integer({ min: 1, max: 8 }),
      alias: fc.boolean(),
      serving: fc.boolean(),
    });
    const service = fc.record({
      id: fc.integer({ min: 1, max: 3 }),
      name: fc.integer({ min: 1, max: 4 }),
      vip: fc.integer({ min: 0, max: 9 }),
      alias: fc.boolean(),
    });
    const tables = fc.record({
      tasks: fc.uniqueArray(task, { selector: ({ id }) => id, maxLength: 8 }),
      services: fc.uniqueArray(service, { selector: ({ id }) => id, maxLength: 3 }),
    });
    const sorted = (zone: Zone): unknown => ({
      addresses: Object.fromEntries([...zone.addresses].map(([name, list]) => [name, [...list].sort()])),
      names: Object.fromEntries(zone.names),
      services: Object.fromEntries(
        [...zone.services].map(([name, facts]) => {
          return [name, { ...facts, tasks: facts.tasks.map((one) => JSON.stringify(one)).sort() }];
        }),
      ),
    });
    fc.assert(
      fc.property(
        fc.array(tables, { minLength: 1, maxLength: 6 }),
        fc.integer({ min: 1, max: 5 }),
        (history, lines) => {
          const live = new LiveZone('net');
          let before: NetworkTable | undefined;
          for (const { tasks, services } of history) {
            const after = NetworkTable.create({
              endpoints: tasks.map(({ id, name, service: of, address, alias, serving }) => ({
                task_id: `t${id}`,
                task_name: `n${name}`,
                service_id: `s${of}`,
                address: `10.0.0.${address}/24`,
                aliases: alias ? ['other', 'w2'] : [],
                serving,
              })),
              services: services.map(({ id, name, vip, alias }) => ({
                service_id: `s${id}`,
                name: name === 4 ? 'n1' : `w${name}`,
                aliases: alias ? ['also'] : [],
                vip: vip === 0 ? '' : `10.0.0.${vip}`,
              })),
            });
            for (const text of changeText(changeOf(before, after), lines)) live.read(text);
            before = after;
            expect(sorted(live.zone)).toEqual(sorted(overlayZone('net', after)));
          }
        },
      ),
    );
  });

  test('containers of this host come and go', () => {
    const tables = new NameTables();
    const view = tables.view(['m:n']);
    const member = (name: string, address: string): Parameters<NameTables['apply']>[0] => {
      return { kind: 'member', id: 'm:n', key: name, member: { network: 'net', names: [name], addresses: [address] } };
    };
    tables.apply(member('one', '172.18.0.2'));
    tables.apply(member('two', '172.18.0.3'));
    expect([first(view, 'ONE'), first(view, 'two.net')]).toEqual([['172.18.0.2'], ['172.18.0.3']]);
    tables.apply({ kind: 'member-gone', id: 'm:n', key: 'one' });
    expect([first(view, 'one'), first(view, 'two')]).toEqual([[FORWARD], ['172.18.0.3']]);
    tables.apply({ kind: 'member-gone', id: 'm:n', key: 'two' });
    expect(first(view, 'two')).toEqual([FORWARD]);
  });
});
