/** Local networks in real namespaces: interfaces that come and go while a container lives, IPv6, macvlan. */
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ask, run, serve, startLab, type Lab, type TestHost } from './testing/harness.ts';
import type { EndpointSpec, LocalNetworkRequest, SandboxResult, SandboxSpec } from './types.ts';

const on = (networkId: string, more: Partial<EndpointSpec> = {}): EndpointSpec => {
  return { networkId, address: '', mac: '', aliases: [], ...more };
};
const box = (digit: string, name: string, ...endpoints: EndpointSpec[]): SandboxSpec => {
  return { id: digit.repeat(64), names: [name], endpoints, ports: [], dns: ['192.0.2.99#5300'] };
};
const network = (name: string, more: Partial<LocalNetworkRequest> = {}): LocalNetworkRequest => {
  return { name, subnet: '', gateway: '', internal: false, labels: {}, options: {}, ...more };
};
const bare = (made: SandboxResult | undefined, index = 0): string =>
  (made?.endpoints[index]?.address ?? '').replace(/\/.*/, '');

describe.each(['ffi', 'exec'])('local networks through the %s back end', (backend) => {
  let lab: Lab;
  let host: TestHost;
  const stops: (() => void)[] = [];

  beforeAll(async () => {
    lab = await startLab(1, backend);
    host = lab.hosts[0] as TestHost;
    await host.network.start();
    await host.network.createLocalNetwork(network('front', { subnet: '10.21.0.0/24' }));
    await host.network.createLocalNetwork(network('back', { subnet: '10.22.0.0/24' }));
    await host.network.createLocalNetwork(network('closed', { subnet: '10.23.0.0/24', internal: true }));
  }, 30_000);

  afterAll(async () => {
    for (const stop of stops) stop();
    await lab.close();
  });

  const defaultRoute = (made: SandboxResult): string =>
    run(made.namespacePath, 'ip', 'route', 'show', 'default').out.trim();

  test('interfaces come and go; default route, ports and names follow', async () => {
    const ports = [{ protocol: 'tcp' as const, targetPort: 80, publishedPort: 8090, hostIp: '' }];
    const web = await host.network.createSandbox({ ...box('1', 'web', on('front')), ports });
    const other = await host.network.createSandbox(box('2', 'other', on('back', { aliases: ['friend'] })));
    stops.push(await serve(web.namespacePath, 'web', 80), await serve(other.namespacePath, 'other', 80));
    expect(ask(web.namespacePath, bare(other), 80)).not.toMatch(/^other/);
    expect(defaultRoute(web)).toContain('via 10.21.0.1 dev eth0');

    const grown = await host.network.connectSandbox('1'.repeat(64), on('back', { address: '10.22.0.77' }));
    expect(grown.endpoints[1]).toMatchObject({ interfaceName: 'eth1', address: '10.22.0.77/24', gateway: '10.22.0.1' });
    expect(ask(web.namespacePath, bare(other), 80)).toBe('other 10.22.0.77');
    expect(run(web.namespacePath, 'busybox', 'nslookup', 'friend', '127.0.0.11').out).toContain(bare(other));
    // Docker's choice between alike networks is the first by name.
    expect(defaultRoute(web)).toContain('via 10.22.0.1 dev eth1');
    expect(ask(lab.client, host.address, 8090)).toBe(`web ${lab.clientAddress}`);
    const taken = host.network.connectSandbox('2'.repeat(64), on('front', { address: bare(web) }));
    await expect(taken).rejects.toThrow('Address already in use');
    await expect(host.network.removeLocalNetwork('back')).rejects.toThrow('has active endpoints (name:"web" id:"1111');

    await host.network.connectSandbox('1'.repeat(64), on('closed'));
    await host.network.disconnectSandbox('1'.repeat(64), 'back');
    expect(defaultRoute(web)).toContain('via 10.21.0.1 dev eth0');
    expect(ask(lab.client, host.address, 8090)).toBe(`web ${lab.clientAddress}`);
    expect(ask(web.namespacePath, bare(other), 80)).not.toMatch(/^other/);
    await host.network.disconnectSandbox('1'.repeat(64), 'front');
    expect(defaultRoute(web)).toBe('');
    const back = await host.network.connectSandbox('1'.repeat(64), on('front', { gwPriority: 5 }));
    expect(back.endpoints.map(({ interfaceName }) => interfaceName)).toEqual(['eth2', 'eth3']);
    expect(ask(lab.client, host.address, 8090)).toBe(`web ${lab.clientAddress}`);
    await expect(host.network.disconnectSandbox('1'.repeat(64), 'back')).rejects.toThrow('not connected');
  }, 60_000);

  test('the host ends of containers are up, and without IPv6 of their own', () => {
    const ports = [...run(host.namespace, 'bridge', 'link').out.matchAll(/^\d+: (\w+)@/gm)].map(
      ([, name = '']) => name,
    );
    expect(ports.length).toBeGreaterThanOrEqual(3);
    for (const port of ports) {
      expect(run(host.namespace, 'ip', '-6', 'addr', 'show', 'dev', port).out).toBe('');
      expect(run(host.namespace, 'ip', '-br', 'link', 'show', 'dev', port).out).toMatch(/ UP /);
    }
  });

  test('what was plugged is still there after the daemon was killed', async () => {
    await host.restart(true);
    await host.network.start();
    const ids = ['1', '2'].map((digit) => digit.repeat(64));
    const web = await host.network.createSandbox(box('1', 'web', on('front')));
    expect(web.endpoints.map(({ networkName }) => networkName)).toEqual(['closed', 'front']);
    expect(ask(lab.client, host.address, 8090)).toBe(`web ${lab.clientAddress}`);
    await host.network.connectSandbox(ids[0] as string, on('back'));
    // A namespace lives as long as a process in it.
    for (const stop of stops.splice(0)) stop();
    for (const id of ids) await host.network.removeSandbox(id);
    // The kernel takes links away with their namespace, in its own time.
    const left = (): string => run(host.namespace, 'ip', '-o', 'link', 'show', 'type', 'veth').out;
    for (let i = 0; i < 100 && left().includes(`sh${host.tag}v`); i++) await sleep(50);
    expect(left()).not.toContain(`sh${host.tag}v`);
  }, 60_000);

  test('a network with IPv6 gives both addresses, and containers meet over each', async () => {
    const six = { ipv6: true, subnet6: 'fd00:21::/64', subnet: '10.31.0.0/24' };
    await host.network.createLocalNetwork(network('six', six));
    const one = await host.network.createSandbox(box('3', 'one', on('six')));
    const two = await host.network.createSandbox(box('4', 'two', on('six', { address6: 'fd00:21::99' })));
    expect(one.endpoints[0]).toMatchObject({ address6: 'fd00:21::2/64', gateway6: 'fd00:21::1' });
    expect(two.endpoints[0]).toMatchObject({ address6: 'fd00:21::99/64' });
    const ping = (target: string): number | null =>
      run(one.namespacePath, 'busybox', 'ping6', '-c1', '-W3', target).code;
    expect(ping('fd00:21::99')).toBe(0);
    expect(ping('fd00:21::1')).toBe(0);
    expect(run(one.namespacePath, 'ip', '-6', 'route', 'show', 'default').out).toContain('via fd00:21::1 dev eth0');
    expect(run(host.namespace, 'cat', '/proc/sys/net/ipv6/conf/all/forwarding').out.trim()).toBe('1');
    for (const digit of ['3', '4']) await host.network.removeSandbox(digit.repeat(64));
    await host.network.removeLocalNetwork('six');
  }, 30_000);

  test('macvlan hangs a container on a link of the host, and needs one that is there', async () => {
    const wanted = network('lan', { driver: 'macvlan', subnet: '192.0.2.0/24', gateway: '192.0.2.99' });
    const missing = host.network.createLocalNetwork({ ...wanted, options: { parent: 'eth7' } });
    await expect(missing).rejects.toThrow('invalid subinterface vlan name eth7, example formatting is eth0.10');
    await host.network.createLocalNetwork({ ...wanted, options: { parent: 'eth0' } });
    const made = await host.network.createSandbox(box('5', 'lan', on('lan', { address: '192.0.2.50' })));
    stops.push(await serve(made.namespacePath, 'lan', 80), await serve(lab.client, 'outside', 7001));
    expect(ask(lab.client, '192.0.2.50', 80)).toBe(`lan ${lab.clientAddress}`);
    expect(ask(made.namespacePath, lab.clientAddress, 7001)).toBe('outside 192.0.2.50');
    expect(defaultRoute(made)).toContain('via 192.0.2.99 dev eth0');
    await host.network.disconnectSandbox('5'.repeat(64), 'lan');
    expect(run(made.namespacePath, 'ip', '-o', 'link').out).not.toContain('eth0');
    await host.network.removeSandbox('5'.repeat(64));
    await host.network.removeLocalNetwork('lan');
    const ipvlan = host.network.createLocalNetwork(network('ip', { driver: 'ipvlan' }));
    await expect(ipvlan).rejects.toThrow('ipvlan is not supported');
  }, 30_000);
});
