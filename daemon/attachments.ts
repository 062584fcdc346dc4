import {
  errorMessage,
  isShoalError,
  notFound,
  ShoalError,
  unavailable,
  type Clock,
  type Logger,
} from '../base/index.ts';
import type { Container, Containers, PlaceRequest, SwarmNetworks } from '../engine/index.ts';
import type { EndpointSpec, HostNetworks } from '../overlay-net/index.ts';
import { AttachNetworkRequest, type Task, type TaskStatus } from '../proto/index.ts';
import type { Agent, TaskController, TaskExit, TaskObservation } from '../worker/index.ts';

/** Longest wait for a place, ms (as Docker's). */
const ATTACH_TIMEOUT_MS = 20_000;
const CALL_TIMEOUT_MS = 15_000;
/** Pause before another try, ms: of a call that found no manager; of giving places back; of plugging in anew. */
const AGAIN_MS = { attach: 200, sweep: 2_000, replug: 5_000 };
const REPLUG_TRIES_MAX = 60;
/** Longest wait for the links of a network on this host, ms. */
const NETWORK_WAIT_MS = 30_000;

/** A place of one of this node's containers on a network of the swarm, as it was assigned: a task of no service. */
interface Place {
  readonly id: string;
  readonly containerId: string;
  readonly networkId: string;
  readonly networkName: string;
  readonly addresses: readonly string[];
  phase: 'new' | 'prepared' | 'running' | 'ended';
  /** The container has left it. */
  released: boolean;
  /** Who waits for its next phase. */
  readonly waiters: Set<() => void>;
}

/** This node's part in a swarm, as far as it matters here; undefined while the daemon starts. */
export interface Membership {
  readonly state: 'inactive' | 'pending' | 'active' | 'error' | 'locked';
  readonly agent: Pick<Agent, 'attachNetwork' | 'detachNetwork'> | undefined;
}

export interface AttachmentsOptions {
  networks: Pick<HostNetworks, 'waitForNetwork'>;
  clock: Clock;
  log: Logger;
  membership: () => Membership | undefined;
  /** The engine's containers; undefined while it opens. */
  containers: () => Pick<Containers, 'inspect' | 'connect' | 'disconnect'> | undefined;
}

/**
 * Places of plain containers on attachable networks. The managers give them as tasks to this node's agent; whoever asked
 * is told when the network stands here. Places that no container wants are given back, also after a crash: what is
 * assigned is compared with the containers that run.
 */
export class Attachments implements SwarmNetworks {
  readonly #o: AttachmentsOptions;
  readonly #places = new Map<string, Place>();
  /** Places that containers of this life of the daemon asked for. */
  readonly #held = new Set<string>();
  /** Requests under way; one whose container ends meanwhile is revoked. */
  readonly #asking = new Set<{ containerId: string; revoked: boolean }>();
  /** Who waits for a place to be assigned, by its id. */
  readonly #arrivals = new Map<string, () => void>();
  #sweeping = false;
  /** Something changed since the last look at all places. */
  #unswept = false;

  constructor(options: AttachmentsOptions) {
    this.#o = options;
  }

  async attach(request: PlaceRequest): Promise<Pick<EndpointSpec, 'networkId' | 'address' | 'address6'>> {
    const { containerId } = request;
    const state = this.#o.membership()?.state;
    if (state === 'inactive') throw notFound(`network ${request.network} not found`);
    const asking = { containerId, revoked: false };
    this.#asking.add(asking);
    const end = this.#o.clock.monotonic() + ATTACH_TIMEOUT_MS;
    let id = '';
    try {
      id = await this.#ask(request, end);
      this.#held.add(id);
      const place = await this.#running(id, end);
      if (asking.revoked) throw new ShoalError('Aborted', `container ${containerId} ended while it was attached`);
      const [address = '', address6 = ''] = [4, 6].map((family) =>
        place.addresses.find((one) => one.includes(':') === (family === 6)),
      );
      return { networkId: place.networkId, address, address6 };
    } catch (error) {
      this.#held.delete(id);
      if (id !== '') void this.#giveBack(id).catch(() => undefined);
      throw error;
    } finally {
      this.#asking.delete(asking);
      this.#sweep();
    }
  }

