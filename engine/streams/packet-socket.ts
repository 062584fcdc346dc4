import { constants, closeSync, openSync } from 'node:fs';
import { Socket } from 'node:net';
import {
  AF_UNIX,
  closeFd,
  duplicateFd,
  SOCK_NONBLOCK,
  SOCK_SEQPACKET,
  socketAddressUnix,
  sockets,
} from '../../base/index.ts';

export type OutputStream = 'stdout' | 'stderr';

/** conmon's packets hold at most 8,192 bytes of output after their stream byte (conmon config.h, STDIO_BUF_SIZE). */
const PACKET_MAX_BYTES = 8192 + 1;
/** Packets of input: conmon takes up to 32 KiB in one read and drops what is beyond. */
const INPUT_PACKET_MAX_BYTES = 8192;
const STDERR_BYTE = 3;

export interface PacketHandlers {
  /** A packet's data, valid only during the call. False stops reading until `resume`. */
  onData: (stream: OutputStream, data: Uint8Array) => boolean;
  /** No more comes: conmon has ended, or the connection is closed. Called once. */
  onEnd: () => void;
}

interface PipeHandle {
  open(fd: number): number;
}

/**
 * A connection to conmon's attach socket, which is of type SOCK_SEQPACKET: each packet is one byte for the stream and
 * data. Node has no name for such sockets; its pipe handle reads and writes them with packet borders kept.
 */
export class PacketSocket {
  readonly #socket: Socket;
  readonly #handlers: PacketHandlers;
  /** A second descriptor, for packets left behind when the connection was reset. */
  #spare: number;
  #ended = false;
  #paused = false;
  #written: () => void = () => undefined;
  #lastWrite: Promise<void> = Promise.resolve();

  /**
   * Connects to `attach` in a directory (a bundle, or an exec session's).
   * @throws SystemCallError ENOENT, ECONNREFUSED when nobody listens, EAGAIN when too many wait.
   */
  constructor(directory: string, handlers: PacketHandlers) {
    this.#handlers = handlers;
    const fd = connectIn(directory);
    this.#spare = duplicateFd(fd);
    const buffer = Buffer.allocUnsafe(PACKET_MAX_BYTES);
    const options = {
      handle: pipeHandle(fd),
      allowHalfOpen: true,
      onread: { buffer, callback: (length: number) => this.#deliver(buffer.subarray(0, length)) },
    };
    this.#socket = new Socket(options);
    this.#socket.on('error', () => this.#end());
    this.#socket.on('end', () => this.#end());
    this.#socket.on('close', () => this.#end());
    this.#socket.resume();
  }

  #deliver(packet: Uint8Array): boolean {
    if (packet.length < 2 || this.#spare < 0) return true;
    const stream = packet[0] === STDERR_BYTE ? 'stderr' : 'stdout';
    this.#paused = !this.#handlers.onData(stream, packet.subarray(1));
    return !this.#paused;
  }

  resume(): void {
    if (!this.#paused || this.#ended) return;
    this.#paused = false;
    this.#socket.resume();
    // With a buffer of its own, the socket begins to read again only by a read.
    this.#socket.read(0);
  }

  /** Sends input; resolves when conmon's side has room again, also when the connection has ended. */
  write(data: Uint8Array): Promise<void> {
    for (let from = 0; from < data.length; from += INPUT_PACKET_MAX_BYTES) {
      const packet = data.subarray(from, from + INPUT_PACKET_MAX_BYTES);
      // One at a time: the socket would join several that wait into one packet.
      this.#lastWrite = this.#lastWrite.then(
        () =>
          new Promise((resolve) => {
            if (this.#ended || !this.#socket.writable) return resolve();
            // A write under way when the connection is reset is not always called back.
            this.#written = resolve;
            this.#socket.write(packet, () => resolve());
          }),
      );
    }
    return this.#lastWrite;
  }

  /** No more input comes: conmon closes the process' standard input unless it was told to leave it open. */
  endInput(): void {
    this.#lastWrite = this.#lastWrite.then(() => {
      if (!this.#ended) this.#socket.end();
    });
  }

  /** Closes the connection; no handler is called any more. */
  destroy(): void {
    this.#release();
  }

  #release(): void {
    this.#ended = true;
    if (this.#spare >= 0) closeFd(this.#spare);
    this.#spare = -1;
    this.#socket.destroy();
    this.#written();
  }

  #end(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#takeRest();
    this.#release();
    this.#handlers.onEnd();
  }

  /**
   * conmon leaves input that nobody read when it ends; the kernel then reports "connection reset" before the packets
   * that still wait here, which are not lost by that.
   */
  #takeRest(): void {
    const buffer = Buffer.allocUnsafe(PACKET_MAX_BYTES);
    for (;;) {
      let length: number | undefined;
      try {
        length = sockets.tryReceive(this.#spare, buffer);
      } catch {
        return;
      }
      if (length === undefined || length === 0) return;
      this.#deliver(buffer.subarray(0, length));
    }
  }
}

/** Goes through the directory's descriptor: a socket's path has at most 107 bytes. */
function connectIn(directory: string): number {
  const at = openSync(directory, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    const fd = sockets.open(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK);
    try {
      sockets.connect(fd, socketAddressUnix(`/proc/self/fd/${at}/attach`));
    } catch (error) {
      closeFd(fd);
      throw error;
    }
    return fd;
  } finally {
    closeSync(at);
  }
}

/** Node's own handle of unix sockets, over a descriptor. */
function pipeHandle(fd: number): PipeHandle {
  const node = process as unknown as { binding: (name: string) => { Pipe: new (type: number) => PipeHandle } };
  const handle = new (node.binding('pipe_wrap').Pipe)(0);
  const failed = handle.open(fd);
  if (failed !== 0) {
    closeFd(fd);
    throw new Error(`the attach socket cannot be read: error ${failed}`);
  }
  return handle;
}
