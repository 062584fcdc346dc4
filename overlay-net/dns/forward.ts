import { createSocket, type Socket } from 'node:dgram';
import { connect, isIPv6, Socket as Stream } from 'node:net';
import {
  AF_INET,
  AF_INET6,
  closeFd,
  inNetworkNamespace,
  readFileIfExists,
  SOCK_DGRAM,
  SOCK_NONBLOCK,
  SOCK_STREAM,
  socketAddress4,
  sockets,
  SystemCallError,
  type Clock,
  type Random,
} from '../../base/index.ts';
import { bytesOfIp6 } from '../ip6.ts';
import { isTruncated, RCODE, rcodeOf } from './codec.ts';

/** Time given to one resolver, ms. */
const TRY_MS = 2000;
/** Resolvers asked for one question at the most; a single one is asked twice. */
const SERVERS_MAX = 3;
const TRIES_MIN = 2;
/** Questions that may wait for resolvers at once, of all sandboxes and of one; more are failed at once. */
const OUTSTANDING_MAX = 1024;
const OUTSTANDING_PER_SANDBOX_MAX = 256;
/** The host's resolv.conf is read again after this time, ms. */
const HOST_FILE_MS = 1000;
const TCP_ANSWER_BYTES_MAX = 65_535 + 2;
const DNS_PORT = 53;
const EINPROGRESS = 115;

/** Resolvers named by a resolv.conf, in order. */
export function parseResolvConf(text: string): string[] {
  const found: string[] = [];
  for (const line of text.split('\n')) {
    const match = /^\s*nameserver\s+(\S+)/.exec(line);
    if (match?.[1] !== undefined && match[1] !== '127.0.0.11') found.push(match[1]);
  }
  return found;
}

/** Who is asked what a sandbox's networks do not know. */
export interface Upstream {
  /** Resolvers that the user gave; empty means the host's. `address#port` names a port other than 53. */
  servers: readonly string[];
  /** The sandbox's namespace, from which given resolvers are asked (they may be containers of its networks). */
  namespace: string;
  /** Whether the host's resolvers may be asked: not by a container with no way out. */
  hostServers: boolean;
}

export interface Forwarder {
  /** Passes a query on, bytes unparsed; undefined when no resolver answered. `asker` is whom questions are counted for. */
  forward(asker: string, query: Uint8Array, upstream: Upstream, transport: 'udp' | 'tcp'): Promise<Buffer | undefined>;
}

interface Attempt {
  server: string;
  namespace: string | undefined;
  clock: Clock;
  random: Random;
}

export interface ForwarderOptions {
  clock: Clock;
  random: Random;
  /** Text of the host's resolv.conf; default: the file. */
  hostFile?: () => string;
}

/** Asks other resolvers: given ones from the sandbox's namespace, the host's from the host's. */
export function createForwarder(options: ForwarderOptions): Forwarder {
  const { clock, random } = options;
  const outstanding = new Map<string, number>();
  let total = 0;
  const hostServers = hostResolvers(clock, options.hostFile);
  const count = (asker: string, by: 1 | -1): void => {
    const next = (outstanding.get(asker) ?? 0) + by;
    total += by;
    if (next === 0) outstanding.delete(asker);
    else outstanding.set(asker, next);
  };
  return {
    async forward(asker, query, upstream, transport) {
      const attempts = planAttempts(upstream, hostServers);
      const busy = total >= OUTSTANDING_MAX || (outstanding.get(asker) ?? 0) >= OUTSTANDING_PER_SANDBOX_MAX;
      if (attempts.length === 0 || busy) return undefined;
      count(asker, 1);
      try {
        let refused: Buffer | undefined;
        for (const attempt of attempts) {
          // A namespace that ends meanwhile, or an address that is none, is a resolver that does not answer.
          const answer = await askOne(query, { ...attempt, clock, random }, transport).catch(() => undefined);
          if (answer === undefined) continue;
          if (rcodeOf(answer) !== RCODE.SERVER_FAILURE && rcodeOf(answer) !== RCODE.REFUSED) return answer;
          refused = answer;
        }
        return refused;
      } finally {
        count(asker, -1);
      }
    },
  };
}

function hostResolvers(clock: Clock, read = () => readFileIfExists('/etc/resolv.conf') ?? ''): () => string[] {
  let servers: string[] = [];
  let readMs = -Infinity;
  return () => {
    const now = clock.monotonic();
    if (now - readMs >= HOST_FILE_MS) {
      servers = parseResolvConf(read());
      readMs = now;
    }
    return servers;
  };
}

