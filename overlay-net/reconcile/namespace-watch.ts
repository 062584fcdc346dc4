import { AF_NETLINK, bindNamespaceOfSocket, closeFd, inNetworkNamespace, SOCK_RAW, sockets } from '../../base/index.ts';
import { MessageBuilder, parseAttributes } from '../kernel/netlink-message.ts';

const NETLINK_ROUTE = 0;
const NETLINK_NETFILTER = 12;
const SOL_SOCKET = 1;
const SO_RCVBUF = 8;
/** Groups of rtnetlink (linux/rtnetlink.h), as bits: links, neighbours and forwarding, addresses, routes, rules. */
const GROUPS = [1, 3, 5, 7, 8, 9, 11, 19].reduce((bits, group) => bits | (1 << (group - 1)), 0);
/** More news than fit are lost, which is news too; so the buffer may be small. */
const NEWS_BYTES = 32 * 1024;
/** nfnetlink: subsystem 10 (nf_tables), message 16 (GETGEN); the answer's first attribute is the id, big endian. */
const GET_GENERATION = (10 << 8) | 16;
const NLMSG_ERROR = 2;
const HEADER_BYTES = 16;
const buffer = Buffer.alloc(64 * 1024);

function netlinkAddress(groups: number): Uint8Array {
  const bytes = new Uint8Array(12);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, AF_NETLINK, true);
  view.setUint32(8, groups >>> 0, true);
  return bytes;
}

/**
 * Tells cheaply whether anything in a namespace may have changed: a socket that hears rtnetlink's news, and the
 * generation of its nft rule set, which moves by one with each transaction. It keeps the namespace alive: close it.
 */
export class NamespaceWatch {
  readonly #news: number;
  readonly #netfilter: number;
  #ownRunning = 0;
  /** Generation that was compared, and own transactions since. */
  #known: number | undefined;
  #own = 0;
  #sequence = 1;

  /** @param namespace path, or null for the caller's own. @throws SystemCallError */
  constructor(namespace: string | null) {
    const open = (): [number, number] => {
      const news = sockets.open(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
      try {
        return [news, sockets.open(AF_NETLINK, SOCK_RAW, NETLINK_NETFILTER)];
      } catch (error) {
        closeFd(news);
        throw error;
      }
    };
    [this.#news, this.#netfilter] = namespace === null ? open() : inNetworkNamespace(namespace, open);
    const size = Buffer.alloc(4);
    size.writeUInt32LE(NEWS_BYTES);
    sockets.setOption(this.#news, SOL_SOCKET, SO_RCVBUF, size);
    sockets.bind(this.#news, netlinkAddress(GROUPS));
  }

  close(): void {
    closeFd(this.#news);
    closeFd(this.#netfilter);
  }

  /** Gives the namespace its path back, which somebody unmounted. @throws SystemCallError */
  bindTo(path: string): void {
    bindNamespaceOfSocket(this.#news, path);
  }

  /** Whether links, addresses, routes, rules, neighbours or forwarding entries changed since this was last asked. */
  changed(): boolean {
    let news = false;
    try {
      while (sockets.tryReceive(this.#news, buffer) !== undefined) news = true;
    } catch {
      // ENOBUFS: more came than was kept.
      return true;
    }
    return news;
  }

  /** Generation of the nft rule set; 0 when the kernel knows none here. */
  generation(): number {
    const sequence = this.#sequence++;
    const request = new MessageBuilder();
    request.message(GET_GENERATION, 1, sequence, (m) => m.u8(0).u8(0).u16(0));
    sockets.send(this.#netfilter, request.take());
    for (;;) {
      const length = sockets.receive(this.#netfilter, buffer);
      if (length < HEADER_BYTES || buffer.readUInt32LE(8) !== sequence) continue;
      if (buffer.readUInt16LE(4) === NLMSG_ERROR) return 0;
      const id = parseAttributes(buffer.subarray(HEADER_BYTES + 4, length)).get(1);
      return id?.readUInt32BE(0) ?? 0;
    }
  }

  /** An own transaction begins. */
  writeBegins(): void {
    this.#known ??= this.generation();
    this.#ownRunning++;
  }

  /** An own transaction ended. @param done whether it was committed */
  writeEnds(done: boolean): void {
    this.#ownRunning--;
    if (done) this.#own++;
  }

  /** Whether own transactions are under way: then the generation tells nothing. */
  get busy(): boolean {
    return this.#ownRunning > 0;
  }

  /** Whether another program changed the rule set since `accept`. */
  foreign(): boolean {
    if (this.busy || this.#known === undefined) return false;
    return this.generation() !== (this.#known + this.#own) >>> 0;
  }

  /** The rule set as of `generation` was looked at. */
  accept(generation: number): void {
    this.#known = generation;
    this.#own = 0;
  }
}
