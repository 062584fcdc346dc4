import { AF_NETLINK, closeFd, inNetworkNamespace, ShoalError, SOCK_RAW, sockets } from '../../base/index.ts';
import { MessageBuilder } from './netlink-message.ts';

export const NLM_F_REQUEST = 1;
export const NLM_F_ACK = 4;
export const NLM_F_DUMP = 0x300;
export const NLM_F_REPLACE = 0x100;
export const NLM_F_EXCL = 0x200;
export const NLM_F_CREATE = 0x400;
export const NLM_F_APPEND = 0x800;
const NLMSG_ERROR = 2;
const NLMSG_DONE = 3;
const NETLINK_ROUTE = 0;
const SOL_NETLINK = 270;
const NETLINK_CAP_ACK = 10;
const NETLINK_EXT_ACK = 11;
const NLM_F_ACK_TLVS = 0x200;
/** Messages of one send; their acknowledgements must fit the socket's receive buffer. */
const BATCH_MESSAGES_MAX = 128;
/** A dump's datagrams are at most 32 KiB (kernel's own limit). */
const RECEIVE_BYTES = 64 * 1024;
/** A paced dump gives way after a part of this size (some 100 entries). */
const PAUSE_BYTES = 8 * 1024;

/** The kernel refused a request. `errno` is positive. */
export class NetlinkError extends ShoalError {
  readonly errno: number;
  constructor(what: string, errno: number, words: string) {
    super('Internal', `${what}: ${words === '' ? errnoName(errno) : `${words} (${errnoName(errno)})`}`);
    this.errno = errno;
  }
}

export const ERRNO = {
  EPERM: 1,
  ENOENT: 2,
  ESRCH: 3,
  EBUSY: 16,
  EEXIST: 17,
  ENODEV: 19,
  EINVAL: 22,
  EADDRNOTAVAIL: 99,
  EOPNOTSUPP: 95,
} as const;

function errnoName(errno: number): string {
  return Object.entries(ERRNO).find(([, value]) => value === errno)?.[0] ?? `errno ${errno}`;
}

/** Takes one entry of a dump: what follows the header, and the message's type. */
type DumpReader = (body: Buffer, type: number) => void;

interface Pending {
  what: string;
  /** Error numbers that mean the wanted state holds already. */
  tolerate: readonly number[];
}

const receiveBuffer = Buffer.alloc(RECEIVE_BYTES);

/** One netlink socket (rtnetlink, if no other protocol is asked for) of one namespace. All calls are synchronous: the kernel answers inside send(2). */
export class RouteSocket {
  readonly #fd: number;
  readonly #builder = new MessageBuilder();
  #sequence = 1;
  #pending = new Map<number, Pending>();
  readonly #indexes = new Map<string, number>();

