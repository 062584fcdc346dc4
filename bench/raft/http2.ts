/**
 * As much of HTTP/2 (RFC 9113) and HPACK (RFC 7541) as unary gRPC calls need, for the load generator and for our
 * members' clients' port: a general implementation would cost more than what is measured. Both sides of a connection
 * send header blocks of a few bytes; a frame is at most 16 KiB, a block is in one frame.
 */
import { assert, ShoalError } from '../../base/index.ts';

export const FRAME_HEADER_BYTES = 9;
/** Payload of one frame at the most: the protocol's default, which neither side raises. */
export const FRAME_PAYLOAD_MAX = 16_384;
export const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'latin1');

export const DATA = 0;
export const HEADERS = 1;
export const RST_STREAM = 3;
export const SETTINGS = 4;
export const PING = 6;
export const GOAWAY = 7;
export const WINDOW_UPDATE = 8;
export const CONTINUATION = 9;

export const END_STREAM = 1;
export const ACK = 1;
export const END_HEADERS = 4;
export const PADDED = 8;
export const PRIORITY = 32;

export const WINDOW_INITIAL = 65_535;
export const WINDOW_MAX = 2 ** 31 - 1;
/** A receiver that consumed this much opens the window of its connection again. */
const WINDOW_REFRESH = 2 ** 20;
const SETTING_HEADER_TABLE_SIZE = 1;
const SETTING_INITIAL_WINDOW_SIZE = 4;
/** Bytes of output that are gathered in one piece, unless a connection asks for less: there may be thousands. */
const SLAB_BYTES = 256 * 1024;
/** Length prefix of a gRPC message: a flag (compressed) and 32 bits. */
export const GRPC_PREFIX_BYTES = 5;

/** Output of a connection: gathers frames of one turn and hands them over at once. */
export class FrameWriter {
  #slab: Buffer;
  readonly #slabBytes: number;
  #start = 0;
  #end = 0;
  readonly #flushTo: (bytes: Buffer) => void;
  #scheduled = false;
  readonly #flush = (): void => {
    this.#scheduled = false;
    if (this.#end === this.#start) return;
    const bytes = this.#slab.subarray(this.#start, this.#end);
    this.#start = this.#end;
    this.#flushTo(bytes);
  };

  constructor(flushTo: (bytes: Buffer) => void, slabBytes = SLAB_BYTES) {
    this.#slabBytes = slabBytes;
    this.#slab = Buffer.allocUnsafeSlow(slabBytes);
    this.#flushTo = flushTo;
  }

  /** Room for `bytes` more, to be filled by the caller at the returned offset of `buffer`. */
  #reserve(bytes: number): number {
    assert(bytes <= this.#slabBytes, 'a frame fits a slab');
    if (this.#end + bytes > this.#slabBytes) {
      this.#flush();
      this.#slab = Buffer.allocUnsafeSlow(this.#slabBytes);
      this.#start = 0;
      this.#end = 0;
    }
    const at = this.#end;
    this.#end += bytes;
    if (!this.#scheduled) {
      this.#scheduled = true;
      // After all promises that settle in this turn: their frames leave together.
      queueMicrotask(this.#flush);
    }
    return at;
  }

  raw(bytes: Uint8Array): void {
    const at = this.#reserve(bytes.length);
    this.#slab.set(bytes, at);
  }

  frame(type: number, flags: number, stream: number, payload: Uint8Array): void {
    const at = this.#reserve(FRAME_HEADER_BYTES + payload.length);
    this.#header(at, payload.length, type, flags, stream);
    this.#slab.set(payload, at + FRAME_HEADER_BYTES);
  }

  /** One DATA frame with one gRPC message. @returns bytes that count against the window */
  message(flags: number, stream: number, message: Uint8Array): number {
    const length = GRPC_PREFIX_BYTES + message.length;
    assert(length <= FRAME_PAYLOAD_MAX, 'messages of the benchmark fit one frame');
    const at = this.#reserve(FRAME_HEADER_BYTES + length);
    this.#header(at, length, DATA, flags, stream);
    this.#slab[at + FRAME_HEADER_BYTES] = 0;
    this.#slab.writeUInt32BE(message.length, at + FRAME_HEADER_BYTES + 1);
    this.#slab.set(message, at + FRAME_HEADER_BYTES + GRPC_PREFIX_BYTES);
    return length;
  }

  windowUpdate(stream: number, bytes: number): void {
    const at = this.#reserve(FRAME_HEADER_BYTES + 4);
    this.#header(at, 4, WINDOW_UPDATE, 0, stream);
    this.#slab.writeUInt32BE(bytes, at + FRAME_HEADER_BYTES);
  }

  /** What both sides say first: windows so large that only the connection's is ever to be looked after. */
  begin(): void {
    const settings = Buffer.alloc(6);
    settings.writeUInt16BE(SETTING_INITIAL_WINDOW_SIZE, 0);
    settings.writeUInt32BE(WINDOW_MAX, 2);
    this.frame(SETTINGS, 0, 0, settings);
    this.windowUpdate(0, WINDOW_MAX - WINDOW_INITIAL);
  }

  #header(at: number, length: number, type: number, flags: number, stream: number): void {
    const slab = this.#slab;
    slab[at] = length >>> 16;
    slab[at + 1] = (length >>> 8) & 0xff;
    slab[at + 2] = length & 0xff;
    slab[at + 3] = type;
    slab[at + 4] = flags;
    slab.writeUInt32BE(stream, at + 5);
  }
}

