/**
 * Connection tracking through ctnetlink (linux/netfilter/nfnetlink_conntrack.h); numbers are in network order. A look
 * walks over the kernel's whole table (10 ms with 262,144 buckets), so it is made on a pool thread.
 */
import { AF_INET, AF_INET6, AF_NETLINK, closeFd, inNetworkNamespace, SOCK_RAW, sockets } from '../../base/index.ts';
import { canonicalIp, formatBytes, ipBytes } from '../ip.ts';
import { MessageBuilder, parseAttributes } from './netlink-message.ts';
import { ERRNO, NetlinkError, NLM_F_DUMP, NLM_F_REQUEST, RouteSocket } from './netlink.ts';

const NETLINK_NETFILTER = 12;
const NLMSG_ERROR = 2;
const NLMSG_DONE = 3;
const GET = 0x101;
const DELETE = 0x102;
const CTA = { TUPLE_ORIG: 1, TUPLE_REPLY: 2, STATUS: 3, ID: 12, ZONE: 18, FILTER: 25 } as const;
const TUPLE = { IP: 1, PROTO: 2 } as const;
const IP = { V4_SRC: 1, V6_SRC: 3 } as const;
const FILTER_REPLY_FLAGS = 2;
/** Bits of CTA_FILTER: compare the source address, and the protocol's number. */
const FILTER_SOURCE = 0b0001;
const FILTER_PROTOCOL = 0b1000;
const NLA_F_NESTED = 0x8000;
const IPS_DST_NAT = 1 << 5;
const IPPROTO_UDP = 17;
/** A dump's datagrams are at most 32 KiB (kernel's own limit). */
const RECEIVE_BYTES = 64 * 1024;

interface Flow {
  family: number;
  /** Where the flow's packets are sent in truth: the source of its replies. */
  target: string;
  /** What names the entry to the kernel: attributes as read. */
  key: [number, Buffer][];
}

/** struct nfgenmsg. */
function header(m: MessageBuilder, family: number): MessageBuilder {
  return m.u8(family).u8(0).u16(0);
}

function toFlow(body: Buffer, family: number): Flow | undefined {
  const attributes = parseAttributes(body.subarray(4));
  const none = Buffer.alloc(0);
  const status = attributes.get(CTA.STATUS)?.readUInt32BE(0) ?? 0;
  const reply = parseAttributes(attributes.get(CTA.TUPLE_REPLY) ?? none);
  const source = parseAttributes(reply.get(TUPLE.IP) ?? none);
  const protocol = parseAttributes(reply.get(TUPLE.PROTO) ?? none).get(1)?.[0];
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
  return { family, target: formatBytes(address), key };
}

/**
 * Asks for UDP flows; with `target`, the kernel itself picks those sent there (Linux 5.8; older kernels give all).
 * Not for IPv6: there it compares the wrong way round and gives all others (seen on 6.18).
 */
function request(family: number, target: string | undefined): Buffer {
  const builder = new MessageBuilder();
  builder.message(GET, NLM_F_REQUEST | NLM_F_DUMP, 1, (m) => {
    header(m, family);
    m.nested(CTA.TUPLE_REPLY | NLA_F_NESTED, () => {
      if (target !== undefined) {
        m.nested(TUPLE.IP | NLA_F_NESTED, () => m.attribute(IP.V4_SRC, ipBytes(target)));
      }
      m.nested(TUPLE.PROTO | NLA_F_NESTED, () => m.attributeU8(1, IPPROTO_UDP));
    });
    const flags = FILTER_PROTOCOL | (target === undefined ? 0 : FILTER_SOURCE);
    m.nested(CTA.FILTER | NLA_F_NESTED, () => m.attributeU32(FILTER_REPLY_FLAGS, flags));
  });
  return builder.take();
}

/** Translated UDP flows of one family. @throws NetlinkError */
async function look(namespace: string | null, family: number, target?: string): Promise<Flow[]> {
  const open = (): number => sockets.open(AF_NETLINK, SOCK_RAW, NETLINK_NETFILTER);
  const fd = namespace === null ? open() : inNetworkNamespace(namespace, open);
  const flows: Flow[] = [];
  const buffer = Buffer.alloc(RECEIVE_BYTES);
  try {
    await sockets.sendAside(fd, request(family, target));
    for (;;) {
      const length = await sockets.receiveAside(fd, buffer);
      if (takeFlows(buffer.subarray(0, length), family, flows)) return flows;
    }
  } finally {
    closeFd(fd);
  }
}

/** Reads one datagram; true after the last. */
function takeFlows(data: Buffer, family: number, flows: Flow[]): boolean {
  for (let at = 0; at + 16 <= data.length;) {
    const size = data.readUInt32LE(at);
    if (size < 16 || at + size > data.length) return true;
    const type = data.readUInt16LE(at + 4);
    const body = data.subarray(at + 16, at + size);
    if (type === NLMSG_DONE) return true;
    if (type === NLMSG_ERROR) throw new NetlinkError('reading the tracked connections', -body.readInt32LE(0), '');
    const flow = toFlow(body, family);
    if (flow !== undefined) flows.push(flow);
    at += (size + 3) & ~3;
  }
  return false;
}

/** Deletes the entries of translated UDP flows to `targets`; returns how many there were. @throws NetlinkError */
export async function forgetFlows(namespace: string | null, targets: readonly string[]): Promise<number> {
  const doomed: Flow[] = [];
  for (const family of [AF_INET, AF_INET6]) {
    const wanted = new Set(targets.map(canonicalIp).filter((target) => target.includes(':') === (family === AF_INET6)));
    if (wanted.size === 0) continue;
    const [only] = wanted;
    const flows = await look(namespace, family, wanted.size === 1 && family === AF_INET ? only : undefined);
    doomed.push(...flows.filter(({ target }) => wanted.has(target)));
  }
  if (doomed.length === 0) return 0;
  const socket = new RouteSocket(namespace, NETLINK_NETFILTER);
  try {
    for (const { family, target, key } of doomed) {
      socket.queue(`flow to ${target}`, DELETE, 0, [ERRNO.ENOENT], (m) => {
        header(m, family);
        for (const [type, data] of key) m.attribute(type, data);
      });
    }
    socket.flush();
  } finally {
    socket.close();
  }
  return doomed.length;
}

/** Where translated UDP flows are sent. @throws NetlinkError */
export async function flowTargets(namespace: string | null): Promise<Set<string>> {
  const flows = [...(await look(namespace, AF_INET)), ...(await look(namespace, AF_INET6))];
  return new Set(flows.map(({ target }) => target));
}