  /** @param namespace path, or null for the caller's own. */
  constructor(namespace: string | null, protocol = NETLINK_ROUTE) {
    const open = (): number => sockets.open(AF_NETLINK, SOCK_RAW, protocol);
    this.#fd = namespace === null ? open() : inNetworkNamespace(namespace, open);
    const on = Uint8Array.of(1, 0, 0, 0);
    sockets.setOption(this.#fd, SOL_NETLINK, NETLINK_CAP_ACK, on);
    sockets.setOption(this.#fd, SOL_NETLINK, NETLINK_EXT_ACK, on);
  }

  close(): void {
    closeFd(this.#fd);
  }

  /** Queues a request; it is sent with the batch. */
  queue(
    what: string,
    type: number,
    flags: number,
    tolerate: readonly number[],
    build: (m: MessageBuilder) => void,
  ): void {
    const sequence = this.#sequence++;
    this.#builder.message(type, NLM_F_REQUEST | NLM_F_ACK | flags, sequence, build);
    this.#pending.set(sequence, { what, tolerate });
    if (this.#pending.size >= BATCH_MESSAGES_MAX) this.flush();
  }

  /** Sends what is queued. @throws NetlinkError of the first request that failed. */
  flush(): void {
    if (this.#pending.size === 0) return;
    sockets.send(this.#fd, this.#builder.take());
    let failure: NetlinkError | undefined;
    const pending = this.#pending;
    this.#pending = new Map();
    while (pending.size > 0) {
      this.#receive((type, sequence, body, flags) => {
        const request = pending.get(sequence);
        if (type !== NLMSG_ERROR || request === undefined) return;
        pending.delete(sequence);
        const errno = -body.readInt32LE(0);
        if (errno === 0 || request.tolerate.includes(errno)) return;
        failure ??= new NetlinkError(request.what, errno, extendedWords(body, flags));
      });
    }
    if (failure !== undefined) throw failure;
  }

  /** All answers to a dump request. */
  dump(type: number, build: (m: MessageBuilder) => void, each: DumpReader): void {
    const sequence = this.#startDump(type, build);
    while (!this.#dumpPart(sequence, each).done);
  }

  /** As `dump`; `pause` is awaited after each large part of the answer, so that a long one does not hold the loop. */
  async dumpPaced(
    type: number,
    build: (m: MessageBuilder) => void,
    each: DumpReader,
    pause: () => Promise<unknown>,
  ): Promise<void> {
    const sequence = this.#startDump(type, build);
    for (;;) {
      const { done, bytes } = this.#dumpPart(sequence, each);
      if (done) return;
      if (bytes >= PAUSE_BYTES) await pause();
    }
  }

  #startDump(type: number, build: (m: MessageBuilder) => void): number {
    this.flush();
    const sequence = this.#sequence++;
    this.#builder.message(type, NLM_F_REQUEST | NLM_F_DUMP, sequence, build);
    sockets.send(this.#fd, this.#builder.take());
    return sequence;
  }

  #dumpPart(sequence: number, each: DumpReader): { done: boolean; bytes: number } {
    let done = false;
    const bytes = this.#receive((answer, answered, body) => {
      if (answered !== sequence) return;
      if (answer === NLMSG_DONE) done = true;
      else if (answer === NLMSG_ERROR) {
        done = true;
        const errno = -body.readInt32LE(0);
        if (errno !== 0) throw new NetlinkError('reading the network state', errno, '');
      } else each(Buffer.from(body), answer);
    });
    return { done, bytes };
  }

  /** Index of a link, or undefined when there is none. */
  indexOf(name: string): number | undefined {
    const known = this.#indexes.get(name);
    if (known !== undefined) return known;
    this.flush();
    const sequence = this.#sequence++;
    this.#builder.message(18, NLM_F_REQUEST, sequence, (m) => {
      interfaceInfo(m, 0);
      m.attributeText(3, name);
    });
    sockets.send(this.#fd, this.#builder.take());
    let found: number | undefined;
    let answered = false;
    while (!answered) {
      this.#receive((type, replied, body) => {
        if (replied !== sequence) return;
        answered = true;
        if (type !== NLMSG_ERROR) found = body.readInt32LE(4);
      });
    }
    if (found !== undefined) this.#indexes.set(name, found);
    return found;
  }

  forget(name: string): void {
    this.#indexes.delete(name);
  }

  /** Reads one datagram; returns its length. */
  #receive(each: (type: number, sequence: number, body: Buffer, flags: number) => void): number {
    const length = sockets.receive(this.#fd, receiveBuffer);
    for (let at = 0; at + 16 <= length;) {
      const size = receiveBuffer.readUInt32LE(at);
      if (size < 16 || at + size > length) return length;
      const flags = receiveBuffer.readUInt16LE(at + 6);
      const body = receiveBuffer.subarray(at + 16, at + size);
      each(receiveBuffer.readUInt16LE(at + 4), receiveBuffer.readUInt32LE(at + 8), body, flags);
      at += (size + 3) & ~3;
    }
    return length;
  }
}

/** struct ifinfomsg. */
export function interfaceInfo(m: MessageBuilder, index: number, flags = 0, change = 0, family = 0): void {
  m.u8(family).u8(0).u16(0).u32(index).u32(flags).u32(change);
}

/** The kernel's own words, when it gives some (NLMSGERR_ATTR_MSG). */
function extendedWords(body: Buffer, flags: number): string {
  if ((flags & NLM_F_ACK_TLVS) === 0) return '';
  // With NETLINK_CAP_ACK only the header of the request is repeated: 4 bytes of error, 16 of header.
  for (let at = 20; at + 4 <= body.length;) {
    const size = body.readUInt16LE(at);
    if (size < 4 || at + size > body.length) break;
    if ((body.readUInt16LE(at + 2) & 0x3fff) === 1) return body.toString('utf8', at + 4, at + size - 1);
    at += (size + 3) & ~3;
  }
  return '';
}