/** Frames that mean something to a unary call. Buffers are views of what was received. */
export interface FrameHandler {
  headers(stream: number, block: Buffer, end: boolean): void;
  data(stream: number, payload: Buffer, end: boolean): void;
  reset(stream: number): void;
  /** The other side takes so many more bytes on a stream. Only streams that stay open need it. */
  window?(stream: number, bytes: number): void;
}

/** Input of a connection: cuts frames, and answers those of the connection itself. */
export class FrameReader {
  #rest: Buffer | null = null;
  #prefaceLeft: number;
  #consumed = 0;
  /** What may still be sent on the connection. */
  sendWindow = WINDOW_INITIAL;
  readonly #writer: FrameWriter;
  readonly #handler: FrameHandler;

  constructor(writer: FrameWriter, handler: FrameHandler, server: boolean) {
    this.#writer = writer;
    this.#handler = handler;
    this.#prefaceLeft = server ? PREFACE.length : 0;
  }

  /** @throws ShoalError when the other side ends the connection or sends what is not supported. */
  push(chunk: Buffer): void {
    let input = this.#rest === null ? chunk : Buffer.concat([this.#rest, chunk]);
    this.#rest = null;
    if (this.#prefaceLeft > 0) {
      if (input.length < this.#prefaceLeft) {
        this.#rest = input;
        return;
      }
      if (!input.subarray(0, PREFACE.length).equals(PREFACE)) throw new ShoalError('InvalidArgument', 'not HTTP/2');
      input = input.subarray(this.#prefaceLeft);
      this.#prefaceLeft = 0;
    }
    let at = 0;
    while (input.length - at >= FRAME_HEADER_BYTES) {
      const length = ((input[at] as number) << 16) | ((input[at + 1] as number) << 8) | (input[at + 2] as number);
      if (length > FRAME_PAYLOAD_MAX) throw new ShoalError('InvalidArgument', `HTTP/2 frame of ${length} bytes`);
      const end = at + FRAME_HEADER_BYTES + length;
      if (end > input.length) break;
      this.#take(input, at, end);
      at = end;
    }
    if (at < input.length) this.#rest = input.subarray(at);
  }

  #take(input: Buffer, at: number, end: number): void {
    const type = input[at + 3] as number;
    const flags = input[at + 4] as number;
    const stream = input.readUInt32BE(at + 5) & WINDOW_MAX;
    const payload = input.subarray(at + FRAME_HEADER_BYTES, end);
    switch (type) {
      case DATA:
        this.#count(payload.length);
        this.#handler.data(stream, unpadded(payload, flags), (flags & END_STREAM) !== 0);
        break;
      case HEADERS: {
        if ((flags & END_HEADERS) === 0) throw new ShoalError('Unimplemented', 'a header block in several frames');
        const block = unpadded(payload, flags);
        this.#handler.headers(stream, (flags & PRIORITY) === 0 ? block : block.subarray(5), (flags & END_STREAM) !== 0);
        break;
      }
      case RST_STREAM:
        this.#handler.reset(stream);
        break;
      case SETTINGS:
        if ((flags & ACK) === 0) this.#writer.frame(SETTINGS, ACK, 0, new Uint8Array());
        break;
      case PING:
        if ((flags & ACK) === 0) this.#writer.frame(PING, ACK, 0, payload);
        break;
      case WINDOW_UPDATE:
        if (stream === 0) this.sendWindow += payload.readUInt32BE(0) & WINDOW_MAX;
        else this.#handler.window?.(stream, payload.readUInt32BE(0) & WINDOW_MAX);
        break;
      case GOAWAY:
        throw new ShoalError('Unavailable', `the other side ends the connection: ${payload.subarray(8).toString()}`);
      case CONTINUATION:
        throw new ShoalError('Unimplemented', 'a header block in several frames');
      default:
        // Frames of unknown types are ignored (RFC 9113 §4.1).
        break;
    }
  }

  #count(bytes: number): void {
    this.#consumed += bytes;
    if (this.#consumed < WINDOW_REFRESH) return;
    this.#writer.windowUpdate(0, this.#consumed);
    this.#consumed = 0;
  }
}

function unpadded(payload: Buffer, flags: number): Buffer {
  return (flags & PADDED) === 0 ? payload : payload.subarray(1, payload.length - (payload[0] as number));
}

export { SETTING_HEADER_TABLE_SIZE };
