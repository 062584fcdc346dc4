import { createConnection, type Socket } from 'node:net';
import { ShoalError, unavailable, type Clock } from '../../base/index.ts';

/*
 * As much of the D-Bus Specification (0.43) as calls of methods need: authentication EXTERNAL, messages of little
 * endian, arguments of the types string, boolean and list of properties with numbers of 64 bits.
 */

const CALL_TIMEOUT_MS = 25_000;
/** A reply that is longer is of no method called here. */
const MESSAGE_MAX_BYTES = 64 * 1024;
const FIXED_HEADER_BYTES = 16;
const [METHOD_CALL, METHOD_RETURN, ERROR] = [1, 2, 3];
const VERSION = 1;
/** Fields of a header. */
const [PATH, INTERFACE, MEMBER, ERROR_NAME, REPLY_SERIAL, DESTINATION, SIGNATURE] = [1, 2, 3, 4, 5, 6, 8];

/** One argument of a method: a string, a boolean, or properties (`a(sv)`) with numbers (`t`). */
export type DbusArgument = string | boolean | readonly { name: string; value: bigint }[];

export interface DbusCall {
  destination: string;
  path: string;
  interface: string;
  member: string;
  arguments: readonly DbusArgument[];
}

/** An error that the called one answered with. */
export class DbusError extends ShoalError {
  /** As `org.freedesktop.systemd1.NoSuchUnit`. */
  readonly errorName: string;
  constructor(errorName: string, message: string) {
    super('Internal', message === '' ? errorName : message);
    this.errorName = errorName;
  }
}

const align = (at: number, to: number): number => Math.ceil(at / to) * to;

/** Writes values one after the other, each at a multiple of its size. */
class Writer {
  #bytes: number[] = [];

  get length(): number {
    return this.#bytes.length;
  }

