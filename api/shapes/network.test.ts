import { describe, expect, it } from 'vitest';
import { Network, Node, Service, Task, TaskState, type Partially } from '../../proto/index.ts';
import { Fields } from './fields.ts';
import { networkUseToJson } from './network-use.ts';
import { networkSpecFromJson, networkToJson } from './network.ts';

const network = Network.create({
  id: 'net',
  spec: { annotations: { name: 'front' }, ipv6_enabled: true, attachable: true },
  driver_state: { name: 'overlay' },
  ipam: {
    driver: { name: 'default' },
    configs: [
      { subnet: '10.9.0.0/24', gateway: '10.9.0.1', range: '10.9.0.128/25', reserved: { router: '10.9.0.254' } },
      { subnet: 'fd12::/64', gateway: 'fd12::1' },
    ],
  },
});

const task = (id: string, nodeId: string, addresses: string[], fields: Partially<Task> = {}): Task =>
  Task.create({
    id,
    node_id: nodeId,
    slot: 1,
    service_id: 'web',
    service_annotations: { name: 'web' },
    status: { state: TaskState.RUNNING, container: { container_id: `c-${id}` } },
    networks: [{ network: { id: 'net' }, addresses }],
    ...fields,
  });

describe("a network's JSON", () => {
  it('has Docker’s words for what was asked', () => {
    expect(networkToJson(network)).toMatchObject({
      EnableIPv6: true,
      Attachable: true,
      IPAM: {
        Driver: 'default',
        Config: [
          {
            Subnet: '10.9.0.0/24',
            IPRange: '10.9.0.128/25',
            Gateway: '10.9.0.1',
            AuxiliaryAddresses: { router: '10.9.0.254' },
          },
          { Subnet: 'fd12::/64', Gateway: 'fd12::1' },
        ],
      },
    });
  });

  it('is read as it is written', () => {
    const json = { ...networkToJson(network), EnableIPv6: true, Driver: 'overlay' };
    const spec = networkSpecFromJson(new Fields(json));
    expect(spec).toMatchObject({ ipv6_enabled: true, ipam: { configs: [{ family: 4 }, { family: 6 }] } });
    expect(spec.ipam?.configs[0]?.reserved).toEqual({ router: '10.9.0.254' });
  });
});

describe('the users of a network', () => {
  const nodes = [
    Node.create({ id: 'n1', description: { hostname: 'one', data_path_addr: '192.0.2.1' } }),
    Node.create({ id: 'n2', description: { hostname: 'two' }, status: { addr: '192.0.2.2' } }),
  ];
  const tasks = [
    task('t1', 'n1', ['10.9.0.3/24', 'fd12::3/64']),
    task('t2', 'n2', ['10.9.0.4/24', 'fd12::4/64']),
    task('ended', 'n2', ['10.9.0.5/24'], { status: { state: TaskState.FAILED } }),
    task('elsewhere', 'n1', ['10.8.0.3/24'], { networks: [{ network: { id: 'other' }, addresses: ['10.8.0.3/24'] }] }),
    task('waiting', '', []),
  ];
  const web = Service.create({
    id: 'web',
    spec: { annotations: { name: 'web' } },
    endpoint: {
      ports: [{ target_port: 80, published_port: 8080 }],
      virtual_ips: [
        { network_id: 'net', addr: '10.9.0.2/24' },
        { network_id: 'net', addr: 'fd12::2/64' },
      ],
    },
  });
  const stranger = Service.create({ id: 'db', spec: { annotations: { name: 'db' } } });

  it('are containers of this node, and the nodes that have any', () => {
    const json = networkUseToJson(network, { tasks, nodes, services: undefined, nodeId: 'n1' });
    expect(json['Containers']).toEqual({
      'c-t1': {
        Name: 'web.1.t1',
        EndpointID: expect.stringMatching(/^[0-9a-f]{64}$/) as string,
        MacAddress: '02:42:0a:09:00:03',
        IPv4Address: '10.9.0.3/24',
        IPv6Address: 'fd12::3/64',
      },
    });
    expect(json['Peers']).toEqual([
      { Name: 'one', IP: '192.0.2.1' },
      { Name: 'two', IP: '192.0.2.2' },
    ]);
    expect(json).not.toHaveProperty('Services');
  });

  it('are services, when they are asked for', () => {
    const json = networkUseToJson(network, { tasks, nodes, services: [web, stranger], nodeId: 'n1' });
    const endpoint = expect.stringMatching(/^[0-9a-f]{64}$/) as string;
    const one = { Name: 'web.1.t1', EndpointID: endpoint, EndpointIP: '10.9.0.3', Info: { 'Host IP': '192.0.2.1' } };
    const two = { Name: 'web.1.t2', EndpointID: endpoint, EndpointIP: '10.9.0.4', Info: { 'Host IP': '192.0.2.2' } };
    const ports = ['Target: 80, Publish: 8080'];
    expect(json['Services']).toEqual({
      web: { VIP: '10.9.0.2', VIP6: 'fd12::2', Ports: ports, LocalLBIndex: 0, Tasks: [one, two] },
    });
  });
});
