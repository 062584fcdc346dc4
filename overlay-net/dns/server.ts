/** The resolver of one sandbox: its sockets, and what goes to others. Runs on the resolvers' thread. */
import { createSocket, type Socket } from 'node:dgram';
import { createServer, type Server, type Socket as Stream } from 'node:net';
import {
  AF_INET,
  closeFd,
  errorMessage,
  inNetworkNamespace,
  ShoalError,
  SOCK_DGRAM,
  SOCK_NONBLOCK,
  SOCK_STREAM,
  socketAddress4,
  sockets,
  type DatagramBatch,
  type Logger,
  type Random,
} from '../../base/index.ts';
import { FORWARD, SILENCE, TCP_BYTES_MAX, type NameView } from './answer.ts';
import { cutResponse, decodeQuery, prepareResponse, RCODE, TYPE, writeResponse, type Question } from './codec.ts';
import type { Forwarder, Upstream } from './forward.ts';

export const RESOLVER_ADDRESS = '127.0.0.11';
const TCP_CLIENTS_MAX = 64;
/** Queries of one connection that may wait for an answer; more are read when some are done. */
const TCP_QUERIES_MAX = 16;
const TCP_IDLE_MS = 10_000;
const TCP_BACKLOG = 64;
/** Batches read from one socket before others get their turn. */
const ROUNDS_MAX = 4;
/** Ports tried before a namespace is said to have none. */
const PORT_TRIES_MAX = 16;
/** Ports that no program asks for by itself: above the usual services, below what connections are given. */
const PORT_FIRST = 20_000;
const PORT_COUNT = 12_000;
const SOL_SOCKET = 1;
const SO_REUSEADDR = 2;
const SO_ACCEPTCONN = 30;

export interface ResolverOptions {
  id: string;
  namespace: string;
  view: NameView;
  upstream: Upstream;
  /** Names without dots are not forwarded. */
  keepsDotless: boolean;
  forwarder: Forwarder;
  /** Shared by all resolvers: room for messages in and out. */
  incoming: DatagramBatch;
  outgoing: DatagramBatch;
  log: Logger;
  /** Told once when a socket has failed (a container may end its own by `ss -K`): the resolver has closed itself by then. */
  onBroken: () => void;
}

/** What may change while the sockets stay. */
export type ResolverFacts = Pick<ResolverOptions, 'view' | 'upstream' | 'keepsDotless'>;

/** The resolver of one sandbox, on a port of 127.0.0.11 in its namespace. */
export class Resolver {
  readonly #o: ResolverOptions;
  readonly #fd: number;
  readonly #tcpFd: number;
  readonly #udp: Socket;
  readonly #tcp: Server;
  readonly #clients = new Set<Stream>();
  #facts: ResolverFacts;
  #open = true;
  readonly port: number;

  /** Opens the sockets inside the namespace (its `lo` must be up). @param port tried first. @throws SystemCallError */
  constructor(options: ResolverOptions, port: number, random: Random) {
    this.#o = options;
    this.#facts = options;
    const opened = openInside(options.namespace, port, random);
    this.port = opened.port;
    this.#fd = opened.udp;
    this.#tcpFd = opened.tcp;
    this.#udp = this.#serveUdp();
    this.#tcp = this.#serveTcp(opened.tcp);
  }

  get view(): NameView {
    return this.#facts.view;
  }

  update(facts: ResolverFacts): void {
    this.#facts = facts;
  }

