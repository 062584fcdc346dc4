import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Bed, NO_NAME_SERVER, until } from './kit/index.ts';

/** What networks, services and tasks are given for addresses, seen through the client. */
const bed = new Bed('addresses');
let web = '';

interface NetworkFacts {
  EnableIPv6: boolean;
  IPAM: { Config: { Subnet: string; Gateway: string; IPRange?: string; AuxiliaryAddresses?: object }[] };
  Peers?: { Name: string; IP: string }[];
  Containers: Record<string, { IPv4Address: string; IPv6Address: string }>;
  Services?: Record<string, { VIP: string; Tasks: { EndpointIP: string }[] }>;
}

beforeAll(async () => {
  await bed.up({ managers: 1, workers: 1, daemonFlags: NO_NAME_SERVER });
  web = await bed.serveImages();
});
afterAll(() => bed.down());

const overlay = (name: string, ...options: string[]): Promise<string> =>
  bed.client.run('network', 'create', '-d', 'overlay', ...options, name);
const service = (name: string, ...options: string[]): Promise<string> =>
  bed.client.run('service', 'create', '--detach', '--quiet', '--name', name, ...options, `${web}:v1`);
const network = (name: string, ...flags: string[]): Promise<NetworkFacts> =>
  bed.client.inspect<NetworkFacts>('network', 'inspect', ...flags, name);
const allocated = (name: string, subnets: number): Promise<NetworkFacts> =>
  until(`subnets of ${name}`, 10_000, async () => {
    const facts = await network(name);
    return facts.IPAM.Config.length === subnets ? facts : undefined;
  });
async function addresses(name: string): Promise<string[][]> {
  interface Attached {
    NetworksAttachments?: { Addresses: string[] }[];
  }
  const tasks = (await bed.running(name)) as unknown as Attached[];
  return tasks.map((task) => (task.NetworksAttachments ?? []).flatMap((one) => one.Addresses));
}

describe('a network with IPv6', () => {
  it('gets a unique local subnet beside one of IPv4, and so has the ingress network', async () => {
    await overlay('auto', '--ipv6');
    const facts = await allocated('auto', 2);
    expect(facts.EnableIPv6).toBe(true);
    expect(facts.IPAM.Config[0]?.Subnet).toMatch(/^10\.\d+\.\d+\.0\/20$/);
    expect(facts.IPAM.Config[1]?.Subnet).toMatch(/^fd[0-9a-f]{2}:.*::\/64$/);
    const ingress = await allocated('ingress', 2);
    expect(ingress.IPAM.Config[1]?.Subnet).not.toBe(facts.IPAM.Config[1]?.Subnet);
    expect(ingress.IPAM.Config[1]?.Subnet.slice(0, 12)).toBe(facts.IPAM.Config[1]?.Subnet.slice(0, 12));
  });

  it('gives tasks and services an address of each family, which inspect shows', async () => {
    const v4 = ['--subnet', '10.55.0.0/24', '--ip-range', '10.55.0.128/25', '--gateway', '10.55.0.254'];
    await overlay('dual', ...v4, '--aux-address', 'router=10.55.0.129', '--ipv6', '--subnet', 'fd55::/64');
    await service('pair', '--network', 'dual', '--replicas', '2');
    await bed.replicas('pair', 2);
    const given = await addresses('pair');
    for (const pair of given)
      expect(pair).toEqual([expect.stringMatching(/^10\.55\.0\.1\d\d\/24$/), expect.stringMatching(/^fd55::\w+\/64$/)]);
    const { Endpoint } = await bed.client.inspect<{ Endpoint: { VirtualIPs: { Addr: string }[] } }>(
      'service',
      'inspect',
      'pair',
    );
    expect(Endpoint.VirtualIPs.map((vip) => vip.Addr)).toEqual(['10.55.0.128/24', 'fd55::2/64']);
    const facts = await network('dual', '--verbose');
    // The stock client sends several subnets in any order.
    expect(facts.IPAM.Config.toSorted((a, b) => a.Subnet.localeCompare(b.Subnet))).toEqual([
      {
        Subnet: '10.55.0.0/24',
        IPRange: '10.55.0.128/25',
        Gateway: '10.55.0.254',
        AuxiliaryAddresses: { router: '10.55.0.129' },
      },
      { Subnet: 'fd55::/64', Gateway: 'fd55::1' },
    ]);
    expect(facts.Services?.['pair']?.VIP).toBe('10.55.0.128');
    const bare = given.map(([ipv4]) => (ipv4 ?? '').replace('/24', ''));
    const listed = facts.Services?.['pair']?.Tasks.map((task) => task.EndpointIP);
    expect(new Set(listed)).toEqual(new Set(bare));
    expect(facts.Peers?.map((peer) => peer.Name)).toEqual(expect.arrayContaining([expect.stringMatching(/^[mw]1$/)]));
    for (const { IPv6Address } of Object.values(facts.Containers)) expect(IPv6Address).toMatch(/^fd55::/);
    await bed.client.run('service', 'rm', 'pair');
  });
});

