import { newId, ShoalError, type Clock, type Logger, type Random } from '../../base/index.ts';
import {
  CheckNetworksResponse,
  NetworkCheckOrder,
  NodeStatus_State,
  type CheckNetworksRequest,
  type ListenChecksRequest,
  type NetworkCheckReport,
  type ReportCheckResponse,
} from '../../proto/index.ts';
import { orAborted, type StreamCall, type UnaryCall } from '../dispatcher/calls.ts';
import { Channel } from '../logs/channel.ts';
import type { Store } from '../store/types.ts';
import { networkVerdicts, trimmed, type NodeAnswer } from './merge.ts';
import { nodesByNetwork, planTrace } from './targets.ts';

/** Questions of clients at once. */
export const CHECKS_MAX = 8;
/** Networks that one host is asked for at once. */
const NETWORKS_MAX = 64;
/** Orders held for one agent. */
const ORDERS_MAX = CHECKS_MAX * 4;
/** Longest wait for an agent's report, ms: its own bound is 20 s. */
export const REPORT_TIMEOUT_MS = 25_000;
/** Right after an election agents are on their way to the new leader, ms. */
export const LISTEN_GRACE_MS = 3_000;

export interface NetworkCheckerOptions {
  store: Store;
  clock: Clock;
  random: Random;
  log: Logger;
  /** Has an agent told that there are checks for it. */
  summon: (nodeId: string) => void;
}

interface Pending {
  nodeId: string;
  order: NetworkCheckOrder;
  settle: (answer: NodeAnswer) => void;
  told: boolean;
}

/**
 * Brings questions about networks to the agents, and puts their answers together. Only a leader's agents listen here;
 * nothing is kept but what is under way.
 */
export class NetworkChecker {
  readonly #o: NetworkCheckerOptions;
  readonly #listeners = new Map<string, Channel<NetworkCheckOrder>>();
  readonly #pending = new Map<string, Pending>();
  /** How often agents were asked to listen. */
  #summons = 0;
  readonly #summoned = new Map<string, number>();
  #running = 0;

  constructor(options: NetworkCheckerOptions) {
    this.#o = options;
  }

  /** Not 0 while a node has orders to fetch; another number each time that it is to come. */
  waitingFor(nodeId: string): number {
    return this.#summoned.get(nodeId) ?? 0;
  }