  /** Looks whether the TCP socket still listens: when that is ended from outside (`ss -K`), nobody is told. */
  check(): void {
    if (!this.#open) return;
    if (sockets.numberOption(this.#tcpFd, SOL_SOCKET, SO_ACCEPTCONN) === 0) {
      this.#onError(new ShoalError('Unavailable', 'it does not listen any more'));
    }
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#udp.close();
    this.#tcp.close();
    for (const client of this.#clients) client.destroy();
  }

  /** A failed socket stays so, and would tell of it again and again. */
  #onError(error: Error): void {
    if (!this.#open) return;
    const { namespace, log, onBroken } = this.#o;
    log.warn('resolver socket failed', { namespace, error: errorMessage(error) });
    this.close();
    onBroken();
  }

  #serveUdp(): Socket {
    const socket = createSocket('udp4');
    socket.on('error', (error) => this.#onError(error));
    // Node tells of the first message; what waits behind it is read many at a time.
    socket.on('message', (query, from) => {
      const to = socketAddress4(from.address, from.port);
      const length = this.#answer(query, to, 0);
      this.#send(length > 0 ? 1 : 0);
      for (let round = 0; round < ROUNDS_MAX && this.#open; round++) {
        if (this.#drain() < this.#o.incoming.count) break;
      }
    });
    socket.bind({ fd: this.#fd });
    return socket;
  }

  #drain(): number {
    const { incoming } = this.#o;
    const received = incoming.receive(this.#fd);
    let ready = 0;
    for (let i = 0; i < received; i++) {
      if (this.#answer(incoming.message(i), incoming.address(i), ready) > 0) ready++;
    }
    this.#send(ready);
    return received;
  }

  /** Puts the answer into slot `slot` of those that go out; what must be forwarded is answered later. */
  #answer(query: Buffer, to: Uint8Array, slot: number): number {
    const { outgoing } = this.#o;
    const length = this.#facts.view.answer(query, 'udp', outgoing.room(slot));
    if (length > 0) {
      outgoing.address(slot).set(to);
      outgoing.fill(slot, length);
    } else if (length === FORWARD) {
      void this.#pass(Buffer.from(query), Buffer.from(to));
    }
    return length;
  }

  /** What the socket does not take (its buffer is full) is lost as datagrams are; the client asks again. */
  #send(count: number): void {
    if (count > 0 && this.#open) this.#o.outgoing.send(this.#fd, count);
  }

  async #pass(query: Buffer, to: Uint8Array): Promise<void> {
    const answer = await this.#forward(query, 'udp');
    if (answer === undefined || !this.#open) return;
    const { outgoing } = this.#o;
    outgoing.address(0).set(to);
    outgoing.fill(0, answer.copy(outgoing.room(0)));
    this.#send(1);
  }

  /** Asks others; never rejects. */
  async #forward(query: Buffer, transport: 'udp' | 'tcp'): Promise<Buffer | undefined> {
    const question = decodeQuery(query);
    if (question === undefined) return undefined;
    const limitBytes = transport === 'udp' ? question.udpBytes : TCP_BYTES_MAX;
    if (this.#facts.keepsDotless && isDotless(question)) return failure(query, question, RCODE.OK);
    try {
      const answer = await this.#o.forwarder.forward(this.#o.id, query, this.#facts.upstream, transport);
      return answer === undefined
        ? failure(query, question, RCODE.SERVER_FAILURE)
        : cutResponse(answer, question, limitBytes);
    } catch (error) {
      this.#o.log.warn('cannot forward a name query', { namespace: this.#o.namespace, error: errorMessage(error) });
      return failure(query, question, RCODE.SERVER_FAILURE);
    }
  }

  #serveTcp(fd: number): Server {
    const server = createServer((client) => {
      this.#clients.add(client);
      client.setTimeout(TCP_IDLE_MS, () => client.destroy());
      client.on('close', () => this.#clients.delete(client));
      client.on('error', () => client.destroy());
      this.#readQueries(client);
    });
    server.maxConnections = TCP_CLIENTS_MAX;
    server.on('error', (error) => this.#onError(error));
    server.listen({ fd });
    return server;
  }

  #readQueries(client: Stream): void {
    let received: Buffer = Buffer.alloc(0);
    let waiting = 0;
    const work = (): void => {
      while (waiting < TCP_QUERIES_MAX && received.length >= 2 && received.length >= 2 + received.readUInt16BE(0)) {
        const end = 2 + received.readUInt16BE(0);
        const query = Buffer.from(received.subarray(2, end));
        received = received.subarray(end);
        waiting++;
        void this.#answerStream(query, client).finally(() => {
          waiting--;
          if (waiting === TCP_QUERIES_MAX - 1) work();
        });
      }
      if (waiting < TCP_QUERIES_MAX) client.resume();
      else client.pause();
    };
    client.on('data', (data) => {
      received = Buffer.concat([received, data]);
      work();
    });
  }

  async #answerStream(query: Buffer, client: Stream): Promise<void> {
    const room = Buffer.allocUnsafe(2 + TCP_BYTES_MAX);
    let length = this.#facts.view.answer(query, 'tcp', room.subarray(2));
    if (length === FORWARD) length = (await this.#forward(query, 'tcp'))?.copy(room, 2) ?? SILENCE;
    if (length === SILENCE) {
      client.destroy();
      return;
    }
    room.writeUInt16BE(length, 0);
    if (!client.destroyed) client.write(room.subarray(0, 2 + length));
  }
}

function isDotless(question: Question): boolean {
  return (question.type === TYPE.A || question.type === TYPE.AAAA) && !question.name.includes('.');
}

function failure(query: Buffer, question: Question, rcode: number): Buffer {
  const prepared = prepareResponse(query, question, { rcode, answers: [], ttlSeconds: 0 }, TCP_BYTES_MAX);
  const out = Buffer.alloc(prepared.head.length + prepared.opt.length);
  writeResponse(prepared, question.id, 0, out);
  return out;
}

/** A UDP and a TCP socket on the same port. @throws SystemCallError */
function openInside(namespace: string, wanted: number, random: Random): { udp: number; tcp: number; port: number } {
  return inNetworkNamespace(namespace, () => {
    let port = wanted === 0 ? PORT_FIRST + random.int(PORT_COUNT) : wanted;
    for (let tries = 1; ; tries++) {
      try {
        return { ...openPair(port), port };
      } catch (error) {
        if (tries >= PORT_TRIES_MAX) throw error;
        port = PORT_FIRST + random.int(PORT_COUNT);
      }
    }
  });
}

function openPair(port: number): { udp: number; tcp: number } {
  const address = socketAddress4(RESOLVER_ADDRESS, port);
  const udp = sockets.open(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK);
  let tcp: number | undefined;
  try {
    sockets.bind(udp, address);
    tcp = sockets.open(AF_INET, SOCK_STREAM | SOCK_NONBLOCK);
    sockets.setOption(tcp, SOL_SOCKET, SO_REUSEADDR, Uint8Array.of(1, 0, 0, 0));
    sockets.bind(tcp, address);
    sockets.listen(tcp, TCP_BACKLOG);
    return { udp, tcp };
  } catch (error) {
    closeFd(udp);
    if (tcp !== undefined) closeFd(tcp);
    throw error;
  }
}
