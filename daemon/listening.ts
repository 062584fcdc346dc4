import { readFileIfExists, type Clock } from '../base/index.ts';

/** How long a task's ports are waited for, ms. A program that takes longer needs a health check to be spared requests. */
const LISTEN_WAIT_MS = 250;
const POLL_MS = 5;
/** State of a listening TCP socket, and of a UDP socket that is connected to nobody (linux/net/tcp_states.h). */
const TCP_LISTEN = '0A';
const UDP_UNCONNECTED = '07';
const STATES = { tcp: TCP_LISTEN, udp: UDP_UNCONNECTED } as const;

/** A port of a container, `80/tcp`. */
export type ContainerPort = string;

/** Ports that a process's network namespace serves, as /proc/PID/net tells (proc_pid_net(5)). */
export function servedPorts(pid: number, read = readFileIfExists): Set<ContainerPort> {
  const served = new Set<ContainerPort>();
  for (const protocol of ['tcp', 'udp'] as const) {
    for (const file of [protocol, `${protocol}6`]) {
      const lines = (read(`/proc/${pid}/net/${file}`) ?? '').split('\n').slice(1);
      for (const line of lines) {
        const [, local = '', , state] = line.trim().split(/\s+/);
        if (state !== STATES[protocol]) continue;
        served.add(`${parseInt(local.slice(local.lastIndexOf(':') + 1), 16)}/${protocol}`);
      }
    }
  }
  return served;
}

/**
 * Waits until a container serves all of its ports (of other protocols than TCP and UDP nothing is known), for a quarter
 * of a second at the most: between its start and then a request would be refused.
 * @param pid of its first process; 0 when it runs no more.
 */
export async function untilServing(
  ports: readonly ContainerPort[],
  pid: () => number,
  clock: Clock,
  signal: AbortSignal,
): Promise<void> {
  const wanted = ports.filter((port) => /\/(tcp|udp)$/.test(port));
  if (wanted.length === 0) return;
  for (let waitedMs = 0; waitedMs < LISTEN_WAIT_MS; waitedMs += POLL_MS) {
    const process = pid();
    if (process === 0) return;
    const served = servedPorts(process);
    if (wanted.every((port) => served.has(port))) return;
    await clock.sleep(POLL_MS, signal);
  }
}
