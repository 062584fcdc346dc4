import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { loadConfig, type DaemonConfig } from './config.ts';
import { daemonHelp, FLAGS, parseFlags } from './flags.ts';

const dir = mkdtempSync(join(tmpdir(), 'shoal-'));
const none = join(dir, 'none.json');
writeFileSync(none, '');
afterAll(() => rmSync(dir, { recursive: true, force: true }));

let count = 0;
function file(content: unknown): string {
  const path = join(dir, `${++count}.json`);
  writeFileSync(path, typeof content === 'string' ? content : JSON.stringify(content));
  return path;
}
function config(argv: readonly string[], content: unknown = {}): DaemonConfig {
  const { values, warnings } = parseFlags([...argv, '--config-file', file(content)]);
  return loadConfig(values, warnings);
}

describe('flags', () => {
  it.each([
    [['--data-root=/d'], { 'data-root': '/d' }],
    [['--data-root', '/d'], { 'data-root': '/d' }],
    [['-l', 'debug'], { 'log-level': 'debug' }],
    [['-ldebug'], { 'log-level': 'debug' }],
    [['-l=debug'], { 'log-level': 'debug' }],
    [['-D'], { debug: true }],
    [['--debug'], { debug: true }],
    [['--debug=false'], { debug: false }],
    [['--iptables=0'], { iptables: false }],
    [['--label=a=b=c', '--label', 'd=e'], { label: ['a=b=c', 'd=e'] }],
    [
      ['-H', 'unix:///a', '-Htcp://1.2.3.4:5', '--host=unix:///b'],
      { host: ['unix:///a', 'tcp://1.2.3.4:5', 'unix:///b'] },
    ],
    [['-D', '-p', '/pid', '-s', 'vfs'], { debug: true, pidfile: '/pid', 'storage-driver': 'vfs' }],
    [['--bip='], { bip: '' }],
  ])('%j', (argv, values) => expect(parseFlags(argv).values).toEqual(values));

  it.each([
    [['--nothing'], 'unknown flag: --nothing'],
    [['--constructor'], 'unknown flag: --constructor'],
    [['-x'], "unknown shorthand flag: 'x'"],
    [['word'], '"shoal daemon" accepts no arguments: word'],
    [['--debug', 'false'], 'accepts no arguments: false'],
    [['--debug=maybe'], 'invalid argument "maybe" for "--debug" flag'],
    [['--data-root'], 'flag needs an argument: --data-root'],
    [['--tlsverify'], '--tlsverify: TLS on the API socket is not supported yet'],
  ])('%j is refused', (argv, words) => expect(() => parseFlags(argv)).toThrow(words));

  it('of dockerd without a meaning here are taken with a warning', () => {
    const parsed = parseFlags(['--log-format', 'text', '--icc', '--tls=false', '-D']);
    expect(parsed.values).toEqual({ debug: true });
    expect(parsed.warnings).toHaveLength(3);
    expect(parsed.warnings[0]).toBe('flag --log-format has no meaning for shoal and is ignored');
  });

  it('are all in the help page', () => {
    for (const name of Object.keys(FLAGS)) expect(daemonHelp()).toContain(`--${name} `);
    expect([parseFlags(['--help']).help, parseFlags(['-h']).help, parseFlags(['-v']).version]).toEqual([
      true,
      true,
      true,
    ]);
  });
});

