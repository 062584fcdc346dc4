import {
  AF_INET,
  closeFd,
  errorMessage,
  SOCK_DGRAM,
  SOCK_STREAM,
  socketAddress4,
  sockets,
  ShoalError,
  SystemCallError,
  type Random,
} from '../base/index.ts';
import type { PublishedPort } from './types.ts';

/** The range a published port of 0 is chosen from. */
const EPHEMERAL_FIRST = 32_768;
const EPHEMERAL_LAST = 60_999;
const CHOICES_MAX = 256;
const EADDRINUSE = 98;

/**
 * Keeps published ports taken: a bound socket that never listens, so that no other program of the host gets the port
 * and every other daemon's check fails. Connections never reach it (they are translated before).
 */
export class PortHolder {
  readonly #held = new Map<string, number[]>();
  readonly #random: Random;

  constructor(random: Random) {
    this.#random = random;
  }

  /**
   * Takes ports, choosing those given as 0. `endpoint` is the name for error messages, `owner` that for `release`.
   * @throws ShoalError Conflict in Docker's words when one is taken; then none is held.
   */
  hold(endpoint: string, ports: readonly PublishedPort[], owner: string): PublishedPort[] {
    const fds: number[] = [];
    try {
      const chosen = ports.map((port) => this.#holdOne(endpoint, port, fds));
      this.#held.set(owner, [...(this.#held.get(owner) ?? []), ...fds]);
      return chosen;
    } catch (error) {
      for (const fd of fds) closeFd(fd);
      throw error;
    }
  }

  release(owner: string): void {
    for (const fd of this.#held.get(owner) ?? []) closeFd(fd);
    this.#held.delete(owner);
  }

  close(): void {
    for (const owner of [...this.#held.keys()]) this.release(owner);
  }

  #holdOne(endpoint: string, port: PublishedPort, fds: number[]): PublishedPort {
    // There is no socket that could hold an SCTP port on hosts without that protocol.
    if (port.protocol === 'sctp' && port.publishedPort !== 0) return port;
    if (port.publishedPort !== 0) {
      const fd = bindPort(port, port.publishedPort);
      if (fd === undefined) throw allocated(endpoint, port);
      fds.push(fd);
      return port;
    }
    for (let i = 0; i < CHOICES_MAX; i++) {
      const number = EPHEMERAL_FIRST + this.#random.int(EPHEMERAL_LAST - EPHEMERAL_FIRST + 1);
      const fd = bindPort(port, number);
      if (fd === undefined) continue;
      fds.push(fd);
      return { ...port, publishedPort: number };
    }
    throw new ShoalError('ResourceExhausted', 'all dynamic ports of this host are taken; publish a fixed port');
  }
}

function allocated(endpoint: string, port: PublishedPort): ShoalError {
  const at = `${port.hostIp === '' ? '0.0.0.0' : port.hostIp}:${port.publishedPort}`;
  return new ShoalError(
    'Internal',
    `driver failed programming external connectivity on endpoint ${endpoint}: Bind for ${at} failed: port is already allocated`,
  );
}

/** A bound descriptor, or undefined when the port is taken. @throws ShoalError for other failures */
function bindPort(port: PublishedPort, number: number): number | undefined {
  const fd = sockets.open(AF_INET, port.protocol === 'udp' ? SOCK_DGRAM : SOCK_STREAM);
  try {
    // No SO_REUSEADDR: with it any other program that sets it too could bind the same port.
    sockets.bind(fd, socketAddress4(port.hostIp === '' ? '0.0.0.0' : port.hostIp, number));
    return fd;
  } catch (error) {
    closeFd(fd);
    if (error instanceof SystemCallError && error.errno === EADDRINUSE) return undefined;
    throw new ShoalError(
      'InvalidArgument',
      `cannot publish on ${port.hostIp}:${number}: ${errorMessage(error)}; is it an address of this host?`,
    );
  }
}
