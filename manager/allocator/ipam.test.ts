import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { formatAddress, macForAddress, overlaps, parseAddress, parseSubnet, subnetSize } from './address.ts';
import { AddressPool, chooseSubnet } from './ipam.ts';
import { PortTable } from './ports.ts';
import { SerialSet } from './serial-set.ts';

const pool = (subnet: string, more: object = {}): AddressPool =>
  new AddressPool({ subnet, range: '', gateway: '', reserved: {}, ...more });

describe('addresses', () => {
  it('are read and written in both families', () => {
    for (const text of [
      '10.0.1.3',
      '255.255.255.255',
      '0.0.0.0',
      'fd00:0:0:1::a',
      '::',
      'fd00::1:0:0:1',
      '1:0:2:0:3:0:4:5',
    ]) {
      expect(formatAddress(parseAddress(text)!)).toBe(text);
    }
    expect(formatAddress(parseAddress('fd00::1')!)).toBe('fd00::1');
    for (const text of ['', '1.2.3', '1.2.3.256', '1.2.3.4.5', 'fd00::1::2', 'x']) {
      expect(parseAddress(text)).toBeUndefined();
    }
    expect(() => parseSubnet('10.0.0.0/33')).toThrow('invalid CIDR');
    expect(() => parseSubnet('10.0.0.0')).toThrow('invalid CIDR');
  });

  it('make the MAC address of an endpoint', () => {
    expect(macForAddress('10.0.1.3/24')).toBe('02:42:0a:00:01:03');
    expect(macForAddress('192.168.255.16')).toBe('02:42:c0:a8:ff:10');
  });
});

describe('the serial set', () => {
  it('hands out every number of its range once, then none', () => {
    fc.assert(
      fc.property(fc.nat(5000), fc.integer({ min: 0, max: 9000 }), (low, size) => {
        const set = new SerialSet(low, low + size);
        const seen = new Set<number>();
        for (let n = set.take(); n !== undefined; n = set.take()) seen.add(n);
        expect(seen.size).toBe(size + 1);
        expect(Math.min(...seen)).toBe(low);
        expect(set.freeCount).toBe(0);
      }),
      { numRuns: 15 },
    );
  });

  it('behaves as a set with a cursor, whatever is done to it', () => {
    const step = fc.oneof(
      fc.constant({ op: 'take' as const, n: 0 }),
      fc.record({ op: fc.constantFrom('add' as const, 'delete' as const), n: fc.integer({ min: 90, max: 250 }) }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 400 }), (steps) => {
        const set = new SerialSet(100, 228);
        const model = new Set<number>();
        for (const { op, n } of steps) {
          if (op === 'add') {
            expect(set.add(n)).toBe(!model.has(n));
            model.add(n);
          } else if (op === 'delete') {
            expect(set.delete(n)).toBe(model.delete(n));
          } else {
            const taken = set.take();
            if (taken !== undefined) {
              expect(model.has(taken)).toBe(false);
              expect(taken >= 100 && taken <= 228).toBe(true);
              model.add(taken);
            } else {
              for (let i = 100; i <= 228; i++) expect(model.has(i)).toBe(true);
            }
          }
          expect([...set.values()]).toEqual([...model].sort((a, b) => a - b));
        }
      }),
      { numRuns: 60 },
    );
  });

  it('uses a number that was given back last of all', () => {
    const set = new SerialSet(1, 4);
    expect([set.take(), set.take()]).toEqual([1, 2]);
    set.delete(1);
    expect([set.take(), set.take(), set.take(), set.take()]).toEqual([3, 4, 1, undefined]);
  });
});

