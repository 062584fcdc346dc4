import { describe, expect, test } from 'vitest';
import { SeededRandom } from '../base/index.ts';
import { chooseCarrier } from './carrier.ts';
import { AddressSpace, addressText, addressValue, parseSubnet, subnetText } from './local-ipam.ts';
import { assertParent, DEFAULT_POOLS, LocalNetworks } from './local-networks.ts';
import type { LocalNetwork, LocalNetworkRequest } from './types.ts';

const wanted = (more: Partial<LocalNetworkRequest> = {}): LocalNetworkRequest => {
  return { name: 'n', subnet: '10.1.0.0/16', gateway: '', internal: false, labels: {}, options: {}, ...more };
};

function made(more: Partial<LocalNetworkRequest> = {}): { locals: LocalNetworks; network: LocalNetwork } {
  const locals = new LocalNetworks(new SeededRandom(1), 't1');
  const network = locals.complete(wanted(more), DEFAULT_POOLS, [], 0);
  locals.add(network);
  return { locals, network };
}

describe('addresses of either family', () => {
  test.each([
    ['::1', '::1'],
    ['2001:DB8::0:1', '2001:db8::1'],
    ['fd00:0:0:1:0:0:0:1', 'fd00:0:0:1::1'],
    ['1:2:3:4:5:6:7:8', '1:2:3:4:5:6:7:8'],
    ['64:FF9B::192.0.2.1', '64:ff9b::c000:201'],
    ['1:0:3:4:5:6:7:8', '1:0:3:4:5:6:7:8'],
    ['192.0.2.255', '192.0.2.255'],
    ['::', '::'],
  ])('%s is written %s', (text, usual) => {
    expect(addressText(addressValue(text), text.includes(':') ? 128 : 32)).toBe(usual);
  });

  test.each(['10.0.0.256', 'fe80::1%eth0', ':::', '1::2::3', 'x', '10.0.0.0/24'])('%s is refused', (text) => {
    expect(() => addressValue(text)).toThrow('invalid IP address');
  });

  test('subnets are cut to their base', () => {
    expect(subnetText(parseSubnet('fd00::17/64'))).toBe('fd00::/64');
    expect(subnetText(parseSubnet('10.9.8.7/12'))).toBe('10.0.0.0/12');
    for (const bad of ['10.0.0.0', '10.0.0.0/33', 'fd00::/129', 'x/8', '10.0.0.0/']) {
      expect(() => parseSubnet(bad)).toThrow('invalid CIDR block notation');
    }
  });

  test('a range gives every one of its addresses once, and one just left last', () => {
    const space = new AddressSpace('10.1.0.0/16', '10.1.5.0/30');
    expect([1, 2, 3, 4].map(() => space.choose())).toEqual(['10.1.5.0', '10.1.5.1', '10.1.5.2', '10.1.5.3']);
    expect(space.choose()).toBeUndefined();
    space.release('10.1.5.2');
    expect(space.choose()).toBe('10.1.5.2');
    const large = new AddressSpace('fd00::/64', '');
    expect(large.choose()).toBe('fd00::1');
    large.release('fd00::1');
    expect(large.choose()).toBe('fd00::2');
  });
});

test('a network of one family gets a subnet of IPv6, given or unique, and keeps it', () => {
  const { locals, network } = made();
  expect(() => locals.addIp6('n', '10.7.0.0/24')).toThrow('not of IPv6');
  locals.addIp6('n', 'fd07::9/64');
  expect(locals.find('n')).toEqual({ ...network, subnet6: 'fd07::/64', gateway6: 'fd07::1' });
  locals.addIp6('n');
  expect(locals.find('n')?.subnet6).toBe('fd07::/64');
  locals.add({ ...network, id: 'other', name: 'other' });
  expect(() => locals.addIp6('other', 'fd07::/80')).toThrow('Pool overlaps');
  locals.addIp6('other');
  expect(locals.find('other')?.subnet6).toMatch(/^fd[0-9a-f:]+\/64$/);
});

