import fc from 'fast-check';
import { isIPv6 } from 'node:net';
import { expect, test } from 'vitest';
import { canonicalIp, formatBytes, ipBytes, isAddress, macOf, maskLength, subnetOf } from './ip.ts';
import { contains6, formatIp6, formatPrefix6, isIp6, overlap6, parseIp6, parsePrefix6 } from './ip6.ts';

test('addresses are written in one form (RFC 5952 4 and 5)', () => {
  for (const [given, written] of [
    ['2001:0DB8::0001', '2001:db8::1'],
    ['2001:db8:0:0:1:0:0:1', '2001:db8::1:0:0:1'],
    ['2001:db8:0:1:1:1:1:1', '2001:db8:0:1:1:1:1:1'],
    ['0:0:0:0:0:0:0:0', '::'],
    ['fe80:0:0:0:0:0:0:0/64', 'fe80::'],
    ['::ffff:192.0.2.1', '::ffff:192.0.2.1'],
    ['1:0:0:2:0:0:0:3', '1:0:0:2::3'],
    ['10.0.0.1/24', '10.0.0.1'],
  ] as const) {
    expect(canonicalIp(given)).toBe(written);
  }
  for (const bad of ['', ':', ':::', '1::2::3', '12345::', '1:2:3:4:5:6:7', '1:2:3:4:5:6:7:8:9', '::1.2.3', 'g::']) {
    expect(isIp6(bad)).toBe(false);
    expect(() => parseIp6(bad)).toThrow('invalid IPv6 address');
  }
});

test('text, bytes and numbers of an address say the same', () => {
  fc.assert(
    fc.property(fc.oneof(fc.ipV6(), fc.ipV4()), (text) => {
      expect(isAddress(text)).toBe(true);
      const written = canonicalIp(text);
      expect(formatBytes(ipBytes(text))).toBe(written);
      expect(ipBytes(written)).toEqual(ipBytes(text));
      expect(macOf(text)).toMatch(/^02:42(:[0-9a-f]{2}){4}$/);
      if (written.includes(':')) expect(formatIp6(parseIp6(text))).toBe(written);
    }),
  );
  fc.assert(fc.property(fc.string(), (text) => isIp6(text) === isIPv6(text) || text.includes('%')));
});

test('prefixes hold their addresses', () => {
  const prefix = parsePrefix6('fd00:1::5/64');
  expect(formatPrefix6(prefix)).toBe('fd00:1::/64');
  expect(contains6(prefix, parseIp6('fd00:1::ffff:1'))).toBe(true);
  expect(contains6(prefix, parseIp6('fd00:1:0:1::1'))).toBe(false);
  expect(overlap6(prefix, parsePrefix6('fd00::/16'))).toBe(true);
  expect(overlap6(prefix, parsePrefix6('fd00:2::/32'))).toBe(false);
  expect(formatPrefix6(parsePrefix6('fd00::1/0'))).toBe('::/0');
  expect(() => parsePrefix6('fd00::/129')).toThrow('invalid subnet');
  expect([maskLength('fd00::1'), maskLength('fd00::1/64'), maskLength('10.0.0.1')]).toEqual([128, 64, 32]);
});

test('the subnet of an address is written as the kernel writes it', () => {
  expect(['10.9.1.5/24', '10.9.1.5/30', '10.9.1.5/0', '10.9.1.5/32'].map(subnetOf)).toEqual([
    '10.9.1.0/24',
    '10.9.1.4/30',
    '0.0.0.0/0',
    '10.9.1.5/32',
  ]);
  expect(['fd00:9:0:0:ff::5/64', 'fd00:9:1::5/33', '::1/0'].map(subnetOf)).toEqual([
    'fd00:9::/64',
    'fd00:9::/33',
    '::/0',
  ]);
});
