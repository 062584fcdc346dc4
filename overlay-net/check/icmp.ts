/** Echo requests (RFC 792, RFC 4443) sent from inside a namespace, by a raw socket made there. */
import { isIPv6 } from 'node:net';
import {
  AF_INET,
  AF_INET6,
  closeFd,
  inNetworkNamespace,
  SOCK_NONBLOCK,
  SOCK_RAW,
  socketAddress4,
  socketAddress6,
  sockets,
  SystemCallError,
  type Clock,
  type Random,
} from '../../base/index.ts';
import { errnoWords } from './errno-words.ts';

const IPPROTO_ICMP = 1;
const IPPROTO_ICMPV6 = 58;
const SOL_IP = 0;
const SOL_IPV6 = 41;
const SOL_SOCKET = 1;
const SO_RCVBUF = 8;
const IP_MTU_DISCOVER = 10;
const IPV6_MTU_DISCOVER = 23;
const IPV6_DONTFRAG = 62;
/** Sets DF and refuses what is larger than the link (ip(7)). */
const PMTUDISC_DO = 2;
const EAGAIN = 11;
const EMSGSIZE = 90;
const HEADER4_BYTES = 20;
const HEADER6_BYTES = 40;
const ICMP_BYTES = 8;
const SMALL_BYTES = 64;
const PACKET_BYTES_MAX = 65_535;
const POLL_MS = 2;
const RECEIVE_BUFFER_BYTES = 4 * 1024 * 1024;
/** Requests sent before other work of the loop gets a turn. */
const REQUESTS_PER_TURN = 64;
/** Each request is sent this often, as any packet may be lost. */
const TRIES = 2;

export interface EchoTarget {
  address: string;
  /** Whole packet with its IP header, bytes; default: small. */
  bytes?: number;
}

/** `refused`: this host's own kernel would not send a packet of that size. `error`: it sent none for another reason. */
export type EchoOutcome =
  { kind: 'answered'; rttUs: number } | { kind: 'silent' } | { kind: 'refused' } | { kind: 'error'; words: string };

export interface EchoOptions {
  clock: Clock;
  random: Random;
  /** Longest wait for the answers, ms. */
  timeoutMs: number;
}