function planAttempts(
  upstream: Upstream,
  hostServers: () => string[],
): { server: string; namespace: string | undefined }[] {
  const given = upstream.servers.length > 0;
  if (!given && !upstream.hostServers) return [];
  const servers = (given ? upstream.servers : hostServers()).slice(0, SERVERS_MAX);
  const all = servers.length === 1 ? Array.from({ length: TRIES_MIN }, () => servers[0] as string) : servers;
  return all.map((server) => {
    // A loopback address is the host's: nothing of the container can be meant.
    const own = given && !/^(?:127\.|::1$|::1#)/.test(server);
    return { server, namespace: own ? upstream.namespace : undefined };
  });
}

/** Asks one resolver; by UDP first unless the client came by TCP, and by TCP when the answer did not fit. */
async function askOne(query: Uint8Array, attempt: Attempt, transport: 'udp' | 'tcp'): Promise<Buffer | undefined> {
  if (transport === 'tcp') return askTcp(query, attempt);
  const answer = await askUdp(query, attempt);
  if (answer === undefined || !isTruncated(answer)) return answer;
  return (await askTcp(query, attempt)) ?? answer;
}

function split(server: string): { host: string; port: number } {
  const [host = '', port] = server.split('#');
  return { host, port: port === undefined ? DNS_PORT : Number(port) };
}

/** Whether `answer` repeats the question of `query` under the given id. */
function answers(query: Uint8Array, answer: Buffer, id: number): boolean {
  if (answer.length < 12 || answer.readUInt16BE(0) !== id || ((answer[2] as number) & 0x80) === 0) return false;
  let end = 12;
  while (end < query.length && query[end] !== 0) end += (query[end] as number) + 1;
  end += 5;
  // A server that could not read the question may leave it out.
  if (answer.readUInt16BE(4) === 0) return true;
  const question = (message: Uint8Array): string => Buffer.from(message.subarray(12, end)).toString('latin1');
  return question(answer).toLowerCase() === question(query).toLowerCase();
}

/** A socket of its own for each question: a fresh port is what makes answers hard to forge. */
function udpSocket(host: string, namespace: string | undefined): Socket {
  const type = isIPv6(host) ? 'udp6' : 'udp4';
  if (namespace === undefined) return createSocket(type);
  const family = isIPv6(host) ? AF_INET6 : AF_INET;
  const fd = inNetworkNamespace(namespace, () => sockets.open(family, SOCK_DGRAM | SOCK_NONBLOCK));
  return createSocket(type).bind({ fd });
}

function askUdp(query: Uint8Array, attempt: Attempt): Promise<Buffer | undefined> {
  const { host, port } = split(attempt.server);
  const sent = Buffer.from(query);
  const id = attempt.random.int(65_536);
  sent.writeUInt16BE(id, 0);
  return new Promise((resolve) => {
    const socket = udpSocket(host, attempt.namespace);
    const finish = (answer: Buffer | undefined): void => {
      timer.cancel();
      socket.removeAllListeners();
      socket.on('error', () => undefined);
      socket.close();
      resolve(answer);
    };
    const timer = attempt.clock.after(TRY_MS, () => finish(undefined));
    socket.on('error', () => finish(undefined));
    socket.on('message', (answer, from) => {
      if (from.port !== port || !answers(query, answer, id)) return;
      const out = Buffer.from(answer);
      out.set(query.subarray(0, 2), 0);
      finish(out);
    });
    // Node's types leave out that the callback hears of a failure (no route, for instance) and nobody else does.
    const onConnect = (error?: Error): void => {
      if (error !== undefined) return finish(undefined);
      socket.send(sent, (unsent) => {
        if (unsent) finish(undefined);
      });
    };
    socket.connect(port, host, onConnect);
  });
}

/** A sockaddr_in or sockaddr_in6. */
function socketAddress(host: string, port: number): Uint8Array {
  if (!isIPv6(host)) return socketAddress4(host, port);
  const bytes = Buffer.alloc(28);
  bytes.writeUInt16LE(AF_INET6, 0);
  bytes.writeUInt16BE(port, 2);
  bytes.set(bytesOfIp6(host), 8);
  return bytes;
}

/** A connection that is being made. @throws SystemCallError */
function tcpSocket(host: string, port: number, namespace: string | undefined): Stream {
  if (namespace === undefined) return connect(port, host);
  const fd = inNetworkNamespace(namespace, () => {
    const family = isIPv6(host) ? AF_INET6 : AF_INET;
    const made = sockets.open(family, SOCK_STREAM | SOCK_NONBLOCK);
    try {
      sockets.connect(made, socketAddress(host, port));
    } catch (error) {
      if (!(error instanceof SystemCallError && error.errno === EINPROGRESS)) {
        closeFd(made);
        throw error;
      }
    }
    return made;
  });
  return new Stream({ fd });
}

function askTcp(query: Uint8Array, attempt: Attempt): Promise<Buffer | undefined> {
  const { host, port } = split(attempt.server);
  return new Promise((resolve) => {
    const socket = tcpSocket(host, port, attempt.namespace);
    let received: Buffer = Buffer.alloc(0);
    const finish = (answer: Buffer | undefined): void => {
      timer.cancel();
      socket.destroy();
      resolve(answer);
    };
    const timer = attempt.clock.after(TRY_MS, () => finish(undefined));
    socket.on('error', () => finish(undefined));
    socket.on('end', () => finish(undefined));
    socket.on('data', (data) => {
      received = Buffer.concat([received, data]);
      if (received.length > TCP_ANSWER_BYTES_MAX) finish(undefined);
      else if (received.length >= 2 && received.length >= 2 + received.readUInt16BE(0)) {
        finish(received.subarray(2, 2 + received.readUInt16BE(0)));
      }
    });
    const length = Buffer.alloc(2);
    length.writeUInt16BE(query.length, 0);
    socket.write(Buffer.concat([length, query]));
  });
}
