/** A question to the resolver of one container, asked from inside its namespace. */
import { createSocket } from 'node:dgram';
import { AF_INET, inNetworkNamespace, SOCK_DGRAM, SOCK_NONBLOCK, socketAddress4, sockets } from '../../base/index.ts';
import type { Clock, Random } from '../../base/index.ts';
import { RESOLVER_ADDRESS } from '../dns/server.ts';

const DNS_PORT = 53;
const TYPE_A = 1;
const CLASS_IN = 1;
const RECURSION_DESIRED = 0x0100;

export type ResolverAnswer =
  { kind: 'addresses'; addresses: string[] } | { kind: 'code'; rcode: number } | { kind: 'silent'; words: string };

function encodeQuestion(id: number, name: string): Buffer {
  const head = Buffer.alloc(12);
  head.writeUInt16BE(id, 0);
  head.writeUInt16BE(RECURSION_DESIRED, 2);
  head.writeUInt16BE(1, 4);
  const labels = name.split('.').map((label) => {
    const bytes = Buffer.from(label, 'latin1');
    return Buffer.concat([Uint8Array.of(bytes.length), bytes]);
  });
  return Buffer.concat([head, ...labels, Uint8Array.of(0, 0, TYPE_A, 0, CLASS_IN)]);
}

/** Where the name that begins at `at` ends. */
function skipName(message: Buffer, at: number): number {
  for (let i = at; i < message.length;) {
    const length = message[i] ?? 0;
    if (length === 0) return i + 1;
    if (length >= 0xc0) return i + 2;
    i += length + 1;
  }
  return message.length;
}

/** The IPv4 addresses of a response; undefined when it is none to the question. */
export function decodeAddresses(message: Buffer, id: number): ResolverAnswer | undefined {
  if (message.length < 12 || message.readUInt16BE(0) !== id || (message.readUInt16BE(2) & 0x8000) === 0) {
    return undefined;
  }
  const rcode = message.readUInt16BE(2) & 15;
  if (rcode !== 0) return { kind: 'code', rcode };
  let at = skipName(message, 12) + 4;
  const addresses: string[] = [];
  for (let left = message.readUInt16BE(6); left > 0; left--) {
    at = skipName(message, at);
    if (at + 10 > message.length) break;
    const length = message.readUInt16BE(at + 8);
    const data = message.subarray(at + 10, at + 10 + length);
    if (message.readUInt16BE(at) === TYPE_A && data.length === 4) addresses.push(data.join('.'));
    at += 10 + length;
  }
  return { kind: 'addresses', addresses };
}

/** Asks for a name's IPv4 addresses. @throws SystemCallError when the namespace is gone */
export async function askResolver(
  namespace: string,
  name: string,
  options: { clock: Clock; random: Random; timeoutMs: number },
): Promise<ResolverAnswer> {
  const fd = inNetworkNamespace(namespace, () => {
    const own = sockets.open(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK);
    sockets.bind(own, socketAddress4('127.0.0.1', 0));
    return own;
  });
  const socket = createSocket('udp4');
  const id = options.random.int(0x10000);
  return await new Promise<ResolverAnswer>((resolve) => {
    let open = true;
    const finish = (answer: ResolverAnswer): void => {
      if (!open) return;
      open = false;
      timer.cancel();
      socket.close();
      resolve(answer);
    };
    const words = `no answer within ${options.timeoutMs} ms`;
    const timer = options.clock.after(options.timeoutMs, () => finish({ kind: 'silent', words }));
    socket.on('error', (error) => finish({ kind: 'silent', words: error.message }));
    socket.on('message', (message) => {
      const answer = decodeAddresses(message, id);
      if (answer !== undefined) finish(answer);
    });
    socket.bind({ fd }, () => {
      socket.connect(DNS_PORT, RESOLVER_ADDRESS, () => socket.send(encodeQuestion(id, name)));
    });
  });
}
