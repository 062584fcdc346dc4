import { PortConfig_Protocol } from '../../proto/index.ts';
import { SerialSet } from './serial-set.ts';

/** Ports that services get which publish one without naming it (docs.docker.com/engine/swarm/services). */
export const DYNAMIC_PORT_FIRST = 30_000;
export const DYNAMIC_PORT_LAST = 32_767;

/** Published ports of the ingress network, separately for each protocol. */
export class PortTable {
  readonly #owners = new Map<PortConfig_Protocol, Map<number, string>>();
  readonly #used = new Map<PortConfig_Protocol, SerialSet>();

  constructor() {
    for (const protocol of Object.values(PortConfig_Protocol)) {
      this.#owners.set(protocol, new Map());
      this.#used.set(protocol, new SerialSet(DYNAMIC_PORT_FIRST, DYNAMIC_PORT_LAST));
    }
  }

  /** Id of the service that has the port. */
  owner(protocol: PortConfig_Protocol, port: number): string | undefined {
    return this.#owners.get(protocol)?.get(port);
  }

  /** Gives a port to a service; false when another one has it. */
  claim(protocol: PortConfig_Protocol, port: number, serviceId: string): boolean {
    const owner = this.owner(protocol, port);
    if (owner !== undefined) return owner === serviceId;
    this.#owners.get(protocol)?.set(port, serviceId);
    this.#used.get(protocol)?.add(port);
    return true;
  }

  /** As `claim`, for state that is read back: dynamic ports go on behind it. */
  restore(protocol: PortConfig_Protocol, port: number, serviceId: string): boolean {
    this.#used.get(protocol)?.continueAfter(port);
    return this.claim(protocol, port, serviceId);
  }

  /** The next free dynamic port, given to the service; undefined when there is none. */
  takeDynamic(protocol: PortConfig_Protocol, serviceId: string): number | undefined {
    const port = this.#used.get(protocol)?.take();
    if (port !== undefined) this.#owners.get(protocol)?.set(port, serviceId);
    return port;
  }

  release(protocol: PortConfig_Protocol, port: number, serviceId: string): boolean {
    if (this.owner(protocol, port) !== serviceId) return false;
    this.#owners.get(protocol)?.delete(port);
    return this.#used.get(protocol)?.delete(port) ?? false;
  }

  /** All ports in use, `protocol/port=service`, sorted. */
  dump(): string[] {
    const lines: string[] = [];
    for (const [protocol, owners] of this.#owners) {
      for (const [port, owner] of owners) lines.push(`${protocol}/${port}=${owner}`);
    }
    return lines.sort();
  }
}
