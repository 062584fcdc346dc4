/** Addresses, templates, generic resources, words about a swarm, the systemd unit. */
import { createServer } from 'node:net';
import { existsSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { addressTowards, advertiseAddress, joinHostPort, listenAddress, splitHostPort } from './addresses.ts';
import { programPath, systemdUnit } from './install.ts';
import { parseGenericResources } from './node-description.ts';
import { leaveRefusal, notManager } from './swarm-words.ts';
import { expandTemplate, type TemplateContext } from './templates.ts';

describe('addresses', () => {
  it.each([
    ['10.0.0.1', { host: '10.0.0.1', port: 2377 }],
    ['10.0.0.1:99', { host: '10.0.0.1', port: 99 }],
    ['[fe80::1]:99', { host: 'fe80::1', port: 99 }],
    ['[::1]', { host: '::1', port: 2377 }],
    ['fe80::1', { host: 'fe80::1', port: 2377 }],
    ['manager.example:99', { host: 'manager.example', port: 99 }],
  ])('%s', (text, parts) => {
    expect(splitHostPort(text, 2377)).toEqual(parts);
    expect(splitHostPort(joinHostPort(parts.host, parts.port), 1)).toEqual(parts);
  });

  it.each(['', 'a:b', '10.0.0.1:0', '10.0.0.1:70000', '[::1', 'host:'])('refuses "%s"', (text) => {
    expect(() => splitHostPort(text, 2377)).toThrow(`invalid address ${text}`);
  });

  it('to listen on may be a port, an address or an interface', () => {
    expect(listenAddress('')).toBe('0.0.0.0:2377');
    expect(listenAddress(':99')).toBe('0.0.0.0:99');
    expect(listenAddress('10.0.0.1')).toBe('10.0.0.1:2377');
    expect(listenAddress('lo:5')).toBe('127.0.0.1:5');
    expect(() => listenAddress('nosuchlink')).toThrow('must be an IP address or network interface');
  });

  it('to advertise are the given one, or the one listened on', () => {
    expect(advertiseAddress('10.0.0.1', '0.0.0.0:99')).toBe('10.0.0.1:99');
    expect(advertiseAddress('10.0.0.1:5', '0.0.0.0:99')).toBe('10.0.0.1:5');
    expect(advertiseAddress('lo', '0.0.0.0:99')).toBe('127.0.0.1:99');
    expect(advertiseAddress('', '10.0.0.2:99')).toBe('10.0.0.2:99');
    expect(() => advertiseAddress('nosuchlink', '0.0.0.0:1')).toThrow('advertise address must be');
  });

  it('towards a manager are found by connecting', async () => {
    const server = createServer().listen(0, '127.0.0.1');
    await new Promise((resolve) => server.once('listening', resolve));
    const { port } = server.address() as { port: number };
    expect(await addressTowards(`127.0.0.1:${port}`, 1000)).toBe('127.0.0.1');
    await new Promise((resolve) => server.close(resolve));
    await expect(addressTowards(`127.0.0.1:${port}`, 1000)).rejects.toThrow(
      `cannot reach the manager at 127.0.0.1:${port}`,
    );
  });
});

describe('templates', () => {
  const context: TemplateContext = {
    Service: { ID: 's1', Name: 'web', Labels: { tier: 'front' } },
    Node: { ID: 'n1', Hostname: 'host', Platform: { Architecture: 'x86_64', OS: 'linux' } },
    Task: { ID: 't1', Name: 'web.1.t1', Slot: '1' },
  };

  it.each([
    ['plain', 'plain'],
    ['{{.Service.Name}}-{{ .Task.Slot }}', 'web-1'],
    ['{{.Node.Platform.OS}}/{{.Node.Hostname}}', 'linux/host'],
    ['{{index .Service.Labels "tier"}}{{index .Service.Labels "none"}}', 'front'],
    ['{{index .Service.Labels "constructor"}}', ''],
  ])('%s is %s', (text, expanded) => expect(expandTemplate(text, context)).toBe(expanded));

  it.each(['{{.Service.Nothing}}', '{{.Service.Labels}}', '{{.Service.constructor.name}}', '{{env "HOME"}}', '{{.}}'])(
    '%s is refused',
    (text) => expect(() => expandTemplate(text, context)).toThrow('template'),
  );
});

describe('generic resources', () => {
  it('are a number, or names', () => {
    expect(parseGenericResources(['ssd=3', 'gpu=U1,gpu=U2'])).toEqual([
      { discrete_resource_spec: { kind: 'ssd', value: 3 } },
      { named_resource_spec: { kind: 'gpu', value: 'U1' } },
      { named_resource_spec: { kind: 'gpu', value: 'U2' } },
    ]);
    for (const bad of [['gpu'], ['gpu='], ['=1'], ['gpu=1', 'gpu=2'], ['gpu=1', 'gpu=U1']]) {
      expect(() => parseGenericResources(bad)).toThrow('generic resource');
    }
  });
});

describe('words about a swarm', () => {
  it('say why a call is refused', () => {
    expect(notManager('inactive', '')).toContain('Use "docker swarm init" or "docker swarm join"');
    expect(notManager('active', '')).toContain("Worker nodes can't be used to view or modify cluster state");
    expect(notManager('locked', '')).toContain('docker swarm unlock');
    expect(notManager('error', 'why')).toContain('why');
  });

  it('say what leaving would cost', () => {
    const managers = (up: number, all: number) =>
      Array.from({ length: all }, (_none, i) => ({ reachability: i < up ? 'reachable' : 'unreachable' }));
    expect(leaveRefusal(managers(1, 1))).toContain('erases all current state');
    expect(leaveRefusal(managers(2, 3))).toContain('leaves 1 managers out of 3');
    expect(leaveRefusal(managers(3, 3))).toContain('Demote it first');
  });
});

describe('the systemd unit', () => {
  it('ends the daemon alone, and gives it its own cgroups', () => {
    const unit = systemdUnit('/opt/shoal/bin/shoal');
    for (const line of [
      'ExecStart=/opt/shoal/bin/shoal daemon',
      'ExecReload=/bin/kill -s HUP $MAINPID',
      'KillMode=process',
      'Delegate=yes',
      'Restart=always',
      'WantedBy=multi-user.target',
    ]) {
      expect(unit.split('\n')).toContain(line);
    }
    expect(existsSync(programPath())).toBe(true);
  });
});
