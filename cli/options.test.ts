import { parseMount } from './service-mount.ts';
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { GROUPS, TOP } from './catalog.ts';
import { option } from './command.ts';
import { commandHelp } from './help.ts';
import { checkArguments, readOptions } from './options.ts';
import { displayPorts } from './service.ts';
import { displayContainerPorts } from './container.ts';
import { effectiveCapabilities, parseNetwork, parsePorts, parseUlimit, dataReader } from './service-values.ts';
import { environment } from './service-spec.ts';
import { timestamp } from './timestamp.ts';
import {
  binarySize,
  formatDuration,
  humanDuration,
  humanSize,
  naturalOrder,
  parseBytes,
  parseCpus,
  parseDuration,
  timeOrder,
} from './units.ts';
import { csvFields, displayImage, fullImageName, imageName, imageRegistry, shellWords } from './words.ts';
import { VERSION } from './version.ts';

const SPECS = [
  option('quiet,q', 'bool', ''),
  option('detach,d', 'bool', ''),
  option('name,n', 'string', ''),
  option('replicas', 'uint', ''),
  option('filter,f', 'filter', ''),
];
const read = (...words: string[]): ReturnType<typeof readOptions> => readOptions(SPECS, words, false);

describe('options', () => {
  it('reads every form of pflag', () => {
    const { flags, words } = read('a', '-qd', '-nx', '--replicas=3', 'b', '-f', 'k=v', '--filter', 'k=w', '--', '-q');
    expect(words).toEqual(['a', 'b', '-q']);
    expect([flags.bool('quiet'), flags.bool('detach'), flags.string('name'), flags.number('replicas')]).toEqual([
      true,
      true,
      'x',
      3,
    ]);
    expect(flags.filters).toEqual({ k: ['v', 'w'] });
    expect(read('-n=y', '--quiet=false').flags.string('name')).toBe('y');
    expect(read('--quiet=false').flags.bool('quiet')).toBe(false);
    expect(readOptions(SPECS, ['-q', 'image', '-x'], true).words).toEqual(['image', '-x']);
  });

  it("refuses in docker's words", () => {
    expect(() => read('--foo')).toThrow('unknown flag: --foo');
    expect(() => read('-dx')).toThrow("unknown shorthand flag: 'x' in -dx");
    expect(() => read('--name')).toThrow('flag needs an argument: --name');
    expect(() => read('--replicas', 'abc')).toThrow(
      'invalid argument "abc" for "--replicas" flag: strconv.ParseUint: parsing "abc": invalid syntax',
    );
    expect(() => read('-f', 'x')).toThrow(
      'invalid argument "x" for "-f, --filter" flag: bad format of filter (expected name=value)',
    );
    const command = { usage: '', arguments: { min: 1, max: Infinity }, run: () => Promise.resolve() };
    expect(() => checkArguments('shoal x', command, [])).toThrow("'shoal x' requires at least 1 argument");
  });

  it('gives every command a usage page and every option one row', async () => {
    const entries = [...Object.values(GROUPS).flatMap((group) => Object.values(group.commands)), ...Object.values(TOP)];
    for (const entry of entries) {
      const command = (await entry.load())[entry.key];
      expect(command, entry.key).toBeDefined();
      if (command === undefined) continue;
      expect(commandHelp('shoal x', command, entry.about, [], 80)).toContain('Usage:  shoal x');
      const names = (command.options ?? []).map((spec) => spec.name);
      expect(new Set(names).size, entry.key).toBe(names.length);
    }
  });

  it('has the version of the product', () => {
    const manifest = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as {
      version: string;
    };
    expect(VERSION).toBe(manifest.version);
  });
});

