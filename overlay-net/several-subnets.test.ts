import { expect, it } from 'vitest';
import { NetworkTable } from '../proto/index.ts';
import { ingressWiring, innerOps } from './ingress-wiring.ts';
import { overlayFacts } from './plan.ts';
import { otherSubnets } from './sandboxes.ts';

const subnets = ['10.1.0.0/30', 'fd12::/64', '10.2.0.0/16', 'fd13::/64'];
const facts = overlayFacts(
  NetworkTable.create({
    network_id: 'net',
    network: {
      id: 'net',
      spec: { ingress: true },
      ipam: { configs: subnets.map((subnet) => ({ subnet, gateway: subnet.replace(/0\/30|0\/16|(?<=::)\/64/, '1') })) },
    },
  }),
);

it('a place in one subnet reaches the others of its families without a gateway', () => {
  expect(facts.subnets).toEqual(subnets);
  expect(otherSubnets(facts, ['10.2.0.9', 'fd12::9'])).toEqual(['10.1.0.0/30', 'fd13::/64']);
  expect(otherSubnets(facts, ['10.1.0.2', ''])).toEqual(['10.2.0.0/16']);
});

it('the entry of published ports reaches tasks in every subnet', () => {
  const routes = innerOps(facts, ingressWiring('abcd'), 1450).filter((op) => op.kind === 'route' && op.dev === 'br0');
  expect(routes).toEqual(['10.2.0.0/16', 'fd13::/64'].map((to) => ({ kind: 'route', to, dev: 'br0' })));
});
