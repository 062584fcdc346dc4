import {
  AF_INET,
  closeFd,
  inNetworkNamespace,
  SOCK_DGRAM,
  SOCK_STREAM,
  socketAddress4,
  sockets,
} from '../../base/index.ts';
import { RESOLVER_ADDRESS } from '../dns/server.ts';

const DNS_PORT = 53;

/**
 * Whether someone listens where a sandbox's resolver must, by UDP and TCP. The kernel answers within the calls: over
 * loopback a datagram to a port without a socket is refused before send(2) returns, and so is a connection. The
 * datagram is no DNS message, so the resolver passes it over.
 */
export function resolverListens(namespace: string): boolean {
  return inNetworkNamespace(namespace, () => refuses(SOCK_DGRAM) === undefined && refuses(SOCK_STREAM) === undefined);
}

function refuses(type: number): unknown {
  const fd = sockets.open(AF_INET, type);
  try {
    sockets.connect(fd, socketAddress4(RESOLVER_ADDRESS, DNS_PORT));
    if (type !== SOCK_DGRAM) return undefined;
    sockets.send(fd, Uint8Array.of(0));
    // The refusal, when there is one, waits at the socket.
    sockets.tryReceive(fd, Buffer.alloc(1));
    return undefined;
  } catch (error) {
    return error;
  } finally {
    closeFd(fd);
  }
}
