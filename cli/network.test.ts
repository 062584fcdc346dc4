import { expect, it } from 'vitest';
import { ipamConfigs } from './network.ts';

const configs = (given: Record<string, string[]>): ReturnType<typeof ipamConfigs> =>
  ipamConfigs({ list: <T>(name: string) => (given[name] ?? []) as T[] });

it('ranges, gateways and other addresses go with the subnet that holds them, in both families', () => {
  const found = configs({
    subnet: ['10.1.0.0/16', 'fd12::/64', 'fd13::/64'],
    'ip-range': ['fd13::8000:0:0:0/65', '10.1.7.0/24'],
    gateway: ['fd12::fe', '10.1.0.254'],
    'aux-address': ['router=fd13::9'],
  });
  expect(found).toEqual([
    { Subnet: '10.1.0.0/16', IPRange: '10.1.7.0/24', Gateway: '10.1.0.254', AuxiliaryAddresses: {} },
    { Subnet: 'fd12::/64', Gateway: 'fd12::fe', AuxiliaryAddresses: {} },
    { Subnet: 'fd13::/64', IPRange: 'fd13::8000:0:0:0/65', AuxiliaryAddresses: { router: 'fd13::9' } },
  ]);
});

it('what fits no subnet, or overlaps, is refused', () => {
  const refuse = (given: Record<string, string[]>, words: string): void => expect(() => configs(given)).toThrow(words);
  refuse({ subnet: ['fd12::/64'], gateway: ['fd13::1'] }, 'no matching subnet for gateway fd13::1');
  refuse({ subnet: ['10.1.0.0/16'], 'ip-range': ['10.0.0.0/8'] }, 'no matching subnet for range 10.0.0.0/8');
  refuse({ subnet: ['fd12::/48', 'fd12:0:0:1::/64'] }, 'multiple overlapping subnet configuration');
});