  align(to: number): this {
    while (this.#bytes.length % to !== 0) this.#bytes.push(0);
    return this;
  }

  byte(value: number): this {
    this.#bytes.push(value);
    return this;
  }

  u32(value: number): this {
    this.align(4);
    for (let shift = 0; shift < 32; shift += 8) this.#bytes.push((value >>> shift) & 0xff);
    return this;
  }

  u64(value: bigint): this {
    this.align(8);
    for (let shift = 0n; shift < 64n; shift += 8n) this.#bytes.push(Number((value >> shift) & 0xffn));
    return this;
  }

  string(text: string): this {
    const bytes = Buffer.from(text, 'utf8');
    this.u32(bytes.length);
    this.#bytes.push(...bytes, 0);
    return this;
  }

  signature(text: string): this {
    this.#bytes.push(text.length, ...Buffer.from(text, 'latin1'), 0);
    return this;
  }

  raw(bytes: Iterable<number>): this {
    this.#bytes.push(...bytes);
    return this;
  }

  buffer(): Buffer {
    return Buffer.from(this.#bytes);
  }
}

function signatureOf(value: DbusArgument): string {
  return typeof value === 'string' ? 's' : typeof value === 'boolean' ? 'b' : 'a(sv)';
}

function writeArgument(writer: Writer, value: DbusArgument): void {
  if (typeof value === 'string') writer.string(value);
  else if (typeof value === 'boolean') writer.u32(value ? 1 : 0);
  else {
    // The length of a list counts from its first entry, which is at a multiple of 8.
    const entries = new Writer();
    for (const { name, value: number } of value) entries.align(8).string(name).signature('t').u64(number);
    writer.u32(entries.length).align(8).raw(entries.buffer());
  }
}

/** The bytes of a call of a method. */
export function encodeCall(call: DbusCall, serial: number): Buffer {
  const body = new Writer();
  for (const value of call.arguments) writeArgument(body, value);
  const fields = new Writer();
  const field = (code: number, type: 'o' | 's', text: string): void =>
    void fields.align(8).byte(code).signature(type).string(text);
  field(PATH, 'o', call.path);
  field(INTERFACE, 's', call.interface);
  field(MEMBER, 's', call.member);
  field(DESTINATION, 's', call.destination);
  const signature = call.arguments.map(signatureOf).join('');
  if (signature !== '') fields.align(8).byte(SIGNATURE).signature('g').signature(signature);
  return new Writer()
    .raw([0x6c, METHOD_CALL, 0, VERSION])
    .u32(body.length)
    .u32(serial)
    .u32(fields.length)
    .raw(fields.buffer())
    .align(8)
    .raw(body.buffer())
    .buffer();
}

/** What is looked at of a message that came. */
export interface DbusReply {
  type: number;
  replySerial: number;
  errorName: string;
  /** The first argument, when it is a text. */
  text: string;
  /** Of the whole message, bytes. */
  length: number;
}

/**
 * Reads the message that a buffer begins with; undefined while it is not whole.
 * @throws ShoalError Unavailable for what is no message, or too long
 */
export function decodeReply(buffer: Buffer): DbusReply | undefined {
  if (buffer.length < FIXED_HEADER_BYTES) return undefined;
  const little = buffer[0] === 0x6c;
  const u32 = (at: number): number => (little ? buffer.readUInt32LE(at) : buffer.readUInt32BE(at));
  const fieldsEnd = FIXED_HEADER_BYTES + u32(12);
  const length = align(fieldsEnd, 8) + u32(4);
  if ((!little && buffer[0] !== 0x42) || length > MESSAGE_MAX_BYTES) throw unavailable('the bus answers with nonsense');
  if (buffer.length < length) return undefined;
  const reply: DbusReply = { type: buffer[1] ?? 0, replySerial: 0, errorName: '', text: '', length };
  const string = (at: number): string => buffer.toString('utf8', at + 4, Math.min(length, at + 4 + u32(at)));
  let signature = '';
  for (let at = FIXED_HEADER_BYTES; at < fieldsEnd;) {
    at = align(at, 8);
    const code = buffer[at];
    const type = String.fromCharCode(buffer[at + 2] ?? 0);
    // A code, and a signature of one letter with its length and end.
    const value = type === 'g' ? at + 4 : align(at + 4, 4);
    if (value + 4 > length) throw unavailable('the bus answers with nonsense');
    if (type === 'g') signature = code === SIGNATURE ? String.fromCharCode(buffer[value + 1] ?? 0) : signature;
    else if (code === REPLY_SERIAL) reply.replySerial = u32(value);
    else if (code === ERROR_NAME) reply.errorName = string(value);
    at = type === 'g' ? value + (buffer[value] ?? 0) + 2 : type === 'u' ? value + 4 : value + 4 + u32(value) + 1;
  }
  if (signature === 's' || signature === 'o') reply.text = string(align(fieldsEnd, 8));
  return reply;
}

export interface DbusAddress {
  path: string;
  direct?: boolean;
}

/** A connection to a message bus, for one piece of work. */
export class DbusConnection {
  readonly #socket: Socket;
  #received = Buffer.alloc(0);
  #serial = 0;
  #failure: Error | undefined;
  #wake: () => void = () => undefined;

  private constructor(path: string) {
    this.#socket = createConnection(path);
    const fail = (error: Error): void => {
      this.#failure ??= error;
      this.#wake();
    };
    this.#socket.on('data', (chunk) => {
      this.#received = Buffer.concat([this.#received, chunk]);
      if (this.#received.length > MESSAGE_MAX_BYTES) fail(unavailable('the bus answers with nonsense'));
      this.#wake();
    });
    this.#socket.on('error', fail);
    this.#socket.on('close', () => fail(unavailable('the bus has closed the connection')));
  }

  /**
   * Does something with a bus; the connection is closed afterwards.
   * @param path the bus's socket; `direct`: that of one program, which is no bus and gives no names
   * @throws DbusError for an error that was answered; ShoalError Unavailable when the bus does not answer in time
   */
  static async use<T>(
    { path, direct = false }: DbusAddress,
    clock: Clock,
    work: (bus: DbusConnection) => Promise<T>,
  ): Promise<T> {
    const bus = new DbusConnection(path);
    const timer = clock.after(CALL_TIMEOUT_MS, () => {
      bus.#failure ??= unavailable(`the bus at ${path} does not answer in ${CALL_TIMEOUT_MS / 1000} s`);
      bus.#wake();
    });
    try {
      await bus.#begin(direct);
      return await work(bus);
    } finally {
      timer.cancel();
      bus.#socket.destroy();
    }
  }

  async #begin(direct: boolean): Promise<void> {
    const user = Buffer.from(String(process.getuid?.() ?? 0)).toString('hex');
    this.#socket.write(`\0AUTH EXTERNAL ${user}\r\n`);
    const line = await this.#take((buffer) => {
      const end = buffer.indexOf('\r\n');
      return end < 0 ? undefined : { length: end + 2, text: buffer.toString('latin1', 0, end) };
    });
    if (!line.text.startsWith('OK ')) throw unavailable(`the bus refuses this user: ${line.text}`);
    this.#socket.write('BEGIN\r\n');
    if (direct) return;
    const name = 'org.freedesktop.DBus';
    await this.call({
      destination: name,
      path: '/org/freedesktop/DBus',
      interface: name,
      member: 'Hello',
      arguments: [],
    });
  }

  /** Waits for something at the beginning of what came, and takes it away. */
  async #take<T extends { length: number }>(parse: (buffer: Buffer) => T | undefined): Promise<T> {
    for (;;) {
      const found = parse(this.#received);
      if (found !== undefined) {
        this.#received = this.#received.subarray(found.length);
        return found;
      }
      if (this.#failure !== undefined) throw this.#failure;
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }

  /** Calls a method. @returns the first part of the answer when it is a text. @throws DbusError */
  async call(call: DbusCall): Promise<string> {
    const serial = ++this.#serial;
    this.#socket.write(encodeCall(call, serial));
    for (;;) {
      const { type, replySerial, errorName, text } = await this.#take(decodeReply);
      if (replySerial !== serial) continue;
      if (type === METHOD_RETURN) return text;
      if (type === ERROR) throw new DbusError(errorName, text);
    }
  }
}