describe('a request for a network', () => {
  test('keeps gateway and addresses of others free', () => {
    const more = { ipRange: '10.1.0.0/29', auxAddresses: { router: '10.1.0.2' }, gateway: '10.1.0.4' };
    const { locals, network } = made(more);
    const chosen = [1, 2, 3, 4, 5].map(() => locals.choose(network));
    expect(chosen).toEqual(['10.1.0.1', '10.1.0.3', '10.1.0.5', '10.1.0.6', '10.1.0.7']);
    expect(locals.take(network, '10.1.0.2')).toBe(false);
    expect(locals.take(network, '10.1.9.9')).toBe(true);
    expect(() => locals.choose(network)).toThrow("no available IPv4 addresses on this network's address pools: n");
    expect(() => locals.take(network, '10.2.0.1')).toThrow('no configured subnet contains IP address 10.2.0.1');
    expect(() => locals.take(network, 'fd00::1')).toThrow('no configured subnet contains IP address fd00::1');
  });

  test('with IPv6 gets a unique local subnet of its own, or the one given', () => {
    const { network } = made({ ipv6: true });
    expect(network.subnet6).toMatch(/^fd[0-9a-f:]+::\/64$/);
    expect(network.gateway6).toBe(network.subnet6.replace('/64', '1'));
    const given = made({ ipv6: true, subnet6: '2001:db8::/64', gateway6: '2001:db8::9' });
    expect(given.network).toMatchObject({ subnet6: '2001:db8::/64', gateway6: '2001:db8::9' });
    expect(given.locals.choose(given.network, 6)).toBe('2001:db8::1');
    expect(made().network).toMatchObject({ subnet6: '', gateway6: '' });
  });

  test.each<[Partial<LocalNetworkRequest>, string]>([
    [{ gateway: '10.2.0.1' }, "invalid gateway 10.2.0.1: parent subnet 10.1.0.0/16 doesn't contain this address"],
    [{ ipRange: '10.2.0.0/24' }, "invalid ip-range 10.2.0.0/24: parent subnet 10.1.0.0/16 doesn't contain ip-range"],
    [{ auxAddresses: { a: '10.2.0.1' } }, 'invalid auxiliary address 10.2.0.1'],
    [{ subnet: '10.1.0.0/99' }, 'invalid subnet 10.1.0.0/99: invalid CIDR block notation'],
    [{ name: '' }, 'network name cannot be empty'],
    [{ options: { 'com.docker.network.driver.mtu': 'x' } }, 'invalid value for MTU: x'],
    [{ driver: 'ipvlan' }, 'network driver ipvlan is not supported by Shoal'],
    [{ driver: 'macvlan', options: { macvlan_mode: 'vepa' } }, "requested macvlan mode 'vepa' is not valid"],
  ])('%j is refused', (more, words) => {
    expect(() => made(more)).toThrow(words);
  });

  test('clashes are told in Docker’s words', () => {
    const { locals } = made({ options: { 'com.docker.network.bridge.name': 'br-x' } });
    const again = (more: Partial<LocalNetworkRequest>) => (): LocalNetwork =>
      locals.complete(wanted({ name: 'm', ...more }), DEFAULT_POOLS, [], 0);
    expect(again({})).toThrow('invalid pool request: Pool overlaps with other one on this address space');
    expect(again({ name: 'n' })).toThrow('network with name n already exists');
    const options = { 'com.docker.network.bridge.name': 'br-x' };
    expect(again({ subnet: '10.3.0.0/16', options })).toThrow('uses the same bridge name br-x');
  });

  test('the parent of a macvlan must be there, and nobody else’s', () => {
    const { network } = made({ driver: 'macvlan', options: { parent: 'eth0' } });
    expect(() => assertParent('eth9', ['eth0'], [])).toThrow(
      'invalid subinterface vlan name eth9, example formatting is eth0.10',
    );
    expect(() => assertParent('eth0.7', ['eth0'], [])).toThrow('could not find parent interface eth0.7');
    expect(() => assertParent('', ['eth0'], [])).toThrow('--opt parent=LINK');
    expect(() => assertParent('eth0', ['eth0'], [network])).toThrow('is already using parent interface eth0');
    assertParent('eth0', ['eth0'], []);
  });
});

test('the default route follows ingress, priority, both families, name, and the gateway network last', () => {
  const leg = (networkName: string, more: object = {}): Parameters<typeof chooseCarrier>[0][number] => {
    return { kind: 'local', networkName, gateway: '10.0.0.1', gwPriority: 0, ...more };
  };
  const chosen = (...legs: Parameters<typeof chooseCarrier>[0]): string | undefined =>
    chooseCarrier(legs, 4)?.networkName;
  expect(chosen(leg('b'), leg('a'))).toBe('a');
  expect(chosen(leg('b', { gateway6: 'fd00::1' }), leg('a'))).toBe('b');
  expect(chosen(leg('b', { gwPriority: 1 }), leg('a', { gateway6: 'fd00::1' }))).toBe('b');
  expect(chosen(leg('b', { gwPriority: 1 }), leg('z', { kind: 'ingress' }))).toBe('z');
  expect(chosen(leg('a', { kind: 'gateway' }), leg('z'))).toBe('z');
  expect(chosen(leg('a', { gateway: '' }))).toBeUndefined();
  expect(chooseCarrier([leg('a'), leg('b', { gateway6: 'fd00::1' })], 6)?.networkName).toBe('b');
});
