import { createSocket } from 'node:dgram';
import { AF_INET, inNetworkNamespace, SOCK_DGRAM, SOCK_NONBLOCK, sockets, type Clock } from '../../base/index.ts';
import { RESOLVER_ADDRESS } from './server.ts';

/** Time an answer may take, ms. */
const PROBE_MS = 1000;
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
    const send = (): void => socket.send(probeQuery(), DNS_PORT, RESOLVER_ADDRESS, () => undefined);
    let over = false;
    const finish = (answered: boolean): void => {
      if (over) return;
      over = true;
      again.cancel();
      end.cancel();
      socket.close();
      resolve(answered);
    };
    const again = clock.after(PROBE_MS / PROBES, send);
    // After a long turn of the event loop the timer comes before an answer that is already here: one more turn reads it.
    const end = clock.after(PROBE_MS, () => setImmediate(() => setImmediate(() => finish(false))));
    socket.on('error', () => finish(false));
    socket.on('message', () => finish(true));
    send();
  });
}
