import { Watch, type Clock, type Logger, type Subscription } from '../base/index.ts';
import type { EventFacts } from '../api/index.ts';
import type { EngineEvent } from '../engine/index.ts';
import type { Change, Store } from '../manager/index.ts';
import type { NetworkEvent } from '../overlay-net/index.ts';
import {
  NodeRole,
  NodeSpec_Availability,
  NodeStatus_State,
  timestampToMs,
  UpdateStatus_UpdateState,
} from '../proto/index.ts';
import type { Node, Service } from '../proto/index.ts';

/** Past events kept for `docker events --since`. */
const PAST_MAX = 4096;

/** All events of this daemon: its engine's, and on managers the swarm's. */
export class EventHub {
  readonly #watch = new Watch<EventFacts>();
  readonly #past: EventFacts[] = [];
  readonly #clock: Clock;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Events since the start of the daemon. */
  published = 0;

  publish(event: EventFacts): void {
    this.published += 1;
    if (this.#past.length >= PAST_MAX) this.#past.shift();
    this.#past.push(event);
    this.#watch.publish(event);
  }

  /** Readers of events now. */
  get listeners(): number {
    return this.#watch.subscriberCount;
  }

  close(): void {
    this.#watch.close();
  }

  /** Past events in range, then new ones; ends at `untilMs`, when `signal` aborts, or when the reader is too slow. */
  async *stream(query: { sinceMs?: number; untilMs?: number }, signal: AbortSignal): AsyncGenerator<EventFacts> {
    const live = this.#watch.subscribe();
    const { sinceMs, untilMs = Infinity } = query;
    const stop = (): void => live.close();
    signal.addEventListener('abort', stop, { once: true });
    const timer = Number.isFinite(untilMs)
      ? this.#clock.after(Math.max(0, untilMs - this.#clock.now()), stop)
      : undefined;
    try {
      if (sinceMs !== undefined) {
        yield* this.#past.filter((event) => event.timeMs >= sinceMs && event.timeMs <= untilMs);
      }
      for await (const event of live) if (event.timeMs <= untilMs) yield event;
    } finally {
      timer?.cancel();
      signal.removeEventListener('abort', stop);
      live.close();
    }
  }

  /** Publishes what a store's commits mean to users, until the store closes. */
  async followStore(store: Store, log: Logger): Promise<void> {
    for (;;) {
      const commits: Subscription<{ changes: Change[] }> = store.watch();
      for await (const { changes } of commits) {
        for (const change of changes) {
          const event = swarmEvent(change, this.#clock.now());
          if (event !== undefined) this.publish(event);
        }
      }
      if (!commits.overflowed) return;
      log.warn('swarm events were lost: more came at once than could be kept');
    }
  }
}

const NODE_STATES: Readonly<Record<NodeStatus_State, string>> = {
  [NodeStatus_State.UNKNOWN]: 'unknown',
  [NodeStatus_State.DOWN]: 'down',
  [NodeStatus_State.READY]: 'ready',
  [NodeStatus_State.DISCONNECTED]: 'disconnected',
};

const AVAILABILITIES: Readonly<Record<NodeSpec_Availability, string>> = {
  [NodeSpec_Availability.ACTIVE]: 'active',
  [NodeSpec_Availability.PAUSE]: 'pause',
  [NodeSpec_Availability.DRAIN]: 'drain',
};

/** `key.new` and `key.old` when a fact has changed. */
function diff(key: string, now: string, before: string): Record<string, string> {
  return now === before ? {} : { [`${key}.new`]: now, [`${key}.old`]: before };
}

/** Ports of the routing mesh that something else on a node has too. */
function clashes(node: Node): string {
  const all = node.description?.port_clashes ?? [];
  return all.map(({ port, protocol, holder }) => `${port}/${['tcp', 'udp', 'sctp'][protocol]} ${holder}`).join(', ');
}

/** What changed of a node or service that users are told; undefined when it is nothing of theirs. */
function details(change: Change): Record<string, string> | undefined {
  if (change.action !== 'update') return {};
  if (change.kind === 'node' && change.old !== undefined) {
    const { object: now, old } = change;
    const facts = {
      ...diff('state', NODE_STATES[now.status?.state ?? 0], NODE_STATES[old.status?.state ?? 0]),
      ...diff('availability', AVAILABILITIES[now.spec?.availability ?? 0], AVAILABILITIES[old.spec?.availability ?? 0]),
      ...diff('role', roleName(now.spec?.desired_role), roleName(old.spec?.desired_role)),
      ...diff('portclash', clashes(now), clashes(old)),
      ...diff('leader', String(now.manager_status?.leader ?? false), String(old.manager_status?.leader ?? false)),
    };
    return Object.keys(facts).length === 0 ? undefined : facts;
  }
  if (change.kind === 'service' && change.old !== undefined) {
    const { object: now, old } = change;
    return {
      ...diff('image', now.spec?.task?.container?.image ?? '', old.spec?.task?.container?.image ?? ''),
      ...diff('replicas', String(now.spec?.replicated?.replicas ?? ''), String(old.spec?.replicated?.replicas ?? '')),
      ...diff('updatestate', updateState(now), updateState(old)),
      ...scaleReason(now, old),
    };
  }
  return {};
}

/** Why the autoscaler has changed the number of replicas, when it was that. */
function scaleReason(now: Service, old: Service): Record<string, string> {
  if (now.autoscale === null || timestampToMs(now.autoscale.changed_at) === timestampToMs(old.autoscale?.changed_at)) {
    return {};
  }
  return { reason: now.autoscale.message };
}

/** Docker's word for where an update stands; empty when the service was never updated. */
function updateState(service: Service): string {
  const state = service.update_status?.state;
  const found = Object.entries(UpdateStatus_UpdateState).find(([, number]) => number === state);
  return found?.[0].toLowerCase() ?? '';
}

function roleName(role: NodeRole | undefined): string {
  return role === NodeRole.MANAGER ? 'manager' : 'worker';
}

function nameOf(change: Change): string {
  if (change.kind === 'node') return change.object.description?.hostname ?? '';
  if (change.kind === 'task' || change.kind === 'revision') return '';
  return change.object.spec?.annotations?.name ?? '';
}

/** The event of a change, or undefined for what is no user's matter (tasks, the cluster object). */
function swarmEvent(change: Change, timeMs: number): EventFacts | undefined {
  if (change.kind === 'task' || change.kind === 'cluster' || change.kind === 'revision') return undefined;
  const facts = details(change);
  if (facts === undefined) return undefined;
  return {
    type: change.kind,
    action: change.action,
    actorId: change.object.id,
    attributes: { name: nameOf(change), ...facts },
    scope: 'swarm',
    timeMs,
  };
}

/** What happened to a network of this host, as `docker events` tells it. */
export function networkEvent(event: NetworkEvent, timeMs: number): EngineEvent {
  const { action, networkId, networkName, driver, containerId } = event;
  const container = containerId === undefined ? {} : { container: containerId };
  return {
    type: 'network',
    action,
    actorId: networkId,
    attributes: { ...container, name: networkName, type: driver },
    timeMs,
  };
}
