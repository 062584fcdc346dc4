import { request } from 'node:http';
import type { Duplex } from 'node:stream';
import { httpTarget, type HttpAnswer } from '../base/index.ts';

/**
 * Asks for a connection that carries a raw stream from then on (`101 UPGRADED`). Gives the socket, on which what came
 * with the answer's head is read first, or the plain answer with which the daemon refused.
 * @throws Error when nobody answers
 */
export function hijack(host: string, path: string, body?: object): Promise<{ socket: Duplex } | HttpAnswer> {
  const payload = body === undefined ? undefined : Buffer.from(JSON.stringify(body));
  return new Promise((resolve, reject) => {
    const outgoing = request({
      ...httpTarget(host),
      method: 'POST',
      path,
      headers: {
        Connection: 'Upgrade',
        Upgrade: 'tcp',
        'Content-Type': payload === undefined ? 'text/plain' : 'application/json',
        'Content-Length': payload?.length ?? 0,
      },
    });
    outgoing.on('upgrade', (_answer, socket, head) => {
      if (head.length > 0) socket.unshift(head);
      resolve({ socket });
    });
    outgoing.on('response', (incoming) => {
      resolve({ status: incoming.statusCode ?? 0, headers: incoming.headers, body: incoming });
    });
    outgoing.on('error', reject);
    outgoing.end(payload);
  });
}
