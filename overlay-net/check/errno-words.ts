import type { SystemCallError } from '../../base/index.ts';

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
