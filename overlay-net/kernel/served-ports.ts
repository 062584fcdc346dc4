/** Sockets that are served, through sock_diag (sock_diag(7), linux/inet_diag.h). */
import { AF_INET, AF_INET6 } from '../../base/index.ts';
import { RouteSocket } from './netlink.ts';

const NETLINK_SOCK_DIAG = 4;
const SOCK_DIAG_BY_FAMILY = 20;
/** Number of the protocol, and the states asked for as bits: LISTEN of TCP, and of UDP connected to nobody (CLOSE). */
const KINDS = { tcp: { number: 6, states: 1 << 10 }, udp: { number: 17, states: 1 << 7 } } as const;
/** struct inet_diag_sockid: all zero, for every socket. */
const ANY_SOCKET = Buffer.alloc(48);
/** Of the source port in struct inet_diag_msg; in network order. */
const PORT_AT = 4;

export type ServedProtocol = keyof typeof KINDS;

/**
 * Ports that the sockets of a network namespace serve, `80/tcp`, on any address of either family. The kernel looks at
 * listening sockets alone: some ten microseconds, where /proc/net/tcp walks over its whole table of connections (3 ms).
 * @throws NetlinkError where the kernel cannot tell (its modules tcp_diag and udp_diag are missing)
 */
export function servedPorts(namespace: string, protocols: readonly ServedProtocol[]): Set<string> {
  const served = new Set<string>();
  const socket = new RouteSocket(namespace, NETLINK_SOCK_DIAG);
  try {
    for (const protocol of protocols) {
      const { number, states } = KINDS[protocol];
      for (const family of [AF_INET, AF_INET6]) {
        socket.dump(
          SOCK_DIAG_BY_FAMILY,
          (m) => m.u8(family).u8(number).u8(0).u8(0).u32(states).raw(ANY_SOCKET),
          (body) => served.add(`${body.readUInt16BE(PORT_AT)}/${protocol}`),
        );
      }
    }
  } finally {
    socket.close();
  }
  return served;
}
