import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { systemClock } from '../../base/index.ts';
import { decodeReply, encodeCall } from './dbus.ts';
import { SystemdUnits } from './systemd-units.ts';

const directory = mkdtempSync(join(tmpdir(), 'shoal-bus-'));
const servers: Server[] = [];
afterAll(() => {
  for (const server of servers) server.close();
  rmSync(directory, { recursive: true, force: true });
});

const padded = (bytes: Buffer, to: number): Buffer =>
  Buffer.concat([bytes, Buffer.alloc((to - (bytes.length % to)) % to)]);
const u32 = (value: number): Buffer => Buffer.from(new Uint32Array([value]).buffer);
const text = (value: string): Buffer => Buffer.concat([u32(Buffer.byteLength(value)), Buffer.from(`${value}\0`)]);
const header = (code: number, type: string, value: Buffer): Buffer =>
  padded(Buffer.concat([Buffer.from([code, 1]), Buffer.from(`${type}\0`), value]), 8);

/** An answer as dbus-daemon writes it: with the sender's name, and an error's name or an object. */
function answer(serial: number, error?: string): Buffer {
  const fields = Buffer.concat([
    header(6, 's', text(':1.7')),
    ...(error === undefined ? [] : [header(4, 's', text(error))]),
    header(5, 'u', u32(serial)),
    header(8, 'g', Buffer.from(error === undefined ? '\x01o\0' : '\x01s\0')),
    header(7, 's', text('org.freed')),
  ]);
  const body = text(error === undefined ? '/org/freedesktop/systemd1/job/1' : 'Unit x.scope not loaded.');
  const start = Buffer.from([0x6c, error === undefined ? 2 : 3, 1, 1]);
  return Buffer.concat([start, u32(body.length), u32(99), u32(fields.length), padded(fields, 8), body]);
}

/** Names of the method and the first text of a call's body, found in its bytes. */
function callOf(message: Buffer): { member: string; rest: string } {
  const words = message.toString('latin1');
  const member = /(?:Hello|GetUnit|StopUnit|ResetFailedUnit|SetUnitProperties)/.exec(words)?.[0] ?? '';
  return { member, rest: words.slice(words.lastIndexOf('\0\0') + 1) };
}

/** A bus that answers each method by a function; `undefined` is success. */
async function bus(
  name: string,
  reply: (member: string, count: number) => string | undefined,
): Promise<{
  path: string;
  calls: string[];
}> {
  const path = join(directory, name);
  const calls: string[] = [];
  const serve = (socket: Socket): void => {
    let begun = false;
    socket.on('data', (chunk) => {
      let rest = chunk;
      if (!begun) {
        if (rest.includes('AUTH')) socket.write('OK 0123456789abcdef\r\n');
        const at = rest.indexOf('BEGIN\r\n');
        if (at < 0) return;
        begun = true;
        rest = rest.subarray(at + 7);
      }
      if (rest.length === 0) return;
      const { member } = callOf(rest);
      calls.push(member);
      // A signal comes between, and the answer in two pieces.
      const signal = answer(0);
      signal[1] = 4;
      const bytes = Buffer.concat([signal, answer(rest.readUInt32LE(8), reply(member, calls.length))]);
      socket.write(bytes.subarray(0, 30));
      setImmediate(() => socket.write(bytes.subarray(30)));
    });
  };
  const server = createServer(serve);
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(path, resolve));
  return { path, calls };
}

const NO_UNIT = 'org.freedesktop.systemd1.NoSuchUnit';

test('a scope that systemd has let go is not stopped again', async () => {
  const { path, calls } = await bus('gone', (member) => (member === 'GetUnit' ? NO_UNIT : undefined));
  await new SystemdUnits(systemClock, [{ path }]).forget('x.scope');
  expect(calls).toEqual(['Hello', 'GetUnit']);
});