describe('values', () => {
  it('reads durations, sizes and CPUs', () => {
    expect(['10s', '1m30s', '1.5h', '0', '200ms'].map(parseDuration)).toEqual([10e9, 90e9, 5400e9, 0, 200e6]);
    expect([90e9, 5e9, 0, 1.5e9, 2e6].map(formatDuration)).toEqual(['1m30s', '5s', '0s', '1.5s', '2ms']);
    expect(() => parseDuration('5')).toThrow('time: missing unit in duration "5"');
    expect(['64m', '1.5g', '512', '1kib', '2KB'].map(parseBytes)).toEqual([67108864, 1610612736, 512, 1024, 2048]);
    expect(() => parseBytes('5x')).toThrow("invalid suffix: 'x'");
    expect(['0.5', '2', '.25'].map(parseCpus)).toEqual([5e8, 2e9, 25e7]);
    expect(() => parseCpus('0.0000000001')).toThrow('value is too precise');
    expect([humanSize(2129920, 3), humanSize(999), binarySize(67108864)]).toEqual(['2.13MB', '999B', '64MiB']);
    expect([500, 1000, 59_000, 60_000, 3_600_000, 86_400_000 * 3].map(humanDuration)).toEqual([
      'Less than a second',
      '1 second',
      '59 seconds',
      'About a minute',
      'About an hour',
      '3 days',
    ]);
    expect(['web.10', 'web.2', 'app'].toSorted(naturalOrder)).toEqual(['app', 'web.2', 'web.10']);
    expect(timeOrder('2026-01-01T00:00:00.1Z', '2026-01-01T00:00:00.12Z')).toBe(-1);
    expect(timestamp('10s', 20_000)).toBe('10.000000000');
    expect(timestamp('1970-01-01T00:00:05Z', 0)).toBe('5.000000000');
  });

  it('reads ports', () => {
    const port = (PublishedPort: number, TargetPort: number, Protocol = 'tcp'): object => ({
      Protocol,
      TargetPort,
      PublishedPort,
      PublishMode: 'ingress',
    });
    expect(parsePorts('8080:80')).toEqual([port(8080, 80)]);
    expect(parsePorts('8080-8081:80-81/udp')).toEqual([port(8080, 80, 'udp'), port(8081, 81, 'udp')]);
    expect(parsePorts('80')).toEqual([{ Protocol: 'tcp', TargetPort: 80, PublishMode: 'ingress' }]);
    expect(parsePorts('published=1,target=2,mode=host,protocol=udp')).toEqual([
      { Protocol: 'udp', TargetPort: 2, PublishedPort: 1, PublishMode: 'host' },
    ]);
    expect(parsePorts('published=1,target=2,ip=[2001:db8::1]')).toMatchObject([{ HostIP: '2001:db8::1' }]);
    expect(() => parsePorts('published=1,target=2,ip=no/ne')).toThrow('invalid ip (no/ne)');
    expect(parsePorts('published=1,target=2,ip=eth0')).toMatchObject([{ HostIP: 'eth0' }]);
    expect(() => parsePorts('127.0.0.1:80:80')).toThrow('hostip is not supported');
    expect(() => parsePorts('mode=x,target=1')).toThrow(
      "invalid publish mode value (x): must be either 'ingress' or 'host'",
    );
  });

  it('shows ports in ranges', () => {
    const shown = [80, 81, 82, 90].map((n) => ({
      Protocol: 'tcp',
      TargetPort: n,
      PublishedPort: n + 8000,
      PublishMode: 'ingress',
    }));
    expect(displayPorts(shown)).toBe('*:8080-8082->80-82/tcp, *:8090->90/tcp');
    expect(displayPorts([80, 81].map((n) => ({ TargetPort: 80, PublishedPort: n })))).toBe('*:80-81->80/tcp');
    const port = (PrivatePort: number, PublicPort?: number): { PrivatePort: number; Type: string } => ({
      PrivatePort,
      Type: 'tcp',
      ...(PublicPort === undefined ? {} : { PublicPort, IP: '0.0.0.0' }),
    });
    expect(displayContainerPorts([port(80, 8080), port(90), port(91)])).toBe('90-91/tcp, 0.0.0.0:8080->80/tcp');
  });

  it('reads mounts, networks, secrets and limits', () => {
    expect(parseMount('type=bind,src=/a,dst=/b,ro')).toEqual({
      Type: 'bind',
      Source: '/a',
      Target: '/b',
      ReadOnly: true,
    });
    expect(parseMount('source=v,target=/v,volume-opt=a=b,"volume-label=x=1,2"')).toEqual({
      Type: 'volume',
      Source: 'v',
      Target: '/v',
      VolumeOptions: { Labels: { x: '1,2' }, DriverConfig: { Options: { a: 'b' } } },
    });
    expect(() => parseMount('type=bind,target=/x,tmpfs-size=1m')).toThrow(
      "cannot mix 'tmpfs-*' options with mount type 'bind'",
    );
    expect(parseNetwork('name=n,alias=a,alias=b')).toEqual({ Target: 'n', Aliases: ['a', 'b'] });
    expect(dataReader('Secret')('source=s,target=t,mode=0400')).toEqual({
      SecretName: 's',
      File: { Name: 't', UID: '0', GID: '0', Mode: 256 },
    });
    expect(parseUlimit('nofile=1:2')).toEqual({ Name: 'nofile', Soft: 1, Hard: 2 });
    expect(effectiveCapabilities(['net_admin', 'CAP_SYS_TIME'], ['net_admin', 'all'])).toEqual({
      add: ['CAP_NET_ADMIN', 'CAP_SYS_TIME'],
      drop: ['ALL'],
    });
    expect(environment([], ['A=1', 'HOMELESS', 'A=2', 'P'], { P: 'q' })).toEqual(['HOMELESS', 'A=2', 'P=q']);
  });

  it('splits words, fields and names', () => {
    expect(csvFields('a,"b,""c""",')).toEqual(['a', 'b,"c"', '']);
    expect(shellWords(`sh -c 'a b' "c \\"d" e\\ f`)).toEqual(['sh', '-c', 'a b', 'c "d', 'e f']);
    expect(imageName('h:5000/x/y:v1@sha256:00')).toEqual({ name: 'h:5000/x/y', tag: 'v1', digest: 'sha256:00' });
    expect([imageRegistry('x/y'), imageRegistry('h:5/x')]).toEqual(['docker.io', 'h:5']);
    expect([fullImageName('x'), fullImageName('a/b'), fullImageName('h:5/x')]).toEqual([
      'docker.io/library/x',
      'docker.io/a/b',
      'h:5/x',
    ]);
    expect(displayImage('docker.io/library/x:v1@sha256:00')).toBe('x:v1');
  });
});
