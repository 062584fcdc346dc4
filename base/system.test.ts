/** Files, programs, system calls: on the real machine, as root. */
import {
  closeSync,
  constants,
  existsSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  writeSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it, vi } from 'vitest';
import { readFileIfExists, writeFileDurably } from './files.ts';
import {
  AF_INET,
  AF_UNIX,
  createNetworkNamespace,
  inNetworkNamespace,
  openReadOnly,
  closeFd,
  makeFifo,
  SOCK_DGRAM,
  SOCK_SEQPACKET,
  socketAddress4,
  socketAddress6,
  socketAddressUnix,
  sockets,
  SystemCallError,
  unmount,
} from './libc.ts';
import { directSpawner, ProgramFailed, runChecked, SPAWN_OUTPUT_MAX_BYTES, nativeSpawner } from './spawn.ts';
import type { Spawner } from './spawn.ts';

const dir = mkdtempSync(join(tmpdir(), 'shoal-'));
const sh = (script: string) => ({ file: 'sh', args: ['-c', script] });
afterAll(() => rmSync(dir, { recursive: true, force: true }));

describe('files', () => {
  it('are replaced whole, with the mode asked for', () => {
    const path = join(dir, 'state.json');
    expect(readFileIfExists(path)).toBeUndefined();
    writeFileDurably(path, 'one', 0o640);
    writeFileDurably(path, new TextEncoder().encode('two'), 0o640);
    expect(readFileIfExists(path)).toBe('two');
    expect(statSync(path).mode & 0o777).toBe(0o640);
    expect(existsSync(`${path}.new`)).toBe(false);
    expect(() => readFileIfExists(dir)).toThrow('EISDIR');
  });

  it('stay as they were when the new one cannot be written', () => {
    expect(() => writeFileDurably(join(dir, 'none', 'file'), 'x')).toThrow('ENOENT');
  });
});

