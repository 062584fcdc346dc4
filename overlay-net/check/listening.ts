/** Which sockets of a namespace wait for clients: /proc/net/tcp and its kin (proc(5)). */
import { readFileSync } from 'node:fs';
import { inNetworkNamespace } from '../../base/index.ts';

const TCP_LISTEN = '0A';
const UDP_UNCONNECTED = '07';
const LINES_MAX = 10_000;

/** Addresses that listen on a port, from the text of such a file. */
export function listeners(text: string, protocol: 'tcp' | 'udp', port: number): string[] {
  const state = protocol === 'tcp' ? TCP_LISTEN : UDP_UNCONNECTED;
  const hexPort = port.toString(16).toUpperCase().padStart(4, '0');
  const found = new Set<string>();
  for (const line of text.split('\n').slice(1, LINES_MAX)) {
    const [, local = '', , kind] = line.trim().split(/\s+/);
    const [address = '', ownPort] = local.split(':');
    if (kind === state && ownPort === hexPort) found.add(readable(address));
  }
  return [...found];
}

/** The kernel writes addresses as words in the machine's own order. */
function readable(hex: string): string {
  const bytes = (hex.match(/.{8}/g) ?? []).flatMap((word) => [...Buffer.from(word, 'hex').reverse()]);
  if (bytes.length === 4) return bytes.join('.');
  const words = Array.from({ length: 8 }, (_, i) =>
    (((bytes[i * 2] ?? 0) << 8) | (bytes[i * 2 + 1] ?? 0)).toString(16),
  );
  return words.every((word) => word === '0') ? '::' : words.join(':');
}

/** Addresses that listen on a port inside a namespace. @throws SystemCallError when it is gone */
export function listeningOn(namespace: string, protocol: 'tcp' | 'udp', port: number): string[] {
  return inNetworkNamespace(namespace, () =>
    ['', '6'].flatMap((family) => {
      try {
        return listeners(readFileSync(`/proc/thread-self/net/${protocol}${family}`, 'utf8'), protocol, port);
      } catch (error) {
        // A kernel without IPv6 has no such file.
        if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
        throw error;
      }
    }),
  );
}
