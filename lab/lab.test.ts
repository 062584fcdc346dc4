import { existsSync } from 'node:fs';
import { afterEach, describe, expect, it } from 'vitest';
import { processesIn } from './cgroups.ts';
import { Host } from './host.ts';
import { addressAt, hostNames, LabNames, parseSubnet } from './names.ts';
import { cutHost, healHost, inHost, linkExists, makeBridge } from './network.ts';
import { Lab } from './lab.ts';

const root = process.getuid?.() === 0;

describe('lab names', () => {
  it('refuse what cannot be a file name', () => {
    expect(() => new LabNames('../x')).toThrow(/invalid lab name/);
    expect(() => new LabNames('')).toThrow(/invalid lab name/);
  });

  it('number managers and workers', () => {
    expect(hostNames(2, 1).map((host) => host.name)).toEqual(['m1', 'm2', 'w1']);
    expect(() => hostNames(0, 0)).toThrow(/at least one host/);
    expect(() => hostNames(-1, 0)).toThrow(/--managers/);
  });

  it('count addresses within the subnet', () => {
    const subnet = parseSubnet('10.1.2.0/29');
    expect(addressAt(subnet, 6)).toBe('10.1.2.6');
    expect(() => addressAt(subnet, 7)).toThrow(/too small/);
    expect(() => parseSubnet('10.1.2.0')).toThrow(/invalid subnet/);
    expect(() => parseSubnet('10.1.300.0/24')).toThrow(/invalid subnet/);
  });
});

describe.runIf(root)('hosts', () => {
  const names = new LabNames(`t${process.pid}`);
  const lab = new Lab(names.name);
  afterEach(() => lab.down());

  const makeHost = async (host: string, address: string): Promise<Host> => {
    const options = { names, host, address, prefix: 24, gateway: '172.31.250.1', subnet: '172.31.250.0/24' };
    const made = new Host({ ...options, daemonFlags: [] });
    await made.create();
    return made;
  };
  const ping = (from: Host, to: string): Promise<boolean> =>
    inHost(from.holderPid(), 'busybox', ['ping', '-c', '1', '-W', '1', to]).then(
      () => true,
      () => false,
    );

  it('reach each other, can be cut off, and vanish without a trace', async () => {
    await makeBridge(names, '172.31.250.1', 24);
    const [a, b] = await Promise.all([makeHost('m1', '172.31.250.11'), makeHost('w1', '172.31.250.12')]);
    expect((await inHost(a.holderPid(), 'hostname', [])).trim()).toBe('m1');
    expect(await ping(a, '172.31.250.12')).toBe(true);
    await cutHost(a.holderPid(), ['172.31.250.12'], false);
    expect(await ping(b, '172.31.250.11')).toBe(false);
    await healHost(a.holderPid());
    expect(await ping(b, '172.31.250.11')).toBe(true);
    await a.crash();
    expect(a.holderPid()).toBe(0);
    expect(processesIn(names.hostCgroup('m1'))).toEqual([]);
    await lab.down();
    expect(b.holderPid()).toBe(0);
    expect(await linkExists(names.bridge)).toBe(false);
    expect(existsSync(names.runDir)).toBe(false);
    expect(existsSync(names.dataDir)).toBe(false);
  });

  it('are told apart from a lab that does not exist', () => {
    expect(() => lab.list()).toThrow(/there is no lab/);
  });
});