function behavesAsSpawner(spawner: () => Spawner): void {
  it('gives code, signal and output', async () => {
    const result = await spawner().run({ ...sh('cat; echo err >&2; exit 3'), stdin: 'in' });
    expect({ ...result, stdout: String(result.stdout), stderr: String(result.stderr) }).toEqual({
      code: 3,
      signal: null,
      stdout: 'in',
      stderr: 'err\n',
      truncated: false,
      timedOut: false,
    });
    expect((await spawner().run(sh('kill -9 $$'))).signal).toBe('SIGKILL');
  });

  it('passes environment, directory and files', async () => {
    const input = join(dir, 'input');
    const output = join(dir, 'output');
    writeFileSync(input, 'from a file');
    const env = { PATH: process.env['PATH'] ?? '', WORD: 'w' };
    await runChecked(spawner(), { ...sh('echo $WORD; pwd; cat'), env, cwd: '/', stdinFile: input, stdoutFile: output });
    expect(readFileSync(output, 'utf8')).toBe('w\n/\nfrom a file');
  });

  it('ends a program that takes too long', async () => {
    const result = await spawner().run({ file: 'sleep', args: ['30'], timeoutMs: 50 });
    expect([result.timedOut, result.signal]).toEqual([true, 'SIGKILL']);
  });

  it('keeps output within a bound', async () => {
    const result = await spawner().run(sh(`head -c ${SPAWN_OUTPUT_MAX_BYTES + 100} /dev/zero`));
    expect([result.stdout.length, result.truncated, result.code]).toEqual([SPAWN_OUTPUT_MAX_BYTES, true, 0]);
  });

  it('does not wait for what a program leaves behind', async () => {
    const result = await spawner().run({ ...sh('sleep 5 & echo $!'), leavesDaemon: true });
    expect([result.code, String(result.stdout)]).toEqual([0, expect.stringMatching(/^\d+\n$/)]);
    process.kill(Number(String(result.stdout)), 'SIGKILL');
  });

  it('ends with the status line of a program that goes into the background', async () => {
    const statusLine = { stderrFile: join(dir, 'stderr') };
    const background = sh('echo words >&2; (sleep 0.05; echo "up $$" >&3; sleep 5) & echo $! >"$0"');
    const pidFile = join(dir, 'background.pid');
    const result = await spawner().run({ file: 'sh', args: [...background.args, pidFile], statusLine });
    process.kill(Number(readFileSync(pidFile, 'utf8')), 'SIGKILL');
    expect([result.code, /^up \d+$/.test(String(result.stdout))]).toEqual([0, true]);
    expect(readFileSync(statusLine.stderrFile, 'utf8')).toBe('words\n');
    const failed = await spawner().run({ ...sh('echo why >&2; exit 3'), statusLine });
    expect([failed.code, String(failed.stdout)]).toEqual([3, '']);
    const silent = await spawner().run({ file: 'sleep', args: ['30'], statusLine, timeoutMs: 50 });
    expect([silent.timedOut, silent.signal]).toEqual([true, 'SIGKILL']);
  });

  it('gives a background program files as descriptors 4 and 5, a named pipe too', async () => {
    const own = mkdtempSync(join(dir, 'files-'));
    const [gate, out] = [join(own, 'gate'), join(own, 'out')];
    makeFifo(gate);
    const writer = openSync(gate, constants.O_RDWR | constants.O_NONBLOCK);
    const files = [
      { path: gate, flags: 'r' },
      { path: out, flags: 'w' },
    ] as const;
    const statusLine = { stderrFile: join(dir, 'stderr'), files };
    const running = spawner().run({ ...sh('read word <&4; echo "got $word" >&5; echo up >&3'), statusLine });
    writeSync(writer, 'it\n');
    const result = await running;
    closeSync(writer);
    expect([String(result.stdout), readFileSync(out, 'utf8')]).toEqual(['up', 'got it\n']);
    const missing = { ...statusLine, files: [{ path: '/no/such/file', flags: 'r' as const }] };
    await expect(spawner().run({ ...sh('true'), statusLine: missing })).rejects.toThrow('/no/such/file');
  });

  it('names a program that does not exist, and the words of one that fails', async () => {
    await expect(spawner().run({ file: '/no/such/program', args: [] })).rejects.toMatchObject({
      code: 'NotFound',
      message: expect.stringContaining('/no/such/program: program not found'),
    });
    await expect(runChecked(spawner(), sh('echo why >&2; exit 1'))).rejects.toThrow(ProgramFailed);
    await expect(runChecked(spawner(), sh('echo why >&2; exit 1'))).rejects.toThrow('sh: why');
    await expect(runChecked(spawner(), sh('exit 4'))).rejects.toThrow('sh: exit 4');
  });
}

describe('programs of this process', () => behavesAsSpawner(() => directSpawner));

describe('programs of a large process', () => {
  const native = nativeSpawner();
  afterAll(() => native.close());
  behavesAsSpawner(() => native);

  it('are children of this process, many at once, and leave neither a descriptor nor a zombie', async () => {
    const descriptors = (): number => readdirSync('/proc/self/fd').length;
    await runChecked(native, sh('true'));
    const before = descriptors();
    const parents = await Promise.all(Array.from({ length: 100 }, () => runChecked(native, sh('echo $PPID'))));
    expect(new Set(parents)).toEqual(new Set([`${process.pid}\n`]));
    await vi.waitFor(() => expect(descriptors()).toBeLessThanOrEqual(before), { timeout: 10_000 });
    const children = readFileSync(`/proc/self/task/${process.pid}/children`, 'utf8').trim().split(/\s+/);
    const states = children.map((pid) => readFileIfExists(`/proc/${pid}/stat`)?.split(') ')[1]?.[0]);
    expect(states).not.toContain('Z');
  });

  it('live beside children that node starts itself', async () => {
    const both = Array.from({ length: 10 }, () =>
      Promise.all([native, directSpawner].map((one) => one.run(sh('exit 7')))),
    );
    for (const [a, b] of await Promise.all(both)) expect([a?.code, b?.code]).toEqual([7, 7]);
  });

  it('have no descriptor but those given, and no signal ignored or held back', async () => {
    const list = { file: 'ls', args: ['/proc/self/fd'] };
    expect(await runChecked(native, list)).toBe(await runChecked(directSpawner, list));
    const status = await runChecked(native, { file: 'cat', args: ['/proc/self/status'] });
    // Signals 32 and 33 are the C library's own: its posix_spawn leaves them ignored.
    const ignored = BigInt(`0x${/^SigIgn:\s*(\w+)$/m.exec(status)?.[1]}`);
    expect(ignored & ~0x180000000n).toBe(0n);
    expect(/^SigBlk:\s*(\w+)$/m.exec(status)?.[1]).toMatch(/^0+$/);
  });

  it('are refused in words in a directory that is not there', async () => {
    const outcome = native.run({ file: 'true', args: [], cwd: '/no/such/directory' });
    await expect(outcome).rejects.toThrow('/no/such/directory');
  });

  it('are refused when too many run, and after closing', async () => {
    const own = nativeSpawner();
    const many = Array.from({ length: 4096 }, () => own.run({ file: '/no/such', args: [] }).catch(() => undefined));
    await expect(own.run({ file: 'true', args: [] })).rejects.toMatchObject({ code: 'ResourceExhausted' });
    await Promise.all(many);
    own.close();
    await expect(own.run({ file: 'true', args: [] })).rejects.toMatchObject({ code: 'Unavailable' });
  });
});

