/** Transactions of nf_tables as netlink messages (linux/netfilter/nf_tables.h), made without libnftables. */
import { AF_NETLINK, closeFdAside, inNetworkNamespace, ShoalError, SOCK_RAW, sockets } from '../../base/index.ts';
import { MessageBuilder } from './netlink-message.ts';

const NETLINK_NETFILTER = 12;
const SOL_SOCKET = 1;
const SO_SNDBUFFORCE = 32;
const NFNL_MSG_BATCH_BEGIN = 0x10;
const NFNL_MSG_BATCH_END = 0x11;
const NFNL_SUBSYS_NFTABLES = 10;
const NLM_F_REQUEST = 1;
const NLM_F_ACK = 4;
const NLMSG_ERROR = 2;
const HEADER_BYTES = 16;
/** Room that the kernel takes beside the messages themselves. */
const SEND_OVERHEAD_BYTES = 64 * 1024;
/** Larger batches, and those that delete, are worked on beside the loop. */
const INLINE_BYTES_MAX = 8 * 1024;
const answer = Buffer.alloc(64 * 1024);

function bound(type: number, flags: number): Buffer {
  const m = new MessageBuilder();
  m.message(type, NLM_F_REQUEST | flags, 0, (one) => one.u8(0).u8(0).u8(0).u8(NFNL_SUBSYS_NFTABLES));
  return m.take();
}

/** A message of nf_tables; `family` as in nfgenmsg. */
export function nftMessage(
  m: MessageBuilder,
  type: number,
  flags: number,
  family: number,
  build: (m: MessageBuilder) => void,
): void {
  m.message((NFNL_SUBSYS_NFTABLES << 8) | type, NLM_F_REQUEST | flags, 0, (one) => {
    one.u8(family).u8(0).u16(0);
    build(one);
  });
}

/**
 * Runs messages as one transaction in a namespace. What deletes waits for an RCU grace period, so it goes on a thread
 * of the pool, as long batches do. @throws ShoalError with the kernel's error number; then nothing was changed
 */
export async function sendNftBatch(
  namespace: string | null,
  messages: readonly Buffer[],
  deletes: boolean,
): Promise<void> {
  const open = (): number => sockets.open(AF_NETLINK, SOCK_RAW, NETLINK_NETFILTER);
  const fd = namespace === null ? open() : inNetworkNamespace(namespace, open);
  try {
    const bytes = Buffer.concat([bound(NFNL_MSG_BATCH_BEGIN, 0), ...messages, bound(NFNL_MSG_BATCH_END, NLM_F_ACK)]);
    const room = Buffer.alloc(4);
    room.writeUInt32LE(bytes.length + SEND_OVERHEAD_BYTES);
    sockets.setOption(fd, SOL_SOCKET, SO_SNDBUFFORCE, room);
    if (deletes || bytes.length > INLINE_BYTES_MAX) await sockets.sendAside(fd, bytes);
    else sockets.send(fd, bytes);
    // The kernel has answered inside the call.
    for (;;) {
      const length = sockets.tryReceive(fd, answer);
      if (length === undefined) break;
      for (let at = 0; at + HEADER_BYTES + 4 <= length; at += (answer.readUInt32LE(at) + 3) & ~3) {
        const errno = answer.readUInt16LE(at + 4) === NLMSG_ERROR ? -answer.readInt32LE(at + HEADER_BYTES) : 0;
        if (errno !== 0) throw new ShoalError('Internal', `nftables: a batch was refused: errno ${errno}`);
      }
    }
  } finally {
    // Closing waits for what the kernel still clears away; nobody else needs to.
    closeFdAside(fd).catch(() => undefined);
  }
}
