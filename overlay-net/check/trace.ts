/** One connection followed step by step: what this host can say of its source, or of its target. */
import {
  NetworkTraceStep,
  PortConfig_Protocol,
  type NetworkEndpoint,
  type NetworkTraceOrder,
} from '../../proto/index.ts';
import { bareIp, macOf } from '../ip4.ts';
import type { Overlay } from '../overlays.ts';
import { itemsOf } from '../plan.ts';
import { askResolver } from './ask-resolver.ts';
import { tryConnect } from './connect.ts';
import { echo, type EchoOutcome } from './icmp.ts';
import { listeningOn } from './listening.ts';
import { localTasks, placeOf, type CheckOptions, type LocalTask } from './view.ts';

/** Tasks of a service that are followed. */
export const TARGETS_MAX = 8;
const TIMEOUT_MS = 1500;

/** The steps of one trace on this host. */
class Trace {
  readonly steps: NetworkTraceStep[] = [];
  readonly #order: NetworkTraceOrder;
  readonly #overlay: Overlay;
  readonly #options: CheckOptions;

  constructor(order: NetworkTraceOrder, overlay: Overlay, options: CheckOptions) {
    this.#order = order;
    this.#overlay = overlay;
    this.#options = options;
  }

  #say(name: string, right: boolean, words: string): void {
    this.steps.push(NetworkTraceStep.create({ name, right, words }));
  }

  get #protocol(): 'tcp' | 'udp' {
    return this.#order.protocol === PortConfig_Protocol.UDP ? 'udp' : 'tcp';
  }

  #endpoint(taskId: string): NetworkEndpoint | undefined {
    return this.#overlay.table.endpoints.find((one) => one.task_id === taskId);
  }

  /** A task's container on this host; says so when it is missing. */
  #container(taskId: string): { task: LocalTask; endpoint: NetworkEndpoint } | undefined {
    const endpoint = this.#endpoint(taskId);
    if (endpoint === undefined) {
      this.#say('table', false, `this host's table of network ${this.#overlay.facts.name} has no task ${taskId}`);
      return undefined;
    }
    const address = bareIp(endpoint.address);
    const task = localTasks(this.#overlay, this.#options.sandboxes).find((one) => one.leg.address === address);
    if (task === undefined) this.#say('container', false, `${placeOf(endpoint)} has no running container here`);
    else this.#say('container', true, `${placeOf(endpoint)}, ${task.leg.mac}, MTU ${this.#overlay.mtu}`);
    return task === undefined ? undefined : { task, endpoint };
  }

  async source(): Promise<void> {
    const from = this.#container(this.#order.from_task_id);
    if (from === undefined) return;
    const namespace = from.task.record.result.namespacePath;
    const targets = this.#order.to_task_ids.slice(0, TARGETS_MAX).map((id) => this.#endpoint(id) ?? id);
    const named = await this.#resolution(namespace);
    for (const target of targets) {
      if (typeof target === 'string') this.#say('table', false, `this host's table has no task ${target}`);
      else await this.#wayTo(namespace, target);
    }
    const [first] = targets;
    const address = named ?? (typeof first === 'object' ? bareIp(first.address) : undefined);
    if (address !== undefined) await this.#connection(namespace, address);
  }

  /** The address that the name stands for; undefined when no name was given, or it has none. */
  async #resolution(namespace: string): Promise<string | undefined> {
    const { name } = this.#order;
    if (name === '') return undefined;
    const answer = await askResolver(namespace, name, { ...this.#options, timeoutMs: TIMEOUT_MS });
    const said = answer.kind === 'addresses' ? answer.addresses.join(', ') || 'no address' : 'no answer';
    const found = answer.kind === 'addresses' ? answer.addresses[0] : undefined;
    this.#say('resolution', found !== undefined, `127.0.0.11: ${name} is ${said}`);
    if (found !== undefined) await this.#balancing(namespace, found);
    return found;
  }

  async #balancing(namespace: string, address: string): Promise<void> {
    const { table } = this.#overlay;
    const service = table.services.find((one) => bareIp(one.vip) === address);
    if (service === undefined) return;
    const tasks = table.endpoints.filter((one) => one.serving && one.service_id === service.service_id);
    const [outcome] = await this.#ask(namespace, [{ address }]);
    const behind = tasks.slice(0, TARGETS_MAX).map((one) => bareIp(one.address));
    const more = tasks.length > behind.length ? ` and ${tasks.length - behind.length} more` : '';
    const said = tasks.length === 0 ? 'no task that serves' : behind.join(', ') + more;
    this.#say('balancing', outcome?.kind === 'answered', `${address} stands for ${said}: ${this.#words(outcome)}`);
  }

  #ask(namespace: string | null, targets: { address: string; bytes?: number }[]): Promise<EchoOutcome[]> {
    return echo(namespace, targets, { ...this.#options, timeoutMs: TIMEOUT_MS });
  }

  #words(outcome: EchoOutcome | undefined): string {
    switch (outcome?.kind) {
      case 'answered':
        return `answers in ${(outcome.rttUs / 1000).toFixed(2)} ms`;
      case 'refused':
        return 'refused by the own link';
      case 'error':
        return outcome.words;
      case 'silent':
      case undefined:
        return 'no answer';
    }
  }

  async #wayTo(namespace: string, target: NetworkEndpoint): Promise<void> {
    const address = bareIp(target.address);
    if (target.node_id !== this.#options.overlays.underlay?.nodeId) await this.#tunnel(target);
    const { mtu } = this.#overlay;
    const [small, full, over] = await this.#ask(namespace, [
      { address },
      { address, bytes: mtu },
      { address, bytes: mtu + 1 },
    ]);
    this.#say('reachability', small?.kind === 'answered', `${placeOf(target)}: ${this.#words(small)}`);
    // A task's way to itself is its loopback link.
    if (small?.kind !== 'answered' || target.task_id === this.#order.from_task_id) return;
    const right = full?.kind === 'answered' && over?.kind === 'refused';
    const larger = over?.kind === 'refused' ? 'refused' : 'not refused';
    this.#say('mtu', right, `${mtu} bytes: ${this.#words(full)}; ${mtu + 1} bytes: ${larger}`);
  }

  /** Neighbour and forwarding entry of a task on another host, and that host's answer. */
  async #tunnel(target: NetworkEndpoint): Promise<void> {
    const items = itemsOf(await this.#options.kernel.state(this.#overlay.namespace));
    const address = bareIp(target.address);
    if (this.#overlay.facts.ingress) return;
    const mac = target.mac.toLowerCase() || macOf(address);
    const neighbour = items.get(`neigh ${address}`);
    const entry = items.get(`fdb ${mac}`);
    const hasMac = neighbour?.kind === 'neigh' ? neighbour.mac : 'nothing';
    this.#say('neighbour', hasMac === mac, `${address} is at ${hasMac}${hasMac === mac ? '' : `, it must be ${mac}`}`);
    const leads = (entry?.kind === 'fdb' ? entry.to : undefined) ?? 'nothing';
    const wanted = leads === target.vtep ? '' : `, it must lead to ${target.vtep || 'a host that is not known yet'}`;
    this.#say('fdb', leads === target.vtep, `${mac} leads to ${leads}${wanted}`);
    if (target.vtep === '') return;
    const { underlay } = this.#options.overlays;
    const bytes = underlay?.mtu ?? 0;
    const [small, full] = await this.#ask(null, [{ address: target.vtep }, { address: target.vtep, bytes }]);
    const said = `${target.vtep}: ${this.#words(small)}; ${bytes} bytes: ${this.#words(full)}`;
    this.#say('underlay', small?.kind === 'answered' && full?.kind === 'answered', said);
  }

  async #connection(namespace: string, address: string): Promise<void> {
    const { port } = this.#order;
    const target = { protocol: this.#protocol, address, port };
    const outcome = await tryConnect(namespace, target, { clock: this.#options.clock, timeoutMs: TIMEOUT_MS });
    const what = `${this.#protocol} ${address}:${port}`;
    switch (outcome.kind) {
      case 'open':
        return this.#say('connection', true, `${what} answers`);
      case 'closed':
        return this.#say('connection', false, `${what} is refused: nothing listens there`);
      case 'silent':
        // A server of datagrams may well say nothing to an empty one.
        return this.#say('connection', this.#protocol === 'udp', `${what} says nothing`);
      case 'error':
        return this.#say('connection', false, `${what}: ${outcome.words}`);
    }
  }

  async target(): Promise<void> {
    for (const id of this.#order.to_task_ids.slice(0, TARGETS_MAX)) {
      const to = this.#container(id);
      if (to === undefined) continue;
      this.#listening(to.task);
      const from = this.#endpoint(this.#order.from_task_id);
      if (from === undefined) this.#say('table', false, `this host's table has no task ${this.#order.from_task_id}`);
      else if (from.node_id !== this.#options.overlays.underlay?.nodeId) await this.#tunnel(from);
    }
  }

  #listening(task: LocalTask): void {
    const { port } = this.#order;
    const found = listeningOn(task.record.result.namespacePath, this.#protocol, port);
    const open = found.some((address) => !address.startsWith('127.'));
    const only = open || found.length === 0 ? '' : ' only, which others do not reach';
    const said = found.length === 0 ? 'nothing listens' : `listens on ${found.join(', ')}${only}`;
    this.#say('listening', open, `${this.#protocol} port ${port}: ${said}`);
  }
}

/** Follows a connection as far as this host sees it. */
export async function traceHere(
  order: NetworkTraceOrder,
  overlay: Overlay,
  options: CheckOptions,
): Promise<NetworkTraceStep[]> {
  const trace = new Trace(order, overlay, options);
  await (order.target_side ? trace.target() : trace.source());
  return trace.steps;
}
