import { createServer as createTcpServer, type AddressInfo, type Server as TcpServer, type Socket } from 'node:net';
import { createServer as createTlsServer, type Server as TlsServer, type TLSSocket } from 'node:tls';
import { ShoalError, TurnPacer } from '../../base/index.ts';
import type { TlsIdentity } from '../../identity/index.ts';
import { peerAddress } from './access.ts';
import { Admission, UNFINISHED_MAX, type AdmissionOptions, type Arrival } from './admission.ts';

/** Connections that the kernel holds until they are accepted: all of them may be accepted in one turn. */
const BACKLOG = 511;
/** Connections handed on in one turn of the event loop: the first request comes with most of them. */
const SERVED_PER_TURN = 4;

export interface ListenerOptions extends AdmissionOptions {
  tls: TlsIdentity;
  /** Takes a connection whose handshake has ended. */
  serve: (socket: TLSSocket) => void;
}

/** Where a socket's two ends are: no two open connections share it. */
const endsOf = ({ remoteAddress, remotePort, localAddress, localPort }: Socket): string =>
  `${remoteAddress} ${remotePort} ${localAddress} ${localPort}`;

/** `host:port` taken apart, brackets of IPv6 removed. */
function hostAndPort(listenAddr: string): { host: string; port: number } {
  const at = listenAddr.lastIndexOf(':');
  return { host: listenAddr.slice(0, at).replace(/^\[(.*)\]$/, '$1'), port: Number(listenAddr.slice(at + 1)) };
}

/** Accepts connections, admits them to their TLS handshake a few at a time, and hands them on. */
export class TlsListener {
  readonly #options: ListenerOptions;
  readonly #admission: Admission;
  readonly #tcp: TcpServer;
  readonly #tls: TlsServer;
  readonly #arrivals = new Map<string, Arrival>();
  readonly #stopUpdates: () => void;
  readonly #served: TurnPacer;

  constructor(options: ListenerOptions) {
    this.#options = options;
    this.#admission = new Admission(options);
    const pace = { perTurn: SERVED_PER_TURN, waitingMax: 2 * UNFINISHED_MAX, what: 'new connections' };
    this.#served = new TurnPacer({ clock: options.clock, ...pace });
    this.#tls = createTlsServer(options.tls.serverOptions(), (socket) => this.#secured(socket));
    this.#stopUpdates = options.tls.onUpdate(() => this.#tls.setSecureContext(options.tls.serverOptions()));
    this.#tcp = createTcpServer({ pauseOnConnect: true }, (socket) => this.#accepted(socket));
  }

  /** Connections that wait for their handshake, and those whose handshake has not ended. */
  get load(): { waiting: number; unfinished: number } {
    return { waiting: this.#admission.waiting, unfinished: this.#admission.unfinished };
  }

  /** @param listenAddr `host:port`; port 0 picks a free one. @returns the port. @throws ShoalError Unavailable */
  listen(listenAddr: string): Promise<number> {
    return new Promise((resolve, reject) => {
      const failed = (error: Error): void => {
        const why = `cannot listen on ${listenAddr}: ${error.message}; choose another --listen-addr`;
        reject(new ShoalError('Unavailable', why, { cause: error }));
      };
      this.#tcp.once('error', failed);
      this.#tcp.listen({ ...hostAndPort(listenAddr), backlog: BACKLOG }, () => {
        this.#tcp.off('error', failed);
        // Running out of files must not end the process: those that wait in the kernel are accepted later.
        this.#tcp.on('error', (error) => this.#options.log.error('connections cannot be accepted', { error }));
        resolve((this.#tcp.address() as AddressInfo).port);
      });
    });
  }

  /** Accepts no more and drops what was not handed on. Idempotent. */
  close(): void {
    this.#stopUpdates();
    this.#tcp.close();
    this.#admission.close();
  }

  #accepted(socket: Socket): void {
    const ends = endsOf(socket);
    const { tcp, tls } = { tcp: socket, tls: this.#tls };
    const arrival: Arrival = {
      host: peerAddress(`${socket.remoteAddress ?? ''}:0`).replace(/:0$/, ''),
      begin: () => tls.emit('connection', tcp),
      drop: () => tcp.resetAndDestroy(),
    };
    this.#arrivals.set(ends, arrival);
    // A peer that resets its connection; what failed is told to whoever uses the connection.
    socket.on('error', () => undefined);
    socket.once('close', () => {
      if (this.#arrivals.get(ends) === arrival) this.#arrivals.delete(ends);
      this.#admission.done(arrival);
    });
    this.#admission.offer(arrival);
  }

  #secured(socket: TLSSocket): void {
    const ends = endsOf(socket);
    const arrival = this.#arrivals.get(ends);
    this.#arrivals.delete(ends);
    // Errors of connections are told to their streams.
    socket.on('error', () => undefined);
    const handOn = (): void => {
      // What has come in meanwhile waits in the socket.
      if (arrival !== undefined) this.#admission.done(arrival);
      if (!socket.destroyed) this.#options.serve(socket);
    };
    if (arrival !== undefined && this.#options.isPreferred(arrival.host)) handOn();
    else this.#served.turn().then(handOn, () => socket.destroy());
  }
}
