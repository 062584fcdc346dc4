/** One connection attempt from inside a namespace, as a client there would make it. */
import { isIPv6 } from 'node:net';
import {
  AF_INET,
  AF_INET6,
  closeFd,
  inNetworkNamespace,
  SOCK_DGRAM,
  SOCK_NONBLOCK,
  SOCK_STREAM,
  socketAddress4,
  socketAddress6,
  sockets,
  SystemCallError,
  type Clock,
} from '../../base/index.ts';
import { errnoWords } from './errno-words.ts';

const POLL_MS = 2;
const EAGAIN = 11;
const EALREADY = 114;
const EINPROGRESS = 115;
const ECONNREFUSED = 111;
const ANSWER_BYTES_MAX = 2048;

/** `closed`: the address is reached and nothing listens there. `silent` says little of UDP: servers may keep silent. */
export type ConnectOutcome =
  { kind: 'open' } | { kind: 'closed' } | { kind: 'silent' } | { kind: 'error'; words: string };

export interface ConnectTarget {
  protocol: 'tcp' | 'udp';
  address: string;
  port: number;
}

function failed(error: unknown): ConnectOutcome {
  if (!(error instanceof SystemCallError)) throw error;
  return error.errno === ECONNREFUSED ? { kind: 'closed' } : { kind: 'error', words: errnoWords(error) };
}

/** Runs a call until it does something else than say "not yet"; undefined when it still says so at `endMs`. */
async function until<T>(clock: Clock, endMs: number, call: () => T): Promise<T | undefined> {
  for (;;) {
    try {
      return call();
    } catch (error) {
      const wait = error instanceof SystemCallError && [EAGAIN, EALREADY, EINPROGRESS].includes(error.errno);
      if (!wait) throw error;
    }
    if (clock.monotonic() >= endMs) return undefined;
    await clock.sleep(POLL_MS);
  }
}

/** Tries one connection (an empty datagram for UDP) and closes it at once. @throws SystemCallError: no namespace */
export async function tryConnect(
  namespace: string,
  target: ConnectTarget,
  options: { clock: Clock; timeoutMs: number },
): Promise<ConnectOutcome> {
  const six = isIPv6(target.address);
  const type = target.protocol === 'tcp' ? SOCK_STREAM : SOCK_DGRAM;
  const to = six ? socketAddress6(target.address, target.port) : socketAddress4(target.address, target.port);
  const fd = inNetworkNamespace(namespace, () => sockets.open(six ? AF_INET6 : AF_INET, type | SOCK_NONBLOCK));
  const { clock } = options;
  const endMs = clock.monotonic() + options.timeoutMs;
  try {
    // A second connect(2) tells how the first one went.
    const connected = await until(clock, endMs, () => {
      sockets.connect(fd, to);
      return true;
    });
    if (connected === undefined) return { kind: 'silent' };
    if (target.protocol === 'tcp') return { kind: 'open' };
    sockets.send(fd, new Uint8Array(0));
    const length = await until(clock, endMs, () => sockets.receive(fd, Buffer.alloc(ANSWER_BYTES_MAX)));
    return length === undefined ? { kind: 'silent' } : { kind: 'open' };
  } catch (error) {
    return failed(error);
  } finally {
    closeFd(fd);
  }
}