  /** Asks the managers until one answers. @throws ShoalError in Docker's words */
  async #ask({ network, containerId, names, addresses }: PlaceRequest, end: number): Promise<string> {
    const config = { target: network, aliases: [...names], addresses: [...addresses] };
    const request = AttachNetworkRequest.create({ config, container_id: containerId });
    const { clock } = this.#o;
    for (;;) {
      try {
        const agent = this.#o.membership()?.agent;
        if (agent === undefined) throw unavailable('this node does not take part in the swarm yet');
        return await agent.attachNetwork(request, CALL_TIMEOUT_MS);
      } catch (error) {
        const code = error instanceof ShoalError ? error.code : 'Unknown';
        const passing = code === 'Unavailable' || code === 'DeadlineExceeded' || code === 'Aborted';
        if (!passing) {
          const words = `rpc error: code = ${code} desc = ${errorMessage(error)}`;
          throw new ShoalError(code, `Could not attach to network ${network}: ${words}`, { cause: error });
        }
        if (clock.monotonic() + AGAIN_MS.attach >= end) throw tooLate(errorMessage(error));
        await clock.sleep(AGAIN_MS.attach);
      }
    }
  }

  /** Waits until a place is assigned to this node and its network stands. */
  async #running(id: string, end: number): Promise<Place> {
    for (;;) {
      const place = this.#places.get(id);
      if (place?.phase === 'running') return place;
      if (place?.phase === 'ended') throw unavailable('the managers have taken the place on the network back');
      const leftMs = end - this.#o.clock.monotonic();
      if (leftMs <= 0) throw tooLate('context deadline exceeded');
      await new Promise<void>((resolve) => {
        const timer = this.#o.clock.after(leftMs, () => wake());
        const wake = (): void => {
          timer.cancel();
          this.#arrivals.delete(id);
          place?.waiters.delete(wake);
          resolve();
        };
        if (place === undefined) this.#arrivals.set(id, wake);
        else place.waiters.add(wake);
      });
    }
  }

  detach(containerId: string, networkId?: string): void {
    for (const asking of this.#asking)
      if (asking.containerId === containerId) asking.revoked ||= networkId === undefined;
    for (const place of this.#places.values()) {
      if (place.containerId !== containerId || (networkId ?? place.networkId) !== place.networkId) continue;
      place.released = true;
      this.#held.delete(place.id);
    }
    this.#sweep();
  }

  /** The handle by which the agent drives a place. */
  controller(task: Task): TaskController {
    const [attachment] = task.networks;
    const place: Place = {
      id: task.id,
      containerId: task.spec?.attachment?.container_id ?? '',
      networkId: attachment?.network?.id ?? '',
      networkName: attachment?.network?.spec?.annotations?.name ?? '',
      addresses: attachment?.addresses ?? [],
      phase: 'new',
      released: false,
      waiters: new Set(),
    };
    // Taken over from an earlier life of the daemon.
    if (this.#user(place) !== undefined) place.phase = 'running';
    this.#places.set(place.id, place);
    this.#arrivals.get(place.id)?.();
    this.#sweep();
    return new PlaceController(place, {
      pid: () => this.#container(place.containerId)?.pid ?? 0,
      prepare: (signal) => this.#o.networks.waitForNetwork(place.networkId, NETWORK_WAIT_MS, signal),
      ended: () => this.#lost(place),
      removed: () => this.#places.delete(place.id),
    });
  }

  /** This node is no part of the swarm any more: containers leave its networks. */
  async leave(): Promise<void> {
    const places = [...this.#places.values()];
    this.#places.clear();
    this.#held.clear();
    for (const place of places) {
      if (this.#user(place) === undefined) continue;
      await this.#o
        .containers()
        ?.disconnect(place.containerId, place.networkId)
        .catch((error: unknown) => {
          this.#o.log.warn('a container could not leave a network of the swarm', {
            container: place.containerId,
            error,
          });
        });
    }
  }

  #container(id: string): Container | undefined {
    try {
      return this.#o.containers()?.inspect(id);
    } catch (error) {
      if (isShoalError(error, 'NotFound')) return undefined;
      throw error;
    }
  }

  /** The container, when it runs and has the place's interface. */
  #user(place: Place): Container | undefined {
    const container = this.#container(place.containerId);
    if (place.released || (container?.state !== 'running' && container?.state !== 'paused')) return undefined;
    const has = container.endpoints.some(({ networkId, address }) => {
      return networkId === place.networkId && place.addresses.includes(address);
    });
    return has ? container : undefined;
  }

  #isWanted(place: Place): boolean {
    if (this.#held.has(place.id) || this.#user(place) !== undefined) return true;
    // Its request may be about to be answered.
    return [...this.#asking].some(({ containerId }) => containerId === place.containerId);
  }

  /** Gives places back that no container wants; goes on until none is left. */
  #sweep(): void {
    this.#unswept = true;
    if (!this.#sweeping) void this.#sweepAll();
  }

  async #sweepAll(): Promise<void> {
    this.#sweeping = true;
    while (this.#unswept) {
      this.#unswept = false;
      for (const place of this.#places.values()) {
        if (!this.#isWanted(place) && !(await this.#release(place))) break;
      }
    }
    this.#sweeping = false;
  }

  /** Gives one place back; false when that must be tried again later. */
  async #release({ id, containerId: container, networkName: network }: Place): Promise<boolean> {
    try {
      await this.#giveBack(id);
      // Until the agent hears of it, it is not to be given back once more.
      this.#places.delete(id);
      return true;
    } catch (error) {
      this.#o.log.debug('a place is given back later', { container, network, error: errorMessage(error) });
      this.#o.clock.after(AGAIN_MS.sweep, () => this.#sweep());
      return false;
    }
  }

  async #giveBack(id: string): Promise<void> {
    const membership = this.#o.membership();
    if (membership?.state === 'inactive') return;
    if (membership?.agent === undefined) throw unavailable('this node does not take part in the swarm yet');
    await membership.agent.detachNetwork(id, CALL_TIMEOUT_MS);
  }

  /** The managers ended a place. A container that still has it is plugged in anew, if they let it. */
  #lost(place: Place): void {
    for (const wake of [...place.waiters]) wake();
    const container = this.#user(place);
    this.#held.delete(place.id);
    if (container === undefined) return;
    this.#replug(place, container).catch((error: unknown) => {
      const { networkName: network, containerId } = place;
      this.#o.log.warn('a container has lost its network', { container: containerId, network, error });
    });
  }

  async #replug(place: Place, container: Container): Promise<void> {
    const { log, clock } = this.#o;
    const { networkId, networkName: network } = place;
    const { network: config } = container.config;
    const wanted = config.mode === 'sandbox' ? config.endpoints : [];
    const endpoint = wanted.find((one) => one.networkId === networkId || one.networkId === network);
    log.info('the managers ended a place on a network; the container is plugged in anew', {
      id: container.id,
      network,
    });
    const containers = this.#o.containers();
    await containers?.disconnect(container.id, networkId);
    for (let tries = 1; endpoint !== undefined; tries++) {
      try {
        await containers?.connect(container.id, endpoint);
        return;
      } catch (error) {
        if (tries >= REPLUG_TRIES_MAX || !isShoalError(error, 'Unavailable')) throw error;
        await clock.sleep(AGAIN_MS.replug);
        if (this.#container(container.id)?.state !== 'running') return;
      }
    }
  }
}