describe('an address pool', () => {
  it('starts behind the gateway and ends before the broadcast address', () => {
    const small = pool('10.1.2.7/29');
    expect(small.gateway).toBe('10.1.2.1');
    const all = Array.from({ length: 6 }, () => small.allocate());
    expect(all).toEqual(['10.1.2.2/29', '10.1.2.3/29', '10.1.2.4/29', '10.1.2.5/29', '10.1.2.6/29', undefined]);
  });

  it('keeps to its range, and off reserved addresses', () => {
    const ranged = pool('10.1.0.0/16', { range: '10.1.5.0/30', gateway: '10.1.5.1', reserved: { dns: '10.1.5.2' } });
    expect([ranged.allocate(), ranged.allocate(), ranged.allocate()]).toEqual([
      '10.1.5.0/16',
      '10.1.5.3/16',
      undefined,
    ]);
    expect(ranged.reserve('10.1.9.9')).toBe(true);
    expect(ranged.reserve('10.1.9.9/16')).toBe(false);
  });

  it('refuses what does not fit together', () => {
    expect(() => pool('10.0.0.0/31')).toThrow('too small');
    expect(() => pool('10.0.0.0/24', { gateway: '10.0.1.1' })).toThrow('no matching subnet for gateway 10.0.1.1');
    expect(() => pool('10.0.0.0/24', { range: '10.0.0.0/23' })).toThrow('is not inside of subnet');
  });

  it('serves a huge subnet of either family', () => {
    expect(pool('10.0.0.0/8').allocate()).toBe('10.0.0.2/8');
    expect(pool('fd00::/64').allocate()).toBe('fd00::2/64');
  });
});

describe('the choice of a subnet', () => {
  it('takes the first that overlaps none in use', () => {
    const base = fc.nat(0xffffff).map((n) => `10.${(n >> 16) & 3}.${(n >> 8) & 255}.${n & 255}`);
    const used = fc.array(fc.tuple(base, fc.integer({ min: 14, max: 30 })), { maxLength: 20 });
    fc.assert(
      fc.property(used, fc.integer({ min: 20, max: 28 }), (list, prefix) => {
        const avoid = list.map(([address, length]) => parseSubnet(`${address}/${length}`));
        const found = chooseSubnet(['10.0.0.0/14'], prefix, avoid);
        const candidates: bigint[] = [];
        const size = 1n << BigInt(32 - prefix);
        for (let at = parseSubnet('10.0.0.0/14').base; at < parseSubnet('10.4.0.0/14').base; at += size) {
          if (!avoid.some((other) => overlaps({ bits: 32, base: at, prefix }, other))) {
            candidates.push(at);
            break;
          }
        }
        expect(found?.base).toBe(candidates[0]);
        if (found !== undefined) expect(subnetSize(found)).toBe(size);
      }),
      { numRuns: 60 },
    );
  });

  it('goes on with the next pool when one is full', () => {
    const avoid = [parseSubnet('10.9.0.0/24')];
    expect(chooseSubnet(['10.9.0.0/24', '10.8.0.0/16'], 24, avoid)?.base).toBe(parseSubnet('10.8.0.0/24').base);
    expect(chooseSubnet(['10.9.0.0/24'], 24, avoid)).toBeUndefined();
  });
});

describe('the port table', () => {
  it('gives a port to one service, per protocol', () => {
    const ports = new PortTable();
    expect(ports.claim(0, 80, '', 'a')).toBe(true);
    expect(ports.claim(0, 80, '', 'a')).toBe(true);
    expect(ports.claim(0, 80, '', 'b')).toBe(false);
    expect(ports.claim(1, 80, '', 'b')).toBe(true);
    expect(ports.claim(0, 30_000, '', 'b')).toBe(true);
    expect(ports.takeDynamic(0, '', 'c')).toBe(30_001);
    expect(ports.release(0, 80, 'b')).toBe(false);
    expect(ports.release(0, 80, 'a')).toBe(true);
    expect(ports.claim(0, 80, '', 'b')).toBe(true);
  });

  it('gives a port to several services on different addresses', () => {
    const ports = new PortTable();
    expect(ports.claim(0, 80, '192.0.2.1', 'a')).toBe(true);
    expect(ports.claim(0, 80, '192.0.2.1', 'b')).toBe(false);
    expect(ports.claim(0, 80, '::1', 'b')).toBe(true);
    for (const all of ['', '0.0.0.0', '::']) expect(ports.claim(0, 80, all, 'c')).toBe(false);
    expect(ports.claim(0, 80, '', 'a')).toBe(false);
    expect(ports.addressOf(0, 80, 'a')).toBe('192.0.2.1');
    expect(ports.release(0, 80, 'b')).toBe(true);
    expect(ports.claim(0, 80, '', 'a')).toBe(true);
    expect(ports.rival(0, 80, '::1', 'b')).toBe('a');
    expect(ports.dump()).toEqual(['0/80@=a']);
  });
});
