import { createSocket } from 'node:dgram';
import {
  AF_INET,
  inNetworkNamespace,
  SOCK_DGRAM,
  SOCK_NONBLOCK,
  sockets,
  type Clock,
  type Timer,
} from '../../base/index.ts';
import { RESOLVER_ADDRESS } from './server.ts';

/** Time an answer may take, ms. */
const PROBE_MS = 1000;
/** A timer that is later than this tells of a loop that was held up, ms. */
const LATE_MS = 100;
/** Whole probes at the most, when the loop is held up again and again. */
const ASKED_MAX = 5;
const PROBES = 2;
const DNS_PORT = 53;
/** `tasks.` names are answered (with "no such name") by the resolver itself, never by others. */
const NAME = Buffer.from('\x05tasks\x05shoal\x00', 'latin1');

function probeQuery(): Buffer {
  const head = Buffer.alloc(12);
  head.writeUInt16BE(0x5368, 0);
  head.writeUInt16BE(1, 4);
  return Buffer.concat([head, NAME, Buffer.of(0, 1, 0, 1)]);
}

/** Whether the resolver of a namespace answers, by the address and port that its container uses. */
export async function probeResolver(namespace: string, clock: Clock): Promise<boolean> {
  let fd: number;
  try {
    fd = inNetworkNamespace(namespace, () => sockets.open(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK));
  } catch {
    // The namespace is gone.
    return false;
  }
  return new Promise((resolve) => {
    const socket = createSocket('udp4').bind({ fd });
    const timers: Timer[] = [];
    let over = false;
    const finish = (answered: boolean): void => {
      if (over) return;
      over = true;
      for (const timer of timers) timer.cancel();
      socket.close();
      resolve(answered);
    };
    const send = (): void => socket.send(probeQuery(), DNS_PORT, RESOLVER_ADDRESS, () => undefined);
    const ask = (asked: number): void => {
      const beganMs = clock.monotonic();
      const end = (): void => {
        if (over) return;
        // An event loop that was held up has neither sent nor read in time: that says nothing of the resolver.
        const late = clock.monotonic() - beganMs > PROBE_MS + LATE_MS;
        if (late && asked < ASKED_MAX) ask(asked + 1);
        else finish(false);
      };
      timers.push(clock.after(PROBE_MS / PROBES, send), clock.after(PROBE_MS, end));
      send();
    };
    socket.on('error', () => finish(false));
    socket.on('message', () => finish(true));
    ask(1);
  });
}
