import type { Clock } from '../base/index.ts';
import { servedPorts, type ServedProtocol } from '../overlay-net/index.ts';

/** How long a task's ports are waited for, ms. A program that takes longer needs a health check to be spared requests. */
const LISTEN_WAIT_MS = 250;
const POLL_MS = 5;

/**
 * Waits until a container serves all of its ports (of other protocols than TCP and UDP nothing is known), for a quarter
 * of a second at the most: between its start and then a request would be refused. On a kernel that cannot tell which
 * sockets listen it does not wait.
 * @param ports as `80/tcp`
 * @param pid of its first process; 0 when it runs no more
 */
export async function untilServing(
  ports: readonly string[],
  pid: () => number,
  clock: Clock,
  signal: AbortSignal,
): Promise<void> {
  const wanted = ports.filter((port) => /\/(tcp|udp)$/.test(port));
  const protocols = (['tcp', 'udp'] satisfies ServedProtocol[]).filter((one) => wanted.some((p) => p.endsWith(one)));
  const endMs = clock.monotonic() + LISTEN_WAIT_MS;
  while (wanted.length > 0 && clock.monotonic() < endMs) {
    const served = servedBy(pid(), protocols);
    if (served === undefined || wanted.every((port) => served.has(port))) return;
    await clock.sleep(POLL_MS, signal);
  }
}

/** Ports served in the namespace of a process; undefined when it has ended, or where the kernel does not tell. */
function servedBy(pid: number, protocols: readonly ServedProtocol[]): Set<string> | undefined {
  if (pid === 0) return undefined;
  try {
    return servedPorts(`/proc/${pid}/ns/net`, protocols);
  } catch {
    return undefined;
  }
}
