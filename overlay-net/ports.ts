import { isIPv4, isIPv6 } from 'node:net';
import {
  AF_INET,
  AF_INET6,
  closeFd,
  errorMessage,
  SOCK_DGRAM,
  SOCK_STREAM,
  socketAddress4,
  socketAddress6,
  sockets,
  ShoalError,
  SystemCallError,
  type Logger,
  type Random,
} from '../base/index.ts';
import { linkAddresses } from './host-addresses.ts';
import type { PortRule } from './published.ts';
import type { MeshClash, PublishedPort } from './types.ts';

/** The range a published port of 0 is chosen from. */
const EPHEMERAL_FIRST = 32_768;
const EPHEMERAL_LAST = 60_999;
const CHOICES_MAX = 256;
/** Sockets that hold ingress ports; ports beyond are published all the same, and not held. */
const INGRESS_HELD_MAX = 4096;
/** Clashes that are told: they travel with each description of the node. */
const CLASHES_TOLD_MAX = 32;
const EADDRINUSE = 98;
const EAFNOSUPPORT = 97;
const EADDRNOTAVAIL = 99;
const IPPROTO_IPV6 = 41;
const IPV6_V6ONLY = 26;

type Bindable = Pick<PublishedPort, 'protocol' | 'hostIp'>;

/**
 * Keeps published ports taken: a bound socket that never listens, so that no other program of the host gets the port
 * and every other daemon's check fails. Connections never reach it (they are translated before).
 */
export class PortHolder {
  readonly #held = new Map<string, number[]>();
  /** `protocol/address:port` of what sandboxes hold, by owner: for the words of a refusal. */
  readonly #names = new Map<string, string[]>();
  /** Ingress ports by name; none (an empty list) when another program has the port. */
  readonly #ingress = new Map<string, number[]>();
  readonly #clashes = new Map<string, MeshClash>();
  /** Names of the containers that hold ports, by owner. */
  readonly #containers = new Map<string, string>();
  readonly #random: Random;
  readonly #log: Logger;

