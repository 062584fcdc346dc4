import { expect, it } from 'vitest';
import { hostSubnets } from './host-subnets.ts';

const info = (cidr: string, internal = false) => ({
  address: cidr.split('/')[0] ?? '',
  netmask: '',
  mac: '',
  internal,
  cidr,
  ...(cidr.includes(':') ? { family: 'IPv6' as const, scopeid: 0 } : { family: 'IPv4' as const }),
});

it('a host tells of the subnets of its own links', () => {
  const interfaces = {
    lo: [info('127.0.0.1/8', true)],
    eth1: [info('192.0.2.7/24'), info('fe80::1/64'), info('2001:db8::7/64')],
    eth0: [info('10.0.0.7/16')],
    docker0: [info('172.17.0.1/16')],
    'br-12ab': [info('172.18.0.1/16')],
  };
  expect(hostSubnets(interfaces)).toEqual(['10.0.0.0/16', '192.0.2.0/24', '2001:db8::/64']);
});
