import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ask, makeTable, run, serve, startLab, type Lab, type TestHost } from './testing/harness.ts';
import type { LocalNetwork, SandboxSpec } from './types.ts';

const sandboxSpec = (digit: string, name: string, network: string, more: Partial<SandboxSpec> = {}): SandboxSpec => ({
  id: digit.repeat(64),
  names: [name],
  endpoints: [{ networkId: network, address: '', mac: '', aliases: [`${name}-alias`] }],
  ports: [],
  dns: ['192.0.2.99#5300'],
  ...more,
});

describe.each(['ffi', 'exec'])('one host through the %s back end', (backend) => {
  let lab: Lab;
  let host: TestHost;
  const stops: (() => void)[] = [];
  const port = (publishedPort: number, protocol: 'tcp' | 'udp' = 'tcp', hostIp = ''): SandboxSpec['ports'][number] => ({
    protocol,
    targetPort: 8080,
    publishedPort,
    hostIp,
  });

  beforeAll(async () => {
    lab = await startLab(1, backend);
    host = lab.hosts[0] as TestHost;
    await host.network.start();
  }, 30_000);

  afterAll(async () => {
    for (const stop of stops) stop();
    await lab.close();
  });

  test('a published port reaches the container from outside, from the host and by loopback', async () => {
    const ports = [port(8080), port(0), port(8082, 'tcp', host.address), port(8083, 'udp')];
    const made = await host.network.createSandbox(sandboxSpec('a', 'web', 'bridge', { ports }));
    stops.push(await serve(made.namespacePath, 'web', 8080), await serve(made.namespacePath, 'dgram', 8080, 'UDP'));
    const chosen = made.ports[1]?.publishedPort ?? 0;
    expect(chosen).toBeGreaterThanOrEqual(32_768);
    expect(ask(lab.client, host.address, 8080)).toBe(`web ${lab.clientAddress}`);
    expect(ask(lab.client, host.address, chosen)).toBe(`web ${lab.clientAddress}`);
    expect(ask(lab.client, host.address, 8082)).toBe(`web ${lab.clientAddress}`);
    expect(ask(host.namespace, '127.0.0.1', 8082)).not.toContain('web');
    expect(ask(host.namespace, host.address, 8080)).toBe(`web ${host.address}`);
    expect(ask(host.namespace, '127.0.0.1', 8080)).toBe('web 172.17.0.1');
    // The container itself, by the host's address.
    expect(ask(made.namespacePath, host.address, 8080)).toBe('web 172.17.0.1');
    const sent = `echo x | socat -t2 -T2 - UDP4:${host.address}:8083`;
    expect(run(lab.client, 'sh', '-c', sent).out.trim()).toBe(`dgram ${lab.clientAddress}`);
  });

  test('a taken port is refused in words that docker users know, and nothing is left', async () => {
    const spec = sandboxSpec('b', 'second', 'bridge', { ports: [port(8080)] });
    await expect(host.network.createSandbox(spec)).rejects.toThrow(
      'driver failed programming external connectivity on endpoint second: Bind for 0.0.0.0:8080 failed: ' +
        'port is already allocated',
    );
    const made = await host.network.createSandbox({ ...spec, ports: [] });
    expect(made.endpoints[0]?.address).toBe('172.17.0.3/16');
    await host.network.removeSandbox(spec.id);
  });

  test('user networks resolve names, are kept apart, and go out only when they may', async () => {
    const wanted = { subnet: '', gateway: '', internal: false, labels: {}, options: {} };
    const front: LocalNetwork = await host.network.createLocalNetwork({ ...wanted, name: 'front' });
    const closed = await host.network.createLocalNetwork({ ...wanted, name: 'closed', internal: true });
    await expect(host.network.createLocalNetwork({ ...wanted, name: 'front' })).rejects.toThrow('already exists');
    const one = await host.network.createSandbox(sandboxSpec('c', 'one', front.id));
    const two = await host.network.createSandbox(sandboxSpec('d', 'two', 'front'));
    const shut = await host.network.createSandbox(sandboxSpec('e', 'shut', closed.id));
    const look = (namespace: string, name: string): string =>
      run(namespace, 'busybox', 'nslookup', name, '127.0.0.11').out;
    const address = (two.endpoints[0]?.address ?? '').split('/')[0] ?? '';
    for (const name of ['two', 'two-alias', 'two.front', 'd'.repeat(12)]) {
      expect(look(one.namespacePath, name)).toContain(address);
    }
    expect(look(shut.namespacePath, 'two')).toMatch(/SERVFAIL|can't/);
    stops.push(await serve(two.namespacePath, 'two', 8080), await serve(lab.client, 'outside', 7000));
    expect(ask(one.namespacePath, address, 8080)).toContain('two');
    // Another network of the same host, and a neighbour who routes to the container, come not in.
    expect(ask(shut.namespacePath, address, 8080)).not.toMatch(/^two/);
    run(lab.client, 'ip', 'route', 'add', front.subnet, 'via', host.address);
    expect(ask(lab.client, address, 8080)).not.toMatch(/^two/);
    expect(ask(one.namespacePath, lab.clientAddress, 7000)).toBe(`outside ${host.address}`);
    expect(ask(shut.namespacePath, lab.clientAddress, 7000)).not.toMatch(/^outside/);
    await expect(host.network.removeLocalNetwork(front.id)).rejects.toThrow('has active endpoints');
    for (const digit of ['c', 'd', 'e']) await host.network.removeSandbox(digit.repeat(64));
    await host.network.removeLocalNetwork('front');
    await expect(host.network.removeLocalNetwork('bridge')).rejects.toThrow('pre-defined');
  }, 40_000);

  test('a forward policy of drop is no obstacle', async () => {
    run(host.namespace, 'nft', 'add table ip filter');
    run(host.namespace, 'nft', 'add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }');
    await host.network.reconcile();
    expect(ask(lab.client, host.address, 8080)).toBe(`web ${lab.clientAddress}`);
  });

  test('a VXLAN id that another program uses is told at once', async () => {
    run(host.namespace, 'ip', 'link', 'add', 'foreign', 'type', 'vxlan', 'id', '5001', 'dstport', '4789');
    await host.network.setUnderlay({ vtep: host.address, dataPathPort: 4789, nodeId: host.nodeId });
    const facts = { id: 'f'.repeat(25), name: 'taken', version: 1, vni: 5001, vip: '10.9.0.2', tasks: [] };
    const table = makeTable({ ...facts, subnet: '10.9.0.0/24', gateway: '10.9.0.1', hosts: [host] });
    await expect(host.network.setTable(table)).rejects.toThrow('already in use');
    await expect(host.network.waitForNetwork(facts.id, 20_000)).rejects.toThrow('VXLAN id 5001 on port 4789');
    run(host.namespace, 'ip', 'link', 'del', 'foreign');
    await host.network.reconcile();
    await host.network.waitForNetwork(facts.id, 5_000);
    expect(run(host.namespace, 'nft', 'list', 'ruleset').out).toContain('4789');
    await host.network.leaveUnderlay();
    // Another daemon in this namespace may use the port for peers of its own now.
    expect(run(host.namespace, 'nft', 'list', 'ruleset').out).not.toContain('4789');
    await expect(host.network.waitForNetwork(facts.id, 100)).rejects.toThrow('did not become ready');
  });
});