describe('configuration', () => {
  it('has defaults for everything', () => {
    expect(loadConfig({ 'config-file': none }, [])).toEqual({
      dataRoot: '/var/lib/shoal',
      execRoot: '/run/shoal',
      pidfile: '/run/shoal.pid',
      hosts: ['unix:///var/run/docker.sock'],
      logLevel: 'info',
      debug: false,
      labels: {},
      insecureRegistries: [],
      registryMirrors: [],
      defaultAddressPools: [],
      defaultUlimits: [],
      dns: [],
      swarmDefaultAdvertiseAddr: '',
      genericResources: [],
      cgroupParent: '',
      bip: '172.17.0.1/16',
      ipv6: true,
      fixedCidrV6: '',
      init: false,
      iptables: true,
      metricsAddr: '',
      mtu: undefined,
      storageDriver: '',
      usernsRemap: '',
      logDriver: { type: 'json-file', config: {} },
      containers: { runtime: '', runtimes: {}, defaults: {} },
      configFile: none,
      warnings: [],
    });
  });

  it('takes a file in dockerd’s form', () => {
    const read = config([], {
      'data-root': '/d',
      debug: true,
      hosts: ['unix:///s'],
      labels: ['zone=a'],
      'insecure-registries': ['10.0.0.0/8'],
      'default-address-pools': [{ base: '10.10.0.0/16', size: 24 }],
      'default-ulimits': { nofile: { Name: 'nofile', Soft: 10, Hard: 20 }, core: { Hard: 5 } },
      'node-generic-resources': ['gpu=U1'],
      mtu: 1400,
      'log-driver': 'local',
      'log-opts': { 'max-size': '1m' },
      runtimes: { special: { path: '/opt/special' } },
      'default-shm-size': '1M',
      'seccomp-profile': 'unconfined',
      'userns-remap': 'someone',
      'exec-opts': ['native.cgroupdriver=systemd'],
      builder: {},
    });
    expect(read).toMatchObject({
      dataRoot: '/d',
      usernsRemap: 'someone',
      logLevel: 'debug',
      hosts: ['unix:///s'],
      labels: { zone: 'a' },
      insecureRegistries: ['10.0.0.0/8'],
      defaultAddressPools: [{ base: '10.10.0.0/16', size: 24 }],
      defaultUlimits: [
        { name: 'nofile', soft: 10, hard: 20 },
        { name: 'core', soft: 0, hard: 5 },
      ],
      genericResources: ['gpu=U1'],
      mtu: 1400,
      logDriver: { type: 'local', config: { 'max-size': '1m' } },
      containers: {
        ...{ runtimes: { special: '/opt/special' }, cgroupDriver: 'systemd' },
        defaults: { shmBytes: 1 << 20, seccomp: 'unconfined' },
      },
    });
    expect(read.warnings.map((text) => text.replace(/^.*json: /, ''))).toEqual([
      'builder has no meaning for shoal and is ignored',
    ]);
  });

  it('takes flags in their own form', () => {
    const read = config([
      '--default-address-pool=base=10.1.0.0/16,size=26',
      '--default-ulimit=nofile=1:2',
      '--default-ulimit=nproc=3',
      '--exec-root=/x',
      '--mtu=0',
      '--live-restore=false',
    ]);
    expect(read).toMatchObject({
      defaultAddressPools: [{ base: '10.1.0.0/16', size: 26 }],
      defaultUlimits: [
        { name: 'nofile', soft: 1, hard: 2 },
        { name: 'nproc', soft: 3, hard: 3 },
      ],
      pidfile: '/x/shoal.pid',
      metricsAddr: '',
      mtu: undefined,
      warnings: ['live-restore cannot be turned off: containers always outlive the daemon'],
    });
  });

  it.each([
    [
      'both places',
      ['--label=a=b'],
      { labels: ['c=d'] },
      'specified both as a flag and in the configuration file: labels',
    ],
    ['unknown keys', [], { nothing: 1 }, "don't match any configuration option: nothing"],
    ['inherited keys', [], { constructor: 1 }, "don't match any configuration option: constructor"],
    ['TLS in the file', [], { tlsverify: true }, 'TLS on the API socket is not supported yet'],
    ['a wrong type', [], { debug: 'yes' }, 'debug must be true or false'],
    ['a list that is none', [], { hosts: 'unix:///x' }, 'hosts must be a list'],
    ['broken JSON', [], '{', 'unable to configure the daemon with file'],
    ['no object', [], '[]', 'a JSON object is expected'],
    ['a level', ['-l', 'loud'], {}, 'unable to parse logging level: loud'],
    ['a label', ['--label=x'], {}, 'key=value is expected'],
    ['a pool', ['--default-address-pool=base=x,size=24'], {}, 'base=CIDR,size=N is expected'],
    ['a place without a port', ['--metrics-addr=localhost'], {}, 'host:port is expected'],
    ['an unknown driver', ['--exec-opt=native.cgroupdriver=none'], {}, 'native.cgroupdriver option none not supported'],
    ['an unknown exec-opt', ['--exec-opt=native.umask=normal'], {}, 'native.cgroupdriver is known'],
    ['an IPC mode', ['--default-ipc-mode=host'], {}, 'private or shareable is expected'],
    ['a profile', ['--seccomp-profile=/nosuch'], {}, 'opening seccomp profile failed'],
    ['a runtime', ['--add-runtime=x'], {}, 'name=path is expected'],
    ['an MTU', ['--mtu=10'], {}, '576 to 65535 is expected'],
    ['a ulimit', ['--default-ulimit=nofile=x'], {}, 'name=soft[:hard] is expected'],
  ])('refuses %s', (_what, argv, content, words) => expect(() => config(argv, content)).toThrow(words));

  it('needs a file that was named', () => {
    const missing = join(dir, 'missing.json');
    expect(() => loadConfig({ 'config-file': missing }, [])).toThrow(`${missing}: no such file`);
  });
});
