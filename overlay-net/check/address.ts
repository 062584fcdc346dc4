import { AF_INET6, type SystemCallError } from '../../base/index.ts';

/** The sixteen bytes of an IPv6 address. */
export function bytes6(address: string): Uint8Array {
  const [head = '', tail] = address.split('::');
  const words = (part: string | undefined): number[] =>
    part === undefined || part === '' ? [] : part.split(':').map((word) => Number.parseInt(word, 16));
  const front = words(head);
  const back = words(tail);
  const all = [...front, ...Array<number>(Math.max(0, 8 - front.length - back.length)).fill(0), ...back];
  return Uint8Array.from(all.slice(0, 8).flatMap((word) => [word >>> 8, word & 0xff]));
}

/** A sockaddr_in6 without a scope. */
export function socketAddress6(address: string, port: number): Uint8Array {
  const bytes = new Uint8Array(28);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, AF_INET6, true);
  view.setUint16(2, port, false);
  bytes.set(bytes6(address), 8);
  return bytes;
}

/** Words for what the kernel says of a packet that it will not send. */
export function errnoWords(error: SystemCallError): string {
  const name = /: (\w+)$/.exec(error.message)?.[1] ?? '';
  switch (name) {
    case 'ENETUNREACH':
      return 'no route (ENETUNREACH)';
    case 'EHOSTUNREACH':
      return 'no neighbour (EHOSTUNREACH)';
    case 'EPERM':
      return 'a rule forbids it (EPERM)';
    default:
      return name;
  }
}