describe('a full network', () => {
  it('says so in the task that waits, which starts by itself when an address comes free', async () => {
    await overlay('tiny', '--subnet', '10.56.0.0/29');
    await service('fill', '--network', 'tiny', '--replicas', '4');
    await bed.replicas('fill', 4);
    await service('late', '--network', 'tiny', '--endpoint-mode', 'dnsrr');
    const listed = await until('an error', 10_000, async () => {
      const line = await bed.client.run('service', 'ps', '--no-trunc', '--format', '{{.Error}}', 'late');
      return line === '' ? undefined : line;
    });
    expect(listed).toContain('network tiny (10.56.0.0/29) has no free address: 5 of 5 in use');
    expect(listed).toContain('remove tasks or services from it, or use a network with a larger subnet');
    await bed.client.run('service', 'scale', '--detach', 'fill=3');
    await bed.replicas('late', 1);
    expect((await addresses('late')).flat()).toEqual([expect.stringMatching(/^10\.56\.0\.[2-6]\/29$/)]);
  });
});

describe('a network of several subnets', () => {
  it('is one: tasks of each reach the tasks and services of the others', async () => {
    // The client sends the subnets in an order of its own making (it keeps them in a Go map), so the test holds in any:
    // one usable address, five and five, for a service and its eight tasks.
    await overlay('wide', '--subnet', '10.58.0.0/30', '--subnet', '10.59.0.0/29', '--subnet', '10.60.0.0/29');
    await service('spread', '--network', 'wide', '--replicas', '8');
    await bed.replicas('spread', 8);
    const given = (await addresses('spread')).flat().map((address) => address.replace(/\/\d+$/, ''));
    expect(new Set(given).size).toBe(8);
    const count = (subnet: string): number => given.filter((address) => address.startsWith(subnet)).length;
    expect(count('10.58.0.') + count('10.59.0.') + count('10.60.0.')).toBe(8);
    expect(Math.min(count('10.59.0.'), count('10.60.0.'))).toBeGreaterThanOrEqual(2);
    const tasks = await bed.running('spread');
    for (const task of tasks) {
      const script = `for a in ${given.join(' ')}; do wget -q -O- http://$a/ >/dev/null || echo $a; done; wget -q -O- http://spread/`;
      // A task that runs may not serve yet.
      await until('all are reached', 10_000, async () => {
        expect(await bed.inTask(task, 'sh', '-c', script)).toMatch(/^v1 \S+$/);
        return true;
      });
    }
    const answers = await bed.inTask(tasks[0]!, 'sh', '-c', 'for i in $(seq 24); do wget -q -O- http://spread/; done');
    expect(new Set(answers.split('\n')).size).toBe(8);
    await bed.client.run('service', 'rm', 'spread');
  });
});

describe('subnets that cannot work', () => {
  it.each([
    ['10.57.0.0/31', /too small/],
    ['fd57::/126', /too small/],
  ])('are refused: %s', async (subnet, words) => {
    const extra = subnet.includes(':') ? ['--ipv6'] : [];
    expect(await bed.client.fails('network', 'create', '-d', 'overlay', ...extra, '--subnet', subnet, 'bad')).toMatch(
      words,
    );
  });

  it('hold the address of a host', async () => {
    const subnet = `${bed.address('w1')}/32`.replace(/\.\d+\/32$/, '.0/24');
    const words = await bed.client.fails('network', 'create', '-d', 'overlay', '--subnet', subnet, 'bad');
    expect(words).toMatch(/holds the address \S+ of node/);
  });
});
