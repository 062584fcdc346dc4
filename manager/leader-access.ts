import type { Client } from '@grpc/grpc-js';
import { isShoalError, unavailable, type Clock, type ShoalError } from '../base/index.ts';
import { callServerStream, callUnary } from '../identity/index.ts';
import {
  LogsService,
  type MethodDescription,
  type SubscribeLogsMessage,
  type SubscribeLogsRequest,
} from '../proto/index.ts';
import type { QuorumLoss } from './membership/index.ts';
import type { ManagerParts } from './parts.ts';
import { quorumMessage } from './quorum-words.ts';
import { NO_LEADER_MESSAGE } from './store/store.ts';

/** Time for one call on the leader, ms. */
const CALL_TIMEOUT_MS = 30_000;
/** How long a call waits for a leader to be elected, ms: two elections. */
const LEADER_WAIT_MS = 3_000;
const LEADER_POLL_MS = 25;

/** How grpc-js begins the text of a failure to connect. */
const NOT_CONNECTED = 'No connection established';

/** Whether a call failed before anything was done: there was no leader, or no connection to it. */
function neverBegun(error: unknown): boolean {
  if (!isShoalError(error, 'Unavailable')) return false;
  return error.message.startsWith(NO_LEADER_MESSAGE) || error.message.startsWith(NOT_CONNECTED);
}

type Route = { here: true } | { here: false; client: Client; addr: string };

/** A leader that vanished breaks no connection: the call it was to answer is given up when another leads. */
const LEADER_CHANGED = 'The leader of the swarm changed while it was answering: look whether the change was made';

/** Brings calls of this process to the leader, wherever it is. */
export class LeaderAccess {
  readonly #parts: ManagerParts;
  readonly #clock: Clock;

  constructor(parts: ManagerParts, options: { clock: Clock }) {
    this.#parts = parts;
    this.#clock = options.clock;
  }

  #route(): Route | undefined {
    if (this.#parts.leadership.leading) return { here: true };
    const addr = this.#parts.leaderAddr();
    return addr === undefined ? undefined : { here: false, client: this.#parts.clients.to(addr), addr };
  }

  /** Docker's words, with what is known of the other managers. */
  #noLeader(loss: QuorumLoss | undefined): ShoalError {
    return unavailable(loss === undefined ? NO_LEADER_MESSAGE : quorumMessage(loss, this.#parts.wordsContext()));
  }

  async #await(endMs: number): Promise<Route> {
    for (;;) {
      const route = this.#route();
      if (route !== undefined) return route;
      // Where it is known that nobody can lead, waiting would only hide it.
      const loss = this.#parts.quorum.loss();
      if (loss !== undefined || this.#clock.monotonic() >= endMs) throw this.#noLeader(loss);
      await this.#clock.sleep(LEADER_POLL_MS);
    }
  }

  /** Calls the leader for as long as it leads, or no other is known to. */
  async #callThere<Request, Response>(
    route: Route & { here: false },
    method: MethodDescription<Request, Response>,
    request: Request,
  ): Promise<Response> {
    const given = new AbortController();
    const done = new AbortController();
    const watch = async (): Promise<void> => {
      let knownAt = this.#clock.monotonic();
      while (!done.signal.aborted) {
        const addr = this.#parts.leadership.leading ? '' : this.#parts.leaderAddr();
        const nowMs = this.#clock.monotonic();
        if (addr === route.addr) knownAt = nowMs;
        else if (addr !== undefined) given.abort(unavailable(LEADER_CHANGED));
        else {
          const loss = this.#parts.quorum.loss();
          if (loss !== undefined || nowMs - knownAt >= LEADER_WAIT_MS) given.abort(this.#noLeader(loss));
        }
        if (given.signal.aborted) return;
        await this.#clock.sleep(LEADER_POLL_MS, done.signal).catch(() => undefined);
      }
    };
    const watching = watch();
    try {
      const options = { timeoutMs: CALL_TIMEOUT_MS, signal: given.signal };
      return await callUnary(route.client, method, request, options);
    } finally {
      done.abort();
      await watching;
    }
  }

  /** @param repeatable whether the call may be made again when its outcome is not known. */
  async call<Request, Response>(
    method: MethodDescription<Request, Response>,
    request: Request,
    here: (request: Request) => Promise<Response>,
    repeatable: boolean,
  ): Promise<Response> {
    const endMs = this.#clock.monotonic() + LEADER_WAIT_MS;
    for (;;) {
      const route = await this.#await(endMs);
      try {
        if (route.here) return await here(request);
        return await this.#callThere(route, method, request);
      } catch (error) {
        const again = neverBegun(error) || (repeatable && isShoalError(error, 'Unavailable', 'Aborted'));
        if (!again || this.#clock.monotonic() >= endMs) throw error;
        const loss = this.#parts.quorum.loss();
        if (loss !== undefined && neverBegun(error)) throw this.#noLeader(loss);
        await this.#clock.sleep(LEADER_POLL_MS);
      }
    }
  }

  /** A linearizable read on this manager, refused as calls are. @throws ShoalError Unavailable */
  async confirmedRead(barrier: () => Promise<void>): Promise<void> {
    const endMs = this.#clock.monotonic() + LEADER_WAIT_MS;
    for (;;) {
      await this.#await(endMs);
      try {
        await barrier();
        return;
      } catch (error) {
        if (!isShoalError(error, 'Unavailable') || this.#clock.monotonic() >= endMs) throw error;
        await this.#clock.sleep(LEADER_POLL_MS);
      }
    }
  }

  async *subscribeLogs(request: SubscribeLogsRequest, signal: AbortSignal): AsyncGenerator<SubscribeLogsMessage> {
    const route = await this.#await(this.#clock.monotonic() + LEADER_WAIT_MS);
    if (route.here) yield* this.#parts.broker.subscribe(request, signal);
    else yield* callServerStream(route.client, LogsService.SubscribeLogs, request, { signal });
  }
}
