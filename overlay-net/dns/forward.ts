import { createSocket } from 'node:dgram';
import { connect, isIPv6 } from 'node:net';
import { readFileIfExists, type Clock, type Random } from '../../base/index.ts';

/** Time given to one resolver, ms. */
const TRY_MS = 2000;
/** Resolvers asked for one question at the most. */
const TRIES_MAX = 2;
/** Questions that may wait for resolvers at once; more are failed at once. */
const OUTSTANDING_MAX = 1024;
const TCP_ANSWER_BYTES_MAX = 65_535 + 2;
const DNS_PORT = 53;

/** Resolvers named by a resolv.conf, in order. */
export function parseResolvConf(text: string): string[] {
  const found: string[] = [];
  for (const line of text.split('\n')) {
    const match = /^\s*nameserver\s+(\S+)/.exec(line);
    if (match?.[1] !== undefined && match[1] !== '127.0.0.11') found.push(match[1]);
  }
  return found;
}

export interface Forwarder {
  /** Passes a query on, bytes unparsed; undefined when no resolver answered. */
  forward(query: Uint8Array, servers: readonly string[], transport: 'udp' | 'tcp'): Promise<Buffer | undefined>;
}

/** Asks other resolvers from the host's own namespace. `address#port` names a port other than 53. */
export function createForwarder(clock: Clock, random: Random): Forwarder {
  let outstanding = 0;
  return {
    async forward(query, servers, transport) {
      const asked = servers.length === 0 ? parseResolvConf(readFileIfExists('/etc/resolv.conf') ?? '') : servers;
      if (asked.length === 0 || outstanding >= OUTSTANDING_MAX) return undefined;
      outstanding++;
      try {
        for (let attempt = 0; attempt < TRIES_MAX; attempt++) {
          const server = asked[attempt % asked.length] as string;
          const answer = await (transport === 'udp' ? askUdp : askTcp)(query, server, clock, random);
          if (answer !== undefined) return answer;
        }
        return undefined;
      } finally {
        outstanding--;
      }
    },
  };
}

function split(server: string): { host: string; port: number } {
  const [host = '', port] = server.split('#');
  return { host, port: port === undefined ? DNS_PORT : Number(port) };
}

/** Whether `answer` repeats the question of `query` under the given id. */
function answers(query: Uint8Array, answer: Buffer, id: number): boolean {
  return answer.length >= 12 && answer.readUInt16BE(0) === id && ((answer[2] ?? 0) & 0x80) !== 0 && query.length >= 12;
}

function askUdp(query: Uint8Array, server: string, clock: Clock, random: Random): Promise<Buffer | undefined> {
  const { host, port } = split(server);
  const sent = Buffer.from(query);
  const id = random.int(65_536);
  sent.writeUInt16BE(id, 0);
  // A socket of its own for each question: a fresh port is what makes answers hard to forge.
  const socket = createSocket(isIPv6(host) ? 'udp6' : 'udp4');
  return new Promise((resolve) => {
    const finish = (answer: Buffer | undefined): void => {
      timer.cancel();
      socket.removeAllListeners();
      socket.on('error', () => undefined);
      socket.close();
      resolve(answer);
    };
    const timer = clock.after(TRY_MS, () => finish(undefined));
    socket.on('error', () => finish(undefined));
    socket.on('message', (answer, from) => {
      if (from.port !== port || !answers(query, answer, id)) return;
      const out = Buffer.from(answer);
      out.set(query.subarray(0, 2), 0);
      finish(out);
    });
    // Without a route the callback is given the error; a send on such a socket would throw beyond all handlers.
    const connected = (failure?: Error): void => {
      if (failure) return finish(undefined);
      socket.send(sent, (error) => {
        if (error) finish(undefined);
      });
    };
    socket.connect(port, host, connected as () => void);
  });
}

function askTcp(query: Uint8Array, server: string, clock: Clock): Promise<Buffer | undefined> {
  const { host, port } = split(server);
  return new Promise((resolve) => {
    const socket = connect(port, host);
    let received: Buffer = Buffer.alloc(0);
    const finish = (answer: Buffer | undefined): void => {
      timer.cancel();
      socket.destroy();
      resolve(answer);
    };
    const timer = clock.after(TRY_MS, () => finish(undefined));
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