function tooLate(why: string): ShoalError {
  const words = 'attaching to network failed, make sure your network options are correct and check manager logs';
  return unavailable(`${words}: ${why}`);
}

interface PlaceHost {
  pid(): number;
  prepare(signal: AbortSignal): Promise<void>;
  ended(): void;
  removed(): void;
}

/** A place as the agent's runner drives it: it "runs" from when its network stands until the managers end it. */
class PlaceController implements TaskController {
  readonly #place: Place;
  readonly #host: PlaceHost;

  constructor(place: Place, host: PlaceHost) {
    this.#place = place;
    this.#host = host;
  }

  async prepare(signal: AbortSignal): Promise<void> {
    await this.#host.prepare(signal);
    if (this.#place.phase === 'new') this.#become('prepared');
  }

  async start(): Promise<void> {
    if (this.#place.phase === 'prepared') this.#become('running');
  }

  #become(phase: Place['phase']): void {
    this.#place.phase = phase;
    for (const wake of [...this.#place.waiters]) wake();
  }

  async observe(): Promise<TaskObservation> {
    const states = { new: 'absent', prepared: 'created', running: 'running', ended: 'exited' } as const;
    const { phase } = this.#place;
    return { state: states[phase], ...(phase === 'ended' ? { exit: { exitCode: 0 } } : {}) };
  }

  async wait(signal: AbortSignal): Promise<TaskExit> {
    while (this.#place.phase !== 'ended') {
      await new Promise<void>((resolve, reject) => {
        const wake = (): void => {
          signal.removeEventListener('abort', onAbort);
          this.#place.waiters.delete(wake);
          resolve();
        };
        const onAbort = (): void => {
          this.#place.waiters.delete(wake);
          reject(signal.reason as Error);
        };
        if (signal.aborted) return onAbort();
        signal.addEventListener('abort', onAbort, { once: true });
        this.#place.waiters.add(wake);
      });
    }
    return { exitCode: 0 };
  }

  async shutdown(): Promise<void> {
    if (this.#place.phase === 'ended') return;
    this.#become('ended');
    this.#host.ended();
  }

  async remove(): Promise<void> {
    await this.shutdown();
    this.#host.removed();
  }

  async runtimeStatus(): Promise<Pick<TaskStatus, 'container' | 'port_status'>> {
    const container = { container_id: this.#place.containerId, pid: this.#host.pid(), exit_code: 0 };
    return { container, port_status: null };
  }

  async *logs(): AsyncIterable<never> {
    // The container's own log is read on its host.
  }
}
