import { connect } from 'node:net';

/**
 * Whether a host takes a TCP connection, within `timeoutMs`. It costs the other side next to nothing: there is no
 * handshake of TLS, so that a crowd of agents may ask often while they are cut off.
 * @param address `host:port`; of IPv6 addresses the host is in brackets. @returns false also when `signal` aborts.
 */
export function reaches(address: string, timeoutMs: number, signal: AbortSignal): Promise<boolean> {
  const at = address.lastIndexOf(':');
  const host = address.slice(0, at).replace(/^\[(.*)\]$/, '$1');
  const port = Number(address.slice(at + 1));
  if (at < 1 || !Number.isInteger(port) || port < 1 || port > 65_535 || signal.aborted) return Promise.resolve(false);
  return new Promise((resolve) => {
    const socket = connect({ host, port, timeout: timeoutMs });
    const end = (answer: boolean): void => {
      signal.removeEventListener('abort', onAbort);
      socket.destroy();
      resolve(answer);
    };
    const onAbort = (): void => end(false);
    signal.addEventListener('abort', onAbort, { once: true });
    socket.once('connect', () => end(true));
    socket.once('timeout', () => end(false));
    socket.once('error', () => end(false));
  });
}