  /** An agent asks what it is to check. It listens when it is summoned, and for a while after. */
  async listen(call: StreamCall<ListenChecksRequest, NetworkCheckOrder>): Promise<void> {
    const channel = new Channel<NetworkCheckOrder>(ORDERS_MAX);
    this.#listeners.get(call.nodeId)?.close(new ShoalError('Aborted', 'the agent listens on a newer stream'));
    this.#listeners.set(call.nodeId, channel);
    // At once, so that nothing is told to who has gone.
    const close = (): void => {
      channel.close();
      if (this.#listeners.get(call.nodeId) === channel) this.#lost(call.nodeId);
    };
    call.signal.addEventListener('abort', close, { once: true });
    if (call.signal.aborted) close();
    for (const pending of this.#pending.values()) if (pending.nodeId === call.nodeId) this.#tell(pending);
    try {
      for (let next = await channel.read(); next !== undefined; next = await channel.read()) {
        await orAborted(call.send(next), call.signal);
      }
    } catch (error) {
      if (!call.signal.aborted) throw error;
    } finally {
      call.signal.removeEventListener('abort', close);
      close();
    }
  }

  #lost(nodeId: string): void {
    this.#listeners.delete(nodeId);
    for (const pending of this.#pending.values()) {
      if (pending.nodeId === nodeId && pending.told) pending.settle({ error: 'its connection to the manager broke' });
    }
  }

  /** An agent tells what it found. @throws ShoalError NotFound when nobody waits for it, or another was asked */
  report(call: UnaryCall<NetworkCheckReport>): ReportCheckResponse {
    const pending = this.#pending.get(call.request.id);
    if (pending === undefined || pending.nodeId !== call.nodeId) {
      throw new ShoalError('NotFound', `nobody waits for network check ${call.request.id}`);
    }
    const report = trimmed(call.request);
    pending.settle({ report, error: report.error });
    return {};
  }

  /** @throws ShoalError in words for the user */
  async check(request: CheckNetworksRequest): Promise<CheckNetworksResponse> {
    if (this.#running >= CHECKS_MAX) {
      throw new ShoalError(
        'ResourceExhausted',
        `${CHECKS_MAX} network checks already run; try again when one has ended`,
      );
    }
    this.#running++;
    try {
      return await (request.trace_from === '' ? this.#checkAll(request.network) : this.#trace(request));
    } finally {
      this.#running--;
    }
  }

  async #checkAll(reference: string): Promise<CheckNetworksResponse> {
    const view = this.#o.store.view();
    const nodes = nodesByNetwork(view, reference);
    const orders = new Map<string, string[]>();
    for (const [networkId, ids] of nodes) {
      for (const nodeId of ids) orders.set(nodeId, [...(orders.get(nodeId) ?? []), networkId]);
    }
    const answers = new Map<string, NodeAnswer>();
    const ask = async (nodeId: string, networkIds: string[]): Promise<void> => {
      const order = { network_ids: networkIds.slice(0, NETWORKS_MAX) };
      answers.set(nodeId, await this.#ask(nodeId, order));
    };
    await Promise.all([...orders].map(([nodeId, networkIds]) => ask(nodeId, networkIds)));
    const networks = networkVerdicts(this.#o.store.view(), nodes, answers);
    return CheckNetworksResponse.create({ networks, hostnames: this.#hostnames() });
  }

  async #trace(request: CheckNetworksRequest): Promise<CheckNetworksResponse> {
    const { orders } = planTrace(this.#o.store.view(), request);
    const answers = await Promise.all(orders.map(({ nodeId, order }) => this.#ask(nodeId, { trace: order })));
    const trace = answers.flatMap(({ report, error }, index) => {
      const nodeId = orders[index]?.nodeId ?? '';
      const steps = (report?.trace ?? []).map((step) => ({ ...step, node_id: nodeId }));
      return error === '' ? steps : [...steps, { name: 'host', right: false, words: error, node_id: nodeId }];
    });
    return CheckNetworksResponse.create({ trace, hostnames: this.#hostnames() });
  }

  #hostnames(): Record<string, string> {
    const nodes = this.#o.store.view().list('node');
    return Object.fromEntries(nodes.map((node) => [node.id, node.description?.hostname || node.id]));
  }

  /** One order to one agent. Never rejects. */
  #ask(nodeId: string, what: Parameters<typeof NetworkCheckOrder.create>[0]): Promise<NodeAnswer> {
    const { clock, random, store } = this.#o;
    const id = newId(random);
    const order = NetworkCheckOrder.create({ ...what, id });
    return new Promise<NodeAnswer>((resolve) => {
      const timer = clock.after(REPORT_TIMEOUT_MS, () => {
        pending.settle({ error: `it did not answer within ${REPORT_TIMEOUT_MS / 1000} s` });
      });
      const grace = clock.after(LISTEN_GRACE_MS, () => {
        if (!pending.told) pending.settle({ error: 'its agent takes no network checks' });
      });
      const settle = (answer: NodeAnswer): void => {
        timer.cancel();
        grace.cancel();
        this.#pending.delete(id);
        if (![...this.#pending.values()].some((other) => other.nodeId === nodeId)) this.#summoned.delete(nodeId);
        resolve(answer);
      };
      const pending: Pending = { nodeId, order, settle, told: false };
      this.#pending.set(id, pending);
      this.#tell(pending);
      const state = store.view().get('node', nodeId)?.status?.state;
      if (!pending.told && state === NodeStatus_State.DOWN) settle({ error: 'the host is down' });
    });
  }

  #tell(pending: Pending): void {
    if (pending.told) return;
    const listener = this.#listeners.get(pending.nodeId);
    if (listener === undefined) {
      this.#summoned.set(pending.nodeId, ++this.#summons);
      this.#o.summon(pending.nodeId);
      return;
    }
    pending.told = true;
    listener.write(pending.order).catch((error: unknown) => {
      this.#o.log.warn('an agent could not be asked for a network check', { node: pending.nodeId, error });
    });
  }
}
