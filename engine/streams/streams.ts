import { constants } from 'node:os';
import { errorMessage, ShoalError, SystemCallError, unavailable, type Clock, type Logger } from '../../base/index.ts';
import type { Runtime } from '../runtime/conmon.ts';
import { isAlive, type ProcessIdentity } from '../runtime/process.ts';
import type { Attached, Container } from '../types.ts';
import type { ClientWants } from './client.ts';
import { CLIENTS_MAX, StreamHub, type HubProcess } from './hub.ts';

export interface StreamsOptions {
  clock: Clock;
  log: Logger;
  runtime: Runtime;
}

/** Who is attached to which container. A container that nobody is attached to has no entry. */
export class ContainerStreams {
  readonly #options: StreamsOptions;
  readonly #hubs = new Map<string, StreamHub>();

  constructor(options: StreamsOptions) {
    this.#options = options;
  }

  /**
   * Joins a client, before or after the start of the container.
   * @param init of a container that has a process, also one that waits to be let go.
   */
  attach(
    container: Container,
    init: ProcessIdentity | undefined,
    wants: ClientWants,
    detachKeys: Uint8Array,
    onDetach: () => void,
  ): Attached {
    const { id } = container;
    const known = this.#hubs.get(id);
    // One that is still connected to a process that has ended is left to its clients.
    const stale = known?.connected === true && init === undefined;
    const hub = known === undefined || stale ? this.#makeHub(id, onDetach) : known;
    if (hub.clientCount >= CLIENTS_MAX) {
      throw new ShoalError('ResourceExhausted', `${CLIENTS_MAX} clients are attached to container ${id} already`);
    }
    const running = init !== undefined;
    const reached = !running || hub.connected || this.#connect(hub, container, init);
    const attached = hub.attach(wants, container.config.tty, detachKeys);
    if (!reached) hub.end();
    return attached;
  }

  #makeHub(id: string, onDetach: () => void): StreamHub {
    const { clock, log } = this.#options;
    const hub = new StreamHub({
      clock,
      log: log.with({ container: id }),
      onDetach,
      onIdle: () => {
        if (hub.idle && this.#hubs.get(id) === hub) this.#hubs.delete(id);
      },
    });
    this.#hubs.set(id, hub);
    return hub;
  }

  /** Connects to the container's conmon; false when that has ended meanwhile. */
  #connect(hub: StreamHub, container: Container, init: ProcessIdentity): boolean {
    const { tty, stdinOnce } = container.config;
    const process: HubProcess = { tty, stdinOnce: stdinOnce === true && !tty, alive: () => isAlive(init) };
    try {
      hub.connect(this.#options.runtime.bundle(container.id), process);
      return true;
    } catch (error) {
      if (isGone(error)) return false;
      throw unavailable(`container ${container.id} cannot be attached to: ${errorMessage(error)}; try again`);
    }
  }

  /** The container's process exists and waits to be let go: clients that are here already see all of its output. */
  begin(container: Container, init: ProcessIdentity): void {
    const hub = this.#hubs.get(container.id);
    if (hub === undefined) return;
    if (hub.connected) {
      // The output of the run before is not all read yet: that hub is left to its clients.
      this.#hubs.delete(container.id);
      return;
    }
    try {
      if (!this.#connect(hub, container, init)) hub.end();
    } catch (error) {
      // The container runs without its clients rather than not at all.
      this.#options.log.warn('clients that waited for a container miss its output', { id: container.id, error });
      hub.end();
    }
  }

  /** The container could not be started, or is removed: nobody waits for it any longer. */
  abandon(id: string): void {
    this.#hubs.get(id)?.end();
  }

  /** The daemon goes; the containers go on. */
  close(): void {
    for (const hub of [...this.#hubs.values()]) hub.end();
  }
}

/** Nobody listens any more, or the bundle is taken down: the process has ended. */
function isGone(error: unknown): boolean {
  if (error instanceof SystemCallError)
    return [constants.errno.ENOENT, constants.errno.ECONNREFUSED].includes(error.errno);
  return (error as NodeJS.ErrnoException).code === 'ENOENT';
}
