import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { parseCgroupLayout } from './cgroups.ts';
import { containerCapabilities } from './capabilities.ts';
import { lastRuntimeError, startFailure } from './conmon.ts';
import { resolvConfText } from './etc-files.ts';
import { resolveInRoot } from './in-root.ts';
import { signalNumber } from './process.ts';
import { containerRlimits, ociResources } from './resources.ts';
import { seccompFor } from './seccomp.ts';
import { containerEnv } from './spec.ts';
import { resolveUser } from './users.ts';

const root = mkdtempSync(join(tmpdir(), 'shoal-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));

test('links of an image never lead out of its root', () => {
  mkdirSync(join(root, 'a'));
  symlinkSync('/etc', join(root, 'a/abs'));
  symlinkSync('../../../../etc/shadow', join(root, 'a/up'));
  symlinkSync('loop', join(root, 'loop'));
  expect(resolveInRoot(root, '/a/abs/passwd')).toBe(join(root, 'etc/passwd'));
  expect(resolveInRoot(root, '/a/up')).toBe(join(root, 'etc/shadow'));
  expect(() => resolveInRoot(root, '/loop')).toThrow('too many symbolic links');
});

test('users by name, number and group; words of docker when there is none', () => {
  mkdirSync(join(root, 'etc'));
  writeFileSync(join(root, 'etc/passwd'), 'root:x:0:0::/root:/bin/sh\nweb:x:10:11::/w:/bin/sh\n');
  writeFileSync(join(root, 'etc/group'), 'g:x:5:web\nh:x:6:\n');
  expect(resolveUser(root, 'web')).toEqual({ uid: 10, gid: 11, additionalGids: [5], home: '/w' });
  expect(resolveUser(root, 'web:h', ['7'])).toEqual({ uid: 10, gid: 6, additionalGids: [7], home: '/w' });
  expect(resolveUser(root, '10').gid).toBe(11);
  expect(resolveUser(root, '77')).toMatchObject({ uid: 77, gid: 0 });
  expect(() => resolveUser(root, 'no')).toThrow('unable to find user no: no matching entries in passwd file');
  expect(() => resolveUser(root, 'web:no')).toThrow('unable to find group no');
});

test('capabilities: the defaults, add, drop, all, and what the daemon lacks', () => {
  const all = (1n << 41n) - 1n;
  const of = (capAdd: string[], capDrop: string[], own = all): string[] =>
    containerCapabilities({ capAdd, capDrop, privileged: false }, own);
  expect(of([], [])).toHaveLength(14);
  expect(of(['net_admin'], ['ALL'])).toEqual(['CAP_NET_ADMIN']);
  expect(of(['ALL'], ['SYS_ADMIN'])).toHaveLength(40);
  const lacking = all & ~(1n << 24n);
  expect(of(['ALL'], [], lacking)).not.toContain('CAP_SYS_RESOURCE');
  expect(() => of(['SYS_RESOURCE'], [], lacking)).toThrow('the daemon itself does not have it');
  expect(containerCapabilities({ capAdd: [], capDrop: [], privileged: true }, lacking)).toHaveLength(40);
});

test('seccomp conditions follow capabilities and architecture', () => {
  const host = { arch: 'x64', kernel: '6.1.0', x32: true };
  const plain = seccompFor('default', [], host);
  const names = (profile: typeof plain, action: string): string[] =>
    (profile?.syscalls ?? []).filter((rule) => rule.action === action).flatMap((rule) => rule.names);
  expect(names(plain, 'SCMP_ACT_ALLOW')).not.toContain('mount');
  expect(names(plain, 'SCMP_ACT_ALLOW')).toContain('arch_prctl');
  expect(names(plain, 'SCMP_ACT_ERRNO')).toEqual(['clone3']);
  expect(plain?.architectures).toContain('SCMP_ARCH_X32');
  expect(seccompFor('default', [], { ...host, x32: false })?.architectures).toEqual([
    'SCMP_ARCH_X86_64',
    'SCMP_ARCH_X86',
  ]);
  const admin = seccompFor('default', ['CAP_SYS_ADMIN'], host);
  expect(names(admin, 'SCMP_ACT_ALLOW')).toContain('mount');
  expect(names(admin, 'SCMP_ACT_ERRNO')).toEqual([]);
  expect(seccompFor('default', [], { arch: 'arm64', kernel: '4.0', x32: false })?.architectures).toContain(
    'SCMP_ARCH_AARCH64',
  );
  expect(seccompFor('unconfined', [], host)).toBeUndefined();
  expect(() => seccompFor('{"syscalls":1}', [], host)).toThrow('Decoding seccomp profile failed');
});

test('cgroup layouts from mountinfo', () => {
  const v1 = '32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n';
  const v2 = '41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n';
  expect(parseCgroupLayout(v1)).toMatchObject({ version: 'v1', unified: undefined });
  expect(parseCgroupLayout(v1 + v2)).toMatchObject({ version: 'hybrid', unified: '/sys/fs/cgroup/unified' });
  expect(parseCgroupLayout(v1).controllers.get('cpuacct')).toBe('/sys/fs/cgroup/cpu');
  expect(parseCgroupLayout(v2).version).toBe('v2');
});

test('limits: swap follows memory, defaults are cut to the daemon own, requests above it are refused', () => {
  expect(ociResources({ memoryBytes: 1 << 24 }, false, true).memory).toEqual({ limit: 1 << 24, swap: 1 << 25 });
  expect(ociResources({ memoryBytes: 1 << 24 }, false, false).memory).toEqual({ limit: 1 << 24 });
  expect(ociResources({ nanoCpus: 15e8 }, false, true).cpu).toEqual({ period: 100_000, quota: 150_000 });
  const own = new Map([['nofile', 1000]]);
  const big = [{ name: 'nofile', soft: 5000, hard: 5000 }];
  expect(containerRlimits([], big, own, false)).toEqual([{ type: 'RLIMIT_NOFILE', soft: 1000, hard: 1000 }]);
  expect(() => containerRlimits(big, [], own, false)).toThrow('lacks CAP_SYS_RESOURCE');
  expect(containerRlimits(big, [], own, true)[0]).toMatchObject({ hard: 5000 });
  expect(() => containerRlimits([{ name: 'x', soft: 1, hard: 1 }], [])).toThrow('invalid ulimit type: x');
});

test('signals, environment, resolv.conf, and the words of a failed start', () => {
  expect(['TERM', 'sigkill', '15', 'RTMIN+3'].map(signalNumber)).toEqual([15, 9, 15, 37]);
  expect(() => signalNumber('BADSIG')).toThrow('invalid signal: BADSIG');
  expect(
    containerEnv([
      ['A=1', 'B=2'],
      ['A=3', 'B'],
    ]),
  ).toEqual(['A=3']);
  const request = {
    config: { network: { mode: 'host' as const }, extraHosts: [], dns: [], dnsSearch: ['x.org'], dnsOptions: [] },
    hostname: 'h',
    addresses: [],
    gateway: undefined,
    resolver: false,
    linkLines: [],
  };
  const onBridge = { mode: 'sandbox' as const, endpoints: [], ports: [] };
  const boxed = { ...request, config: { ...request.config, network: onBridge } };
  const stub = 'nameserver 127.0.0.1\nnameserver ::1\n';
  expect(resolvConfText(boxed, `${stub}nameserver 192.0.2.1\n`)).toBe('nameserver 192.0.2.1\nsearch x.org\n');
  expect(resolvConfText(boxed, stub)).toBe('nameserver 8.8.8.8\nnameserver 8.8.4.4\nsearch x.org\n');
  expect(resolvConfText({ ...boxed, resolver: true }, stub)).toBe(
    'nameserver 127.0.0.11\nsearch x.org\noptions ndots:0\n',
  );
  expect(resolvConfText(request, '# c\nnameserver 192.0.2.1\nsearch old\n')).toBe(
    'nameserver 192.0.2.1\nsearch x.org\n',
  );
  expect(startFailure('exec: "x": permission denied').exitCode).toBe(126);
  expect(lastRuntimeError('{"level":"error","msg":"bad"}\n')).toBe('bad');
});
