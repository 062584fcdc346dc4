import { createSocket, type Socket } from 'node:dgram';
import { createServer, type Server, type Socket as Stream } from 'node:net';
import {
  AF_INET,
  closeFd,
  inNetworkNamespace,
  SOCK_DGRAM,
  SOCK_NONBLOCK,
  SOCK_STREAM,
  socketAddress4,
  sockets,
  type Logger,
  type Random,
} from '../../base/index.ts';
import { familyOf } from '../ip.ts';
import { decodeQuery, encodeResponse, RCODE, reverseAddress, TYPE, type Answer, type Question } from './codec.ts';
import type { Forwarder } from './forward.ts';
import { resolveAddress, resolveName, type Zone } from './zone.ts';

export const RESOLVER_ADDRESS = '127.0.0.11';
const DNS_PORT = 53;
/** Addresses move with tasks; clients shall not keep them long. */
const TTL_SECONDS = 5;
const TCP_CLIENTS_MAX = 64;
const TCP_IDLE_MS = 10_000;
const TCP_BYTES_MAX = 65_535;
const TCP_BACKLOG = 64;
const SOL_SOCKET = 1;
const SO_REUSEADDR = 2;

export interface ResolverOptions {
  namespace: string;
  /** Networks the sandbox is on, in the order names are looked for. */
  zones: () => readonly Zone[];
  /** Resolvers to pass other names to (empty: the host's); undefined: none may be asked (internal networks only). */
  upstream: () => readonly string[] | undefined;
  forwarder: Forwarder;
  random: Random;
  log: Logger;
}

/** The resolver of one sandbox, on 127.0.0.11 port 53 of its namespace. */
export interface Resolver {
  close(): void;
}

/** Answers from the sandbox's networks; undefined when none of them knows the name. */
export function answerLocally(question: Question, zones: readonly Zone[], random: Random): Answer[] | undefined {
  if (question.class !== 1) return undefined;
  if (question.type === TYPE.PTR) {
    const address = reverseAddress(question.name);
    const name = address === undefined ? undefined : resolveAddress(zones, address);
    return name === undefined ? undefined : [{ type: 'PTR', name }];
  }
  const addresses = resolveName(zones, question.name);
  if (addresses === undefined) return undefined;
  const answers = shuffle(addresses, random).map((address): Answer => ({ type: recordType(address), address }));
  return answers.filter(({ type }) => question.type === TYPE[type] || question.type === TYPE.ANY);
}

function recordType(address: string): 'A' | 'AAAA' {
  return familyOf(address) === 6 ? 'AAAA' : 'A';
}

function shuffle(list: readonly string[], random: Random): string[] {
  const out = [...list];
  for (let i = out.length - 1; i > 0; i--) {
    const j = random.int(i + 1);
    [out[i], out[j]] = [out[j] as string, out[i] as string];
  }
  return out;
}

async function respond(query: Buffer, transport: 'udp' | 'tcp', options: ResolverOptions): Promise<Buffer | undefined> {
  const question = decodeQuery(query);
  if (question === undefined) return undefined;
  const limitBytes = transport === 'udp' ? question.udpBytes : TCP_BYTES_MAX;
  const local = answerLocally(question, options.zones(), options.random);
  if (local !== undefined) {
    return encodeResponse(query, question, local, { rcode: RCODE.OK, ttlSeconds: TTL_SECONDS, limitBytes });
  }
  const upstream = options.upstream();
  const answer = upstream === undefined ? undefined : await options.forwarder.forward(query, upstream, transport);
  return (
    answer ?? encodeResponse(query, question, [], { rcode: RCODE.SERVER_FAILURE, ttlSeconds: TTL_SECONDS, limitBytes })
  );
}

function openInside(namespace: string): { udp: number; tcp: number } {
  return inNetworkNamespace(namespace, () => {
    const address = socketAddress4(RESOLVER_ADDRESS, DNS_PORT);
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
  });
}

/** Opens the resolver's sockets inside the namespace (its `lo` must be up). @throws SystemCallError */
export function startResolver(options: ResolverOptions): Resolver {
  const fds = openInside(options.namespace);
  const udp = serveUdp(fds.udp, options);
  const tcp = serveTcp(fds.tcp, options);
  return {
    close: () => {
      udp.close();
      tcp.close();
    },
  };
}

function serveUdp(fd: number, options: ResolverOptions): { close(): void } {
  const socket: Socket = createSocket('udp4');
  let open = true;
  socket.on('error', (error) => options.log.warn('resolver socket failed', { namespace: options.namespace, error }));
  socket.on('message', (query, from) => {
    void respond(query, 'udp', options)
      .then((answer) => {
        // The client may be gone by now, which is no business of ours.
        if (answer !== undefined && open) socket.send(answer, from.port, from.address, () => undefined);
      })
      .catch((error: unknown) => options.log.warn('cannot answer a name query', { error }));
  });
  socket.bind({ fd });
  return {
    close: () => {
      open = false;
      socket.close();
    },
  };
}

function serveTcp(fd: number, options: ResolverOptions): { close(): void } {
  const clients = new Set<Stream>();
  const server: Server = createServer((client) => {
    clients.add(client);
    client.setTimeout(TCP_IDLE_MS, () => client.destroy());
    client.on('close', () => clients.delete(client));
    client.on('error', () => client.destroy());
    readQueries(client, options);
  });
  server.maxConnections = TCP_CLIENTS_MAX;
  server.on('error', (error) => options.log.warn('resolver socket failed', { namespace: options.namespace, error }));
  server.listen({ fd });
  return {
    close: () => {
      server.close();
      for (const client of clients) client.destroy();
    },
  };
}

function readQueries(client: Stream, options: ResolverOptions): void {
  let received: Buffer = Buffer.alloc(0);
  client.on('data', (data) => {
    received = Buffer.concat([received, data]);
    while (received.length >= 2 && received.length >= 2 + received.readUInt16BE(0)) {
      const end = 2 + received.readUInt16BE(0);
      const query = received.subarray(2, end);
      received = received.subarray(end);
      void respond(query, 'tcp', options)
        .then((answer) => {
          if (answer === undefined) return client.destroy();
          const length = Buffer.alloc(2);
          length.writeUInt16BE(answer.length, 0);
          return client.write(Buffer.concat([length, answer]));
        })
        .catch((error: unknown) => options.log.warn('cannot answer a name query', { error }));
    }
  });
}