/** The one's complement sum of RFC 1071. */
export function checksum(bytes: Uint8Array): number {
  let sum = 0;
  for (let i = 0; i < bytes.length; i += 2) sum += ((bytes[i] ?? 0) << 8) | (bytes[i + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}

function echoRequest(six: boolean, id: number, sequence: number, totalBytes: number): Buffer {
  const header = six ? HEADER6_BYTES : HEADER4_BYTES;
  const packet = Buffer.alloc(Math.min(PACKET_BYTES_MAX, Math.max(totalBytes, header + ICMP_BYTES)) - header);
  packet[0] = six ? 128 : 8;
  packet.writeUInt16BE(id, 4);
  packet.writeUInt16BE(sequence, 6);
  // The kernel sums ICMPv6 itself.
  if (!six) packet.writeUInt16BE(checksum(packet), 2);
  return packet;
}

/** The sequence number of an answer to a request of ours; undefined for all else that a raw socket hears. */
function answered(six: boolean, packet: Buffer, id: number): number | undefined {
  const at = six ? 0 : ((packet[0] ?? 0) & 15) * 4;
  if (packet.length < at + ICMP_BYTES || packet[at] !== (six ? 129 : 0)) return undefined;
  return packet.readUInt16BE(at + 4) === id ? packet.readUInt16BE(at + 6) : undefined;
}

function int32(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setInt32(0, value, true);
  return bytes;
}

function openRaw(namespace: string | null, six: boolean): number {
  const open = (): number =>
    six
      ? sockets.open(AF_INET6, SOCK_RAW | SOCK_NONBLOCK, IPPROTO_ICMPV6)
      : sockets.open(AF_INET, SOCK_RAW | SOCK_NONBLOCK, IPPROTO_ICMP);
  const fd = namespace === null ? open() : inNetworkNamespace(namespace, open);
  if (six) {
    sockets.setOption(fd, SOL_IPV6, IPV6_MTU_DISCOVER, int32(PMTUDISC_DO));
    sockets.setOption(fd, SOL_IPV6, IPV6_DONTFRAG, int32(1));
  } else {
    sockets.setOption(fd, SOL_IP, IP_MTU_DISCOVER, int32(PMTUDISC_DO));
  }
  sockets.setOption(fd, SOL_SOCKET, SO_RCVBUF, int32(RECEIVE_BUFFER_BYTES));
  return fd;
}

/** One family's requests on one socket. */
class EchoRound {
  readonly #six: boolean;
  readonly #targets: readonly EchoTarget[];
  readonly #options: EchoOptions;
  readonly #fd: number;
  readonly #id: number;
  readonly #sentMs: number[] = [];
  readonly #outcomes: (EchoOutcome | undefined)[];
  readonly #buffer = Buffer.alloc(PACKET_BYTES_MAX);

  constructor(namespace: string | null, six: boolean, targets: readonly EchoTarget[], options: EchoOptions) {
    this.#six = six;
    this.#targets = targets;
    this.#options = options;
    this.#id = options.random.int(0x10000);
    this.#outcomes = targets.map(() => undefined);
    this.#fd = openRaw(namespace, six);
  }

  async run(): Promise<EchoOutcome[]> {
    const { clock, timeoutMs } = this.#options;
    try {
      for (let attempt = 0; attempt < TRIES && this.#outcomes.includes(undefined); attempt++) {
        await this.#sendAll();
        const endMs = clock.monotonic() + timeoutMs / TRIES;
        while (this.#outcomes.includes(undefined) && clock.monotonic() < endMs) {
          this.#receiveAll();
          if (this.#outcomes.includes(undefined)) await clock.sleep(POLL_MS);
        }
      }
    } finally {
      closeFd(this.#fd);
    }
    return this.#outcomes.map((outcome) => outcome ?? { kind: 'silent' });
  }

  async #sendAll(): Promise<void> {
    for (const [index, target] of this.#targets.entries()) {
      if (this.#outcomes[index] === undefined) this.#send(index, target);
      if (index % REQUESTS_PER_TURN !== REQUESTS_PER_TURN - 1) continue;
      this.#receiveAll();
      await this.#options.clock.sleep(0);
    }
  }

  #send(index: number, target: EchoTarget): void {
    const packet = echoRequest(this.#six, this.#id, index, target.bytes ?? SMALL_BYTES);
    const to = this.#six ? socketAddress6(target.address, 0) : socketAddress4(target.address, 0);
    this.#sentMs[index] = this.#options.clock.monotonic();
    try {
      sockets.sendTo(this.#fd, packet, to);
    } catch (error) {
      if (!(error instanceof SystemCallError)) throw error;
      if (error.errno === EAGAIN) return;
      this.#outcomes[index] =
        error.errno === EMSGSIZE ? { kind: 'refused' } : { kind: 'error', words: errnoWords(error) };
    }
  }

  #receiveAll(): void {
    for (;;) {
      let length: number;
      try {
        length = sockets.receive(this.#fd, this.#buffer);
      } catch (error) {
        if (error instanceof SystemCallError) return;
        throw error;
      }
      const sequence = answered(this.#six, this.#buffer.subarray(0, length), this.#id);
      const sentMs = sequence === undefined ? undefined : this.#sentMs[sequence];
      if (sequence === undefined || sentMs === undefined || this.#outcomes[sequence] !== undefined) continue;
      const rttUs = Math.max(1, Math.round((this.#options.clock.monotonic() - sentMs) * 1000));
      this.#outcomes[sequence] = { kind: 'answered', rttUs };
    }
  }
}

/**
 * Sends an echo request to each target, from the namespace at `path` (null: the daemon's own), twice where the first
 * finds no answer. Packets are never fragmented. Outcomes are in the order of the targets.
 * @throws SystemCallError when the namespace is gone
 */
export async function echo(
  namespace: string | null,
  targets: readonly EchoTarget[],
  options: EchoOptions,
): Promise<EchoOutcome[]> {
  const outcomes: EchoOutcome[] = targets.map(() => ({ kind: 'silent' }));
  const rounds = [false, true].map(async (six) => {
    const chosen = targets.flatMap((target, index) => (isIPv6(target.address) === six ? [{ target, index }] : []));
    if (chosen.length === 0) return;
    const own = chosen.map(({ target }) => target);
    const found = await new EchoRound(namespace, six, own, options).run();
    for (const [i, { index }] of chosen.entries()) outcomes[index] = found[i] ?? { kind: 'silent' };
  });
  await Promise.all(rounds);
  return outcomes;
}
