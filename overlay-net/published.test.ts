import { expect, test } from 'vitest';
import { NetworkTable, PortConfig_Protocol } from '../proto/index.ts';
import { hostTable, type HostRules } from './host-table.ts';
import { boundAddress, boundRules, ingressPorts, WEIGHT_MAX, type PortRule } from './published.ts';

const endpoint = (id: number, more: object = {}): object => ({
  task_id: `t${id}`,
  service_id: 's',
  node_id: `n${id}`,
  address: `10.0.0.${id}/24`,
  address6: `fd00::${id}/64`,
  serving: true,
  ...more,
});

const table = (endpoints: object[], service: object = {}): NetworkTable =>
  NetworkTable.create({
    endpoints,
    services: [
      {
        service_id: 's',
        ports: [{ protocol: PortConfig_Protocol.TCP, target_port: 80, published_port: 8080, host_ip: '192.0.2.1' }],
        ...service,
      },
    ],
  });

const addresses = (rules: readonly PortRule[]): string[] =>
  rules.flatMap(({ targets }) => targets.map((t) => t.address));

const rules: Omit<HostRules, 'ports'> = {
  table: 't',
  mark: 2,
  bridges: [],
  ingressLink: 'i',
  dataPath: undefined,
  seed: 0,
};

test('a service that prefers local tasks is sent to them as long as one serves', () => {
  const preferring = { prefer_local: true };
  const both = table([endpoint(1), endpoint(2)], preferring);
  expect(addresses(ingressPorts(both, new Set(), 'n1'))).toEqual(['10.0.0.1', 'fd00::1']);
  expect(addresses(ingressPorts(both, new Set(), 'n3'))).toHaveLength(4);
  expect(addresses(ingressPorts(both, new Set(['10.0.0.1']), 'n1'))).toEqual(['10.0.0.2', 'fd00::2']);
  const idle = table([endpoint(1, { serving: false }), endpoint(2)], preferring);
  expect(addresses(ingressPorts(idle, new Set(), 'n1'))).toEqual(['10.0.0.2', 'fd00::2']);
  expect(addresses(ingressPorts(table([endpoint(1), endpoint(2)]), new Set(), 'n1'))).toHaveLength(4);
});

test('weights are ranges of the turn, so that large ones cost no more', () => {
  const weighed = table([endpoint(1, { weight: 3 }), endpoint(2), endpoint(3, { weight: 4_000_000_000 })]);
  const text = hostTable({ ...rules, ports: ingressPorts(weighed, new Set(), '') }, 'ip');
  const turn = `numgen inc mod ${4 + WEIGHT_MAX} map { 0-2 : 10.0.0.1 . 80, 3 : 10.0.0.2 . 80, 4-1003 : 10.0.0.3 . 80 }`;
  expect(text).toContain(turn);
});

test('a port stands in the tables of the families it is bound to', () => {
  const rule = (hostIp: string): PortRule => ({
    protocol: 'tcp',
    port: 80,
    hostIp,
    targets: [
      { address: '10.0.0.1', port: 80 },
      { address: 'fd00::1', port: 80 },
    ],
    ingress: false,
  });
  const where = ['', '0.0.0.0', '::', '192.0.2.1', '2001:db8::1'].map((hostIp) => [
    boundAddress(rule(hostIp), 'ip'),
    boundAddress(rule(hostIp), 'ip6'),
  ]);
  expect(where).toEqual([
    ['', ''],
    ['', undefined],
    [undefined, ''],
    ['192.0.2.1', undefined],
    [undefined, '2001:db8::1'],
  ]);
  const named = boundRules([rule('eth7'), rule('')], (name) => (name === 'eth7' ? ['192.0.2.7', '2001:db8::7'] : []));
  expect(named.map(({ hostIp }) => hostIp)).toEqual(['192.0.2.7', '2001:db8::7', '']);
  expect(boundRules([rule('no"such')], () => [])).toEqual([]);
  const six = hostTable({ ...rules, ports: named }, 'ip6');
  expect(six).toContain('ip6 daddr 2001:db8::7 meta l4proto tcp dnat ip6 to [fd00::1]:80');
  expect(six).not.toContain('10.0.0.1');
});