test('one that is still known is stopped, and waited for; a failed one is taken note of', async () => {
  const { path, calls } = await bus('known', (member, count) =>
    member === 'GetUnit' && count > 5 ? NO_UNIT : undefined,
  );
  await new SystemdUnits(systemClock, [{ path }]).forget('x.scope');
  expect(calls).toEqual(['Hello', 'GetUnit', 'StopUnit', 'GetUnit', 'ResetFailedUnit', 'GetUnit']);
});

test('many that end at once are asked for in turns', async () => {
  const { path, calls } = await bus('many', (member) => (member === 'GetUnit' ? NO_UNIT : undefined));
  const units = new SystemdUnits(systemClock, [{ path }]);
  await Promise.all(Array.from({ length: 300 }, (_, index) => units.forget(`${index}.scope`)));
  expect(calls).toHaveLength(600);
});

test('without a bus systemd is asked at its own socket, which gives no names', async () => {
  const { path, calls } = await bus('own', (member) => (member === 'GetUnit' ? NO_UNIT : undefined));
  const addresses = [{ path: join(directory, 'none') }, { path, direct: true }];
  await new SystemdUnits(systemClock, addresses).forget('x.scope');
  expect(calls).toEqual(['GetUnit']);
});

test('what else systemd answers is told; so is a bus that is not there', async () => {
  const denied = 'org.freedesktop.DBus.Error.AccessDenied';
  const { path } = await bus('denied', (member) => (member === 'Hello' ? undefined : denied));
  const units = new SystemdUnits(systemClock, [{ path }]);
  await expect(units.forget('x.scope')).rejects.toMatchObject({ errorName: denied });
  await expect(units.limitTasks('x.slice', 5)).rejects.toThrow('Unit x.scope not loaded.');
  const none = join(directory, 'none');
  await expect(new SystemdUnits(systemClock, [{ path: none }]).forget('x.scope')).rejects.toThrow('ENOENT');
});

test('a call in the bytes of the specification', () => {
  const call = { destination: 'a.b', path: '/p', interface: 'a.b.I', member: 'Set' };
  const properties = [{ name: 'TasksMax', value: 2n ** 40n + 7n }];
  const bytes = encodeCall({ ...call, arguments: ['x.slice', true, properties] }, 3);
  // Little endian, a call, no flags, version 1; length of the body, serial.
  expect([...bytes.subarray(0, 4)]).toEqual([0x6c, 1, 0, 1]);
  expect(bytes.readUInt32LE(8)).toBe(3);
  const bodyAt = bytes.length - bytes.readUInt32LE(4);
  expect(bodyAt % 8).toBe(0);
  expect(bytes.toString('latin1')).toContain('\x08\x01g\0\x07sba(sv)\0');
  const body = bytes.subarray(bodyAt);
  expect(body.toString('latin1', 0, 12)).toBe('\x07\0\0\0x.slice\0');
  expect([body.readUInt32LE(12), body.readUInt32LE(16)]).toEqual([1, 24]);
  expect(body.toString('latin1', 24, 40)).toBe('\x08\0\0\0TasksMax\0\x01t\0');
  expect(body.readBigUInt64LE(40)).toBe(2n ** 40n + 7n);
  expect(body.length).toBe(48);
});

test('an answer that is cut off is waited for; one that is nonsense is told', () => {
  const whole = answer(5, NO_UNIT);
  expect(decodeReply(whole)).toMatchObject({ type: 3, replySerial: 5, errorName: NO_UNIT, length: whole.length });
  for (const cut of [0, 15, 16, whole.length - 1]) expect(decodeReply(whole.subarray(0, cut))).toBeUndefined();
  expect(() => decodeReply(Buffer.alloc(64, 0xff))).toThrow('the bus answers with nonsense');
  const long = Buffer.from(whole);
  long.writeUInt32LE(0x7fffffff, 4);
  expect(() => decodeReply(long)).toThrow('the bus answers with nonsense');
});
