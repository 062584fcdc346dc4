import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { connect as connectStream, isIPv6, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { AF_UNIX, SOCK_DGRAM, SystemCallError, socketAddressUnix, sockets, closeFd } from '../../base/index.ts';
import type { Clock } from '../../base/index.ts';

/** Where lines are sent: each message is one datagram, or framed by whoever made it. */
export interface Sink {
  /** Connects anew. @throws when nobody is there */
  open(): Promise<void>;
  /** @throws when the other side is gone; the message is then to be sent again after `open`. */
  send(message: Buffer): Promise<void>;
  close(): void;
}

const CONNECT_TIMEOUT_MS = 5000;
/** A full socket is tried again after this. */
const FULL_RETRY_MS = 10;
const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;
const EAGAIN = 11;
const ENOBUFS = 105;

/** Datagrams to a unix socket, which node has no way to. */
export function unixDatagramSink(path: string, clock: Clock): Sink {
  let fd = -1;
  const close = (): void => {
    if (fd >= 0) closeFd(fd);
    fd = -1;
  };
  return {
    close,
    open: async () => {
      close();
      fd = sockets.open(AF_UNIX, SOCK_DGRAM);
      try {
        sockets.connect(fd, socketAddressUnix(path));
      } catch (error) {
        close();
        throw error;
      }
    },
    send: async (message) => {
      for (;;) {
        if (fd < 0) throw new Error(`the socket ${path} is closed`);
        try {
          sockets.send(fd, message, MSG_DONTWAIT | MSG_NOSIGNAL);
          return;
        } catch (error) {
          const full = error instanceof SystemCallError && [EAGAIN, ENOBUFS].includes(error.errno);
          if (!full) throw error;
        }
        await clock.sleep(FULL_RETRY_MS);
      }
    },
  };
}

export interface StreamTarget {
  path?: string;
  host?: string;
  port?: number;
  tls?: { ca?: Buffer; cert?: Buffer; key?: Buffer; verify: boolean };
}

/** A stream connection, by TCP, TLS or a unix socket. */
export function streamSink({ tls, ...target }: StreamTarget): Sink {
  let socket: Socket | undefined;
  const close = (): void => {
    socket?.destroy();
    socket = undefined;
  };
  return {
    close,
    open: async () => {
      close();
      const where = target as { host: string; port: number };
      const made = tls === undefined ? connectStream(where) : connectTls({ ...where, ...tlsOptions(tls) });
      socket = made;
      made.on('error', () => undefined);
      await once(made, tls === undefined ? 'connect' : 'secureConnect', {
        signal: AbortSignal.timeout(CONNECT_TIMEOUT_MS),
      }).catch((error: unknown) => {
        made.destroy();
        throw error;
      });
      made.setTimeout(0);
      // Nothing is expected; reading shows when the other side closes.
      made.resume();
    },
    send: async (message) => {
      const to = socket;
      if (to === undefined || !to.writable) throw new Error('the connection is closed');
      await new Promise<void>((resolve, reject) => {
        to.write(message, (error) => (error === undefined || error === null ? resolve() : reject(error)));
      });
    },
  };
}

function tlsOptions(tls: NonNullable<StreamTarget['tls']>): object {
  const { verify, ...files } = tls;
  return { ...files, rejectUnauthorized: verify };
}

export function udpSink(host: string, port: number): Sink {
  let socket: ReturnType<typeof createSocket> | undefined;
  const close = (): void => {
    socket?.close();
    socket = undefined;
  };
  return {
    close,
    open: async () => {
      close();
      const made = createSocket(isIPv6(host) ? 'udp6' : 'udp4');
      made.on('error', () => undefined);
      made.unref();
      socket = made;
    },
    send: (message) =>
      new Promise((resolve, reject) => {
        if (socket === undefined) reject(new Error('the socket is closed'));
        else socket.send(message, port, host, (error) => (error === null ? resolve() : reject(error)));
      }),
  };
}

/** The first of `paths` that exists. */
export const firstExisting = (paths: readonly string[]): string | undefined => paths.find((path) => existsSync(path));
