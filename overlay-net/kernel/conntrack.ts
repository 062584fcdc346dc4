/** Connection tracking through ctnetlink (linux/netfilter/nfnetlink_conntrack.h). Numbers are in network order. */
import { AF_INET, AF_INET6 } from '../../base/index.ts';
import { formatIp, parseIp } from '../ip4.ts';
import { parseAttributes, type MessageBuilder } from './netlink-message.ts';
import { ERRNO, RouteSocket } from './netlink.ts';

const NETLINK_NETFILTER = 12;
const GET = 0x101;
const DELETE = 0x102;
const CTA = { TUPLE_ORIG: 1, TUPLE_REPLY: 2, STATUS: 3, ID: 12, ZONE: 18, FILTER: 25 } as const;
const TUPLE = { IP: 1, PROTO: 2 } as const;
const IP = { V4_SRC: 1, V6_SRC: 3 } as const;
const FILTER_REPLY_FLAGS = 2;
/** Of CTA_FILTER: compare the source address and the protocol's number. */
const FILTER_SOURCE_AND_PROTOCOL = 0b1001;
const NLA_F_NESTED = 0x8000;
const IPS_DST_NAT = 1 << 5;
const IPPROTO_UDP = 17;

interface Flow {
  /** Where the flow's packets are sent in truth: the source of its replies. */
  target: string;
  /** What names the entry to the kernel: attributes as read. */
  key: [number, Buffer][];
}

function formatAddress(data: Buffer): string {
  if (data.length === 4) return formatIp(data.readUInt32BE(0));
  return Array.from({ length: 8 }, (_, i) => data.readUInt16BE(i * 2).toString(16)).join(':');
}

/** The same text for every way to write an address. */
function plain(address: string): string {
  return formatAddress(Buffer.from(addressBytes(address)));
}

function addressBytes(address: string): Uint8Array {
  const bytes = Buffer.alloc(address.includes(':') ? 16 : 4);
  if (bytes.length === 4) {
    bytes.writeUInt32BE(parseIp(address));
    return bytes;
  }
  const [head = '', tail] = address.split('::');
  const words = (text: string): number[] => (text === '' ? [] : text.split(':').map((word) => parseInt(word, 16)));
  words(head).forEach((word, i) => bytes.writeUInt16BE(word, i * 2));
  const last = tail === undefined ? [] : words(tail);
  last.forEach((word, i) => bytes.writeUInt16BE(word, 16 - (last.length - i) * 2));
  return bytes;
}

/** struct nfgenmsg. */
function header(m: MessageBuilder, family: number): MessageBuilder {
  return m.u8(family).u8(0).u16(0);
}

function toFlow(body: Buffer): Flow | undefined {
  const attributes = parseAttributes(body.subarray(4));
  const status = attributes.get(CTA.STATUS)?.readUInt32BE(0) ?? 0;
  const reply = parseAttributes(attributes.get(CTA.TUPLE_REPLY) ?? Buffer.alloc(0));
  const source = parseAttributes(reply.get(TUPLE.IP) ?? Buffer.alloc(0));
  const protocol = parseAttributes(reply.get(TUPLE.PROTO) ?? Buffer.alloc(0)).get(1)?.[0];
  const address = source.get(IP.V4_SRC) ?? source.get(IP.V6_SRC);
  if ((status & IPS_DST_NAT) === 0 || protocol !== IPPROTO_UDP || address === undefined) return undefined;
  const key: [number, Buffer][] = [];
  for (const [type, flag] of [
    [CTA.TUPLE_ORIG, NLA_F_NESTED],
    [CTA.ID, 0],
    [CTA.ZONE, 0],
  ] as const) {
    const data = attributes.get(type);
    if (data !== undefined) key.push([type | flag, Buffer.from(data)]);
  }
  return { target: formatAddress(address), key };
}

/** Translated UDP flows; with `target`, the kernel itself picks those that are sent there (Linux 5.8; older: all). */
function translatedFlows(socket: RouteSocket, family: number, target?: string): Flow[] {
  const flows: Flow[] = [];
  const build = (m: MessageBuilder): void => {
    header(m, family);
    if (target === undefined) return;
    const six = family === AF_INET6;
    m.nested(CTA.TUPLE_REPLY | NLA_F_NESTED, () => {
      m.nested(TUPLE.IP | NLA_F_NESTED, () => m.attribute(six ? IP.V6_SRC : IP.V4_SRC, addressBytes(target)));
      m.nested(TUPLE.PROTO | NLA_F_NESTED, () => m.attributeU8(1, IPPROTO_UDP));
    });
    m.nested(CTA.FILTER | NLA_F_NESTED, () => m.attributeU32(FILTER_REPLY_FLAGS, FILTER_SOURCE_AND_PROTOCOL));
  };
  socket.dump(GET, build, (body) => {
    const flow = toFlow(body);
    if (flow !== undefined) flows.push(flow);
  });
  return flows;
}

function withSocket<T>(namespace: string | null, use: (socket: RouteSocket) => T): T {
  const socket = new RouteSocket(namespace, NETLINK_NETFILTER);
  try {
    return use(socket);
  } finally {
    socket.close();
  }
}

/** Deletes the entries of translated UDP flows to `targets`; returns how many there were. @throws NetlinkError */
export function forgetFlows(namespace: string | null, targets: readonly string[]): number {
  return withSocket(namespace, (socket) => {
    let count = 0;
    for (const address of targets) {
      const family = address.includes(':') ? AF_INET6 : AF_INET;
      const wanted = plain(address);
      for (const { target, key } of translatedFlows(socket, family, address)) {
        if (target !== wanted) continue;
        count++;
        socket.queue(`flow to ${address}`, DELETE, 0, [ERRNO.ENOENT], (m) => {
          header(m, family);
          for (const [type, data] of key) m.attribute(type, data);
        });
      }
    }
    socket.flush();
    return count;
  });
}

/** Where translated UDP flows are sent; costs a look at every tracked UDP flow. */
export function flowTargets(namespace: string | null): Set<string> {
  return withSocket(namespace, (socket) => {
    const flows = [AF_INET, AF_INET6].flatMap((family) => translatedFlows(socket, family));
    return new Set(flows.map(({ target }) => target));
  });
}