describe('network namespaces', () => {
  const path = join(dir, `ns-${process.pid}`);
  const own = (): string => readlinkSync('/proc/thread-self/ns/net');

  it('are made, entered for the time of a call, and left', async () => {
    const home = own();
    writeFileSync(path, '');
    createNetworkNamespace(path);
    try {
      expect(own()).toBe(home);
      const there = inNetworkNamespace(path, own);
      expect(there).not.toBe(home);
      expect(() =>
        inNetworkNamespace(path, () => {
          throw new Error('inside');
        }),
      ).toThrow('inside');
      expect(own()).toBe(home);
      // A socket made inside stays there: its port is free outside.
      const fd = inNetworkNamespace(path, () => {
        const socket = sockets.open(AF_INET, SOCK_DGRAM);
        sockets.bind(socket, socketAddress4('0.0.0.0', 5353));
        return socket;
      });
      const twin = inNetworkNamespace(path, () => sockets.open(AF_INET, SOCK_DGRAM));
      expect(() => sockets.bind(twin, socketAddress4('0.0.0.0', 5353))).toThrow('EADDRINUSE');
      closeFd(twin);
      closeFd(fd);
    } finally {
      unmount(path);
    }
    expect(() => inNetworkNamespace(path, own)).toThrow(SystemCallError);
  });

  it('write IPv6 addresses whole, however they are shortened', () => {
    const hex = (address: string): string => Buffer.from(socketAddress6(address, 80)).toString('hex').slice(4);
    expect(hex('::')).toBe(`0050${'0'.repeat(48)}`);
    expect(hex('2001:db8::1')).toBe(`00500000000020010db8${'0'.repeat(23)}1${'0'.repeat(8)}`);
    expect(hex('fe80:0:0:0:1:2:3:4')).toBe(`005000000000fe80${'0'.repeat(12)}0001000200030004${'0'.repeat(8)}`);
    expect(hex('::ffff:192.0.2.1')).toBe(`005000000000${'0'.repeat(20)}ffffc0000201${'0'.repeat(8)}`);
  });

  it('tell what failed', () => {
    expect(() => openReadOnly('/no/such/file')).toThrow('open /no/such/file: ENOENT');
    expect(() => closeFd(999_999)).toThrow('EBADF');
  });
});

describe('sockets of other kinds', () => {
  it('speak sequenced packets over a path', () => {
    const address = socketAddressUnix(join(dir, 'seq.sock'));
    const server = sockets.open(AF_UNIX, SOCK_SEQPACKET);
    sockets.bind(server, address);
    sockets.listen(server, 1);
    const client = sockets.open(AF_UNIX, SOCK_SEQPACKET);
    sockets.connect(client, address);
    expect(sockets.send(client, Buffer.from('packet'))).toBe(6);
    closeFd(client);
    closeFd(server);
    expect(() => socketAddressUnix('x'.repeat(108))).toThrow('107 bytes');
  });
});
