import { PortConfig_Protocol } from '../../proto/index.ts';
import { SerialSet } from './serial-set.ts';

/** Ports that services get which publish one without naming it (docs.docker.com/engine/swarm/services). */
export const DYNAMIC_PORT_FIRST = 30_000;
export const DYNAMIC_PORT_LAST = 32_767;

/** Whether two published ports of one number cannot stand beside each other: one of them is on all addresses. */
export function sharesAddress(a: string, b: string): boolean {
  return a === b || [a, b].some((address) => address === '' || address === '0.0.0.0' || address === '::');
}

/**
 * Published ports of the ingress network, separately for each protocol. Services may share a number on different
 * addresses (or interfaces) of the hosts; '' stands for all.
 */
export class PortTable {
  /** Protocol → port → service → address that it is bound to. */
  readonly #owners = new Map<PortConfig_Protocol, Map<number, Map<string, string>>>();
  readonly #used = new Map<PortConfig_Protocol, SerialSet>();

  constructor() {
    for (const protocol of Object.values(PortConfig_Protocol)) {
      this.#owners.set(protocol, new Map());
      this.#used.set(protocol, new SerialSet(DYNAMIC_PORT_FIRST, DYNAMIC_PORT_LAST));
    }
  }

  /** Id of another service that has the port on this address. */
  rival(protocol: PortConfig_Protocol, port: number, hostIp: string, serviceId: string): string | undefined {
    for (const [owner, address] of this.#owners.get(protocol)?.get(port) ?? []) {
      if (owner !== serviceId && sharesAddress(address, hostIp)) return owner;
    }
    return undefined;
  }

  /** Address on which a service has the port; undefined when it has not. */
  addressOf(protocol: PortConfig_Protocol, port: number, serviceId: string): string | undefined {
    return this.#owners.get(protocol)?.get(port)?.get(serviceId);
  }

  /** Gives a port to a service, or binds one that it has to another address; false when another service is in the way. */
  claim(protocol: PortConfig_Protocol, port: number, hostIp: string, serviceId: string): boolean {
    if (this.rival(protocol, port, hostIp, serviceId) !== undefined) return false;
    const ports = this.#owners.get(protocol);
    const owners = ports?.get(port);
    if (owners === undefined) ports?.set(port, new Map([[serviceId, hostIp]]));
    else owners.set(serviceId, hostIp);
    this.#used.get(protocol)?.add(port);
    return true;
  }

  /** As `claim`, for state that is read back: dynamic ports go on behind it. */
  restore(protocol: PortConfig_Protocol, port: number, hostIp: string, serviceId: string): boolean {
    this.#used.get(protocol)?.continueAfter(port);
    return this.claim(protocol, port, hostIp, serviceId);
  }

  /** The next free dynamic port, given to the service; undefined when there is none. */
  takeDynamic(protocol: PortConfig_Protocol, hostIp: string, serviceId: string): number | undefined {
    const port = this.#used.get(protocol)?.take();
    if (port !== undefined) this.#owners.get(protocol)?.set(port, new Map([[serviceId, hostIp]]));
    return port;
  }

  release(protocol: PortConfig_Protocol, port: number, serviceId: string): boolean {
    const owners = this.#owners.get(protocol)?.get(port);
    if (owners?.delete(serviceId) !== true) return false;
    if (owners.size > 0) return true;
    this.#owners.get(protocol)?.delete(port);
    return this.#used.get(protocol)?.delete(port) ?? false;
  }

  /** All ports in use, `protocol/port@address=service`, sorted. */
  dump(): string[] {
    const lines: string[] = [];
    for (const [protocol, ports] of this.#owners) {
      for (const [port, owners] of ports) {
        for (const [owner, address] of owners) lines.push(`${protocol}/${port}@${address}=${owner}`);
      }
    }
    return lines.sort();
  }
}
