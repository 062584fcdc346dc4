import { spawn, type ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { systemClock as clock, systemRandom as random } from '../../base/index.ts';
import { createFfiKernel } from '../kernel/ffi-kernel.ts';
import { dropNamespace } from '../kernel/namespace.ts';
import { run } from '../testing/harness.ts';
import { decodeAddresses } from './ask-resolver.ts';
import { tryConnect } from './connect.ts';
import { checksum, echo } from './icmp.ts';

const root = mkdtempSync(join(tmpdir(), 'shoal-probe-'));
const here = join(root, 'a');
const there = join(root, 'b');
const servers: ChildProcess[] = [];

/** Two namespaces with one wire, and servers on port 7777 of the second. */
beforeAll(async () => {
  const kernel = createFfiKernel();
  await kernel.createNamespace(here);
  await kernel.createNamespace(there);
  await kernel.apply(here, [{ kind: 'veth', name: 'w0', mtu: 1450, peer: { name: 'w0', namespace: there } }]);
  for (const [i, namespace] of [here, there].entries()) {
    await kernel.apply(namespace, [
      { kind: 'link', name: 'lo', up: true },
      { kind: 'link', name: 'w0', up: true, mtu: 1450 },
      { kind: 'addr', dev: 'w0', address: `10.98.0.${i + 1}/24` },
    ]);
    expect(run(namespace, 'ip', 'addr', 'add', `fd98::${i + 1}/64`, 'dev', 'w0', 'nodad').code).toBe(0);
  }
  for (const args of [
    ['TCP-LISTEN:7777,fork,reuseaddr', 'EXEC:cat'],
    ['UDP-LISTEN:7777,fork,reuseaddr', 'SYSTEM:echo hi'],
  ]) {
    servers.push(spawn('nsenter', [`--net=${there}`, 'socat', ...args], { stdio: 'ignore' }));
  }
  for (let i = 0; i < 100; i++) {
    if (/7777[^]*7777/.test(run(there, 'busybox', 'netstat', '-ltun').out)) return;
    await sleep(20);
  }
}, 20_000);

afterAll(() => {
  for (const server of servers) server.kill('SIGKILL');
  for (const path of [here, there]) dropNamespace(path);
  rmSync(root, { recursive: true, force: true });
});

const options = { clock, random, timeoutMs: 600 };

describe('echo requests from inside a namespace', () => {
  it('find who answers, who is silent, and the largest packet, of both families', async () => {
    const outcomes = await echo(
      here,
      [
        { address: '10.98.0.2' },
        { address: '10.98.0.2', bytes: 1450 },
        { address: '10.98.0.2', bytes: 1451 },
        { address: '10.98.0.77' },
        { address: '192.0.2.7' },
        { address: 'fd98::2' },
        { address: 'fd98::2', bytes: 1450 },
        { address: 'fd98::2', bytes: 1451 },
      ],
      options,
    );
    expect(outcomes.map(({ kind }) => kind)).toEqual([
      'answered',
      'answered',
      'refused',
      'silent',
      'error',
      'answered',
      'answered',
      'refused',
    ]);
    expect(outcomes[4]).toMatchObject({ words: 'no route (ENETUNREACH)' });
  });

  it('sums as RFC 1071 does', () => {
    expect(checksum(Uint8Array.of(0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7))).toBe(0xffff & ~0xddf2);
  });
});

describe('connections from inside a namespace', () => {
  it.each([
    ['tcp', '10.98.0.2', 7777, 'open'],
    ['tcp', '10.98.0.2', 9, 'closed'],
    ['udp', '10.98.0.2', 7777, 'open'],
    ['udp', '10.98.0.2', 9, 'closed'],
    ['tcp', 'fd98::2', 9, 'closed'],
    ['tcp', '10.98.0.78', 9, 'silent'],
    ['tcp', '192.0.2.7', 9, 'error'],
  ] as const)('%s to %s port %i: %s', async (protocol, address, port, kind) => {
    expect(await tryConnect(here, { protocol, address, port }, { clock, timeoutMs: 400 })).toMatchObject({ kind });
  });
});

describe('answers of a resolver', () => {
  const head = (flags: number, answers: number): Buffer => {
    const bytes = Buffer.alloc(12);
    bytes.writeUInt16BE(77, 0);
    bytes.writeUInt16BE(flags, 2);
    bytes.writeUInt16BE(1, 4);
    bytes.writeUInt16BE(answers, 6);
    return bytes;
  };
  const question = Buffer.from([3, 0x77, 0x65, 0x62, 0, 0, 1, 0, 1]);
  const a = (last: number): Buffer => Buffer.from([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4, 10, 0, 0, last]);

  it('are read, whatever they hold', () => {
    expect(decodeAddresses(Buffer.concat([head(0x8180, 2), question, a(1), a(2)]), 77)).toEqual({
      kind: 'addresses',
      addresses: ['10.0.0.1', '10.0.0.2'],
    });
    expect(decodeAddresses(Buffer.concat([head(0x8183, 0), question]), 77)).toEqual({ kind: 'code', rcode: 3 });
    expect(decodeAddresses(Buffer.concat([head(0x8180, 1), question, a(1)]), 78)).toBeUndefined();
    expect(decodeAddresses(Buffer.concat([head(0x0100, 0), question]), 77)).toBeUndefined();
    expect(decodeAddresses(Buffer.concat([head(0x8180, 9), question, a(1)]).subarray(0, 25), 77)).toEqual({
      kind: 'addresses',
      addresses: [],
    });
  });
});
