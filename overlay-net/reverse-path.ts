import { readFileSync } from 'node:fs';

/** Whether the host checks the reverse path of packets on all its links. */
export function reversePathFilter(): boolean {
  try {
    return readFileSync('/proc/sys/net/ipv4/conf/all/rp_filter', 'utf8').trim() !== '0';
  } catch {
    return false;
  }
}