  constructor(random: Random, log: Logger) {
    this.#random = random;
    this.#log = log;
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
      this.#names.set(owner, [...(this.#names.get(owner) ?? []), ...chosen.map(nameOf)]);
      this.#containers.set(owner, endpoint);
      return chosen;
    } catch (error) {
      for (const fd of fds) closeFd(fd);
      throw error;
    }
  }

  release(owner: string): void {
    for (const fd of this.#held.get(owner) ?? []) closeFd(fd);
    this.#held.delete(owner);
    this.#names.delete(owner);
    this.#containers.delete(owner);
  }

  /** Ports of the routing mesh that something else on this host has too, as of the last `holdIngress`. */
  get meshClashes(): readonly MeshClash[] {
    return [...this.#clashes.values()].slice(0, CLASHES_TOLD_MAX);
  }

  /**
   * Holds the ports of the routing mesh. One that a program of the host listens on is told once and still published:
   * connections from outside go to the service, as they would on every other host.
   */
  holdIngress(rules: readonly PortRule[]): void {
    const wanted = new Map(rules.map((rule) => [nameOf({ ...rule, publishedPort: rule.port }), rule]));
    for (const [name, fds] of this.#ingress) {
      if (wanted.has(name)) continue;
      for (const fd of fds) closeFd(fd);
      this.#ingress.delete(name);
      this.#clashes.delete(name);
    }
    for (const [name, rule] of wanted) {
      const known = this.#ingress.get(name);
      if (known !== undefined && known.length > 0) continue;
      if (rule.protocol === 'sctp' || this.#ingress.size >= INGRESS_HELD_MAX) continue;
      this.#ingress.set(name, this.#tryIngress(name, rule, known === undefined));
    }
  }

  #tryIngress(name: string, rule: PortRule, first: boolean): number[] {
    try {
      const fds = bindPort(rule, rule.port);
      if (fds !== undefined) {
        this.#clashes.delete(name);
        return fds;
      }
      const holder = this.#holderOf(rule);
      this.#clashes.set(name, { protocol: rule.protocol, port: rule.port, hostIp: rule.hostIp, holder });
      if (first)
        this.#log.warn('a port that a service publishes is held by something else here', { port: name, holder });
    } catch (error) {
      // An address that this host has not: the service is published elsewhere.
      if (first) this.#log.debug('a published port is not held here', { port: name, error: errorMessage(error) });
    }
    return [];
  }

  #holderOf(rule: PortRule): string {
    const rest = `/${rule.protocol}/${rule.port}`;
    const owner = [...this.#names].find(([, names]) => names.some((name) => name.endsWith(rest)))?.[0];
    return owner === undefined ? 'a program of that host' : `container ${this.#containers.get(owner) ?? owner}`;
  }

  close(): void {
    for (const owner of [...this.#held.keys()]) this.release(owner);
    this.holdIngress([]);
  }

  #holdOne(endpoint: string, port: PublishedPort, fds: number[]): PublishedPort {
    // There is no socket that could hold an SCTP port on hosts without that protocol.
    if (port.protocol === 'sctp' && port.publishedPort !== 0) return port;
    if (port.publishedPort !== 0) {
      const { publishedPortEnd = port.publishedPort, ...plain } = port;
      for (let number = port.publishedPort; number <= publishedPortEnd; number++) {
        const bound = bindPort(port, number);
        if (bound === undefined) continue;
        fds.push(...bound);
        return { ...plain, publishedPort: number };
      }
      throw this.#refusal(endpoint, port);
    }
    for (let i = 0; i < CHOICES_MAX; i++) {
      const number = EPHEMERAL_FIRST + this.#random.int(EPHEMERAL_LAST - EPHEMERAL_FIRST + 1);
      const bound = bindPort(port, number);
      if (bound === undefined) continue;
      fds.push(...bound);
      return { ...port, publishedPort: number };
    }
    throw new ShoalError('ResourceExhausted', 'all dynamic ports of this host are taken; publish a fixed port');
  }

  /** Docker tells a port that it gave away itself from one that some program holds. */
  #refusal(endpoint: string, port: PublishedPort): ShoalError {
    const address = port.hostIp === '' ? '0.0.0.0' : port.hostIp;
    const at = `${address.includes(':') ? `[${address}]` : address}:${port.publishedPort}`;
    const kind = `${port.protocol}${address.includes(':') ? 6 : 4}`;
    const rest = `/${port.protocol}/${port.publishedPort}`;
    const names = [
      ...[...this.#names.values()].flat(),
      ...[...this.#ingress].map(([name, { length }]) => (length > 0 ? name : '')),
    ];
    if (port.publishedPortEnd !== undefined) {
      const words = `Bind for ${at}-${port.publishedPortEnd} failed: all ports are allocated`;
      return new ShoalError(
        'Internal',
        `driver failed programming external connectivity on endpoint ${endpoint}: ${words}`,
      );
    }
    const ours = names.some((name) => name.endsWith(rest));
    const why = ours
      ? `Bind for ${at} failed: port is already allocated`
      : `listen ${kind} ${at}: bind: address already in use`;
    return new ShoalError(
      'Internal',
      `driver failed programming external connectivity on endpoint ${endpoint}: ${why}`,
    );
  }
}

/** Address (empty: all), protocol and port. */
function nameOf(port: Bindable & { publishedPort: number }): string {
  return `${port.hostIp}/${port.protocol}/${port.publishedPort}`;
}

/** Bound descriptors, or undefined when the port is taken on one of the addresses. @throws ShoalError for other failures */
function bindPort(port: Bindable, number: number): number[] | undefined {
  const { hostIp } = port;
  const everywhere = hostIp === '';
  const addresses = everywhere
    ? ['0.0.0.0', '::']
    : isIPv4(hostIp) || isIPv6(hostIp)
      ? [hostIp]
      : linkAddresses(hostIp);
  if (addresses.length === 0) {
    throw new ShoalError('InvalidArgument', `cannot publish on ${hostIp}:${number}: this host has no such interface`);
  }
  const fds: number[] = [];
  for (const address of addresses) {
    try {
      const fd = bindOne(port.protocol, address, number);
      fds.push(fd);
    } catch (error) {
      const errno = error instanceof SystemCallError ? error.errno : 0;
      // A host without IPv6 publishes on IPv4 alone.
      if (everywhere && address === '::' && (errno === EAFNOSUPPORT || errno === EADDRNOTAVAIL)) continue;
      for (const fd of fds) closeFd(fd);
      if (errno === EADDRINUSE) return undefined;
      const why = `cannot publish on ${hostIp}:${number}: ${errorMessage(error)}`;
      throw new ShoalError('InvalidArgument', `${why}; is it an address of this host?`);
    }
  }
  return fds;
}

/** @throws SystemCallError */
function bindOne(protocol: PublishedPort['protocol'], address: string, number: number): number {
  const six = address.includes(':');
  const fd = sockets.open(six ? AF_INET6 : AF_INET, protocol === 'udp' ? SOCK_DGRAM : SOCK_STREAM);
  try {
    if (six) sockets.setOption(fd, IPPROTO_IPV6, IPV6_V6ONLY, Uint8Array.of(1, 0, 0, 0));
    // No SO_REUSEADDR: with it any other program that sets it too could bind the same port.
    sockets.bind(fd, six ? socketAddress6(address, number) : socketAddress4(address, number));
    return fd;
  } catch (error) {
    closeFd(fd);
    throw error;
  }
}
