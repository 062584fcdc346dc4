import { backoffDelayMs, type Clock, type Logger, type Random, type Subscription } from '../../base/index.ts';
import type { Network, Service, Task } from '../../proto/index.ts';
import type { Change, Commit, LeaderDuty, Store, Transaction } from '../store/types.ts';
import { allocateNetwork } from './networks.ts';
import { allocateService } from './services.ts';
import { AllocatorState, awaitsAllocation, holdsAddresses, isAllocated } from './state.ts';
import { allocateTask, explainWait } from './tasks.ts';

export interface AllocatorDeps {
  store: Store;
  clock: Clock;
  random: Random;
  log: Logger;
}

/** Objects that one transaction writes at the most. */
export const ALLOCATIONS_PER_TRANSACTION_MAX = 400;

const RETRY = { baseMs: 100, capMs: 5_000 };

/** What is to be looked at, by kind: ids in the order in which they came. */
interface Queue {
  networks: Set<string>;
  services: Set<string>;
  tasks: Set<string>;
}

/** One stretch of the allocator's work, from a full reading of the store to its end or a failed write. */
class Allocation {
  readonly #deps: AllocatorDeps;
  readonly #state: AllocatorState;
  readonly #queue: Queue = { networks: new Set(), services: new Set(), tasks: new Set() };
  /** Objects that could not be given what they need, with the reason; tried again when anything comes free. */
  readonly #stuck = { networks: new Map<string, string>(), services: new Map<string, string>() };
  readonly #stuckTasks = new Set<string>();

  constructor(deps: AllocatorDeps) {
    this.#deps = deps;
    const view = deps.store.view();
    this.#state = AllocatorState.rebuild(view, deps.log);
    for (const network of view.list('network')) if (!isAllocated(network)) this.#queue.networks.add(network.id);
    for (const service of view.list('service')) this.#queue.services.add(service.id);
    for (const task of view.list('task')) if (awaitsAllocation(task)) this.#queue.tasks.add(task.id);
  }

  note(change: Change): void {
    switch (change.kind) {
      case 'network':
        return this.#noteNetwork(change.object, change.action === 'remove');
      case 'service':
        return this.#noteService(change.object, change.action === 'remove');
      case 'task':
        return this.#noteTask(change.object, change.action === 'remove');
      case 'cluster':
        if (this.#stuck.networks.size > 0) this.#retry();
        return undefined;
      case 'node':
      case 'secret':
      case 'config':
      case 'revision':
        return undefined;
    }
  }

  #noteNetwork(network: Network, removed: boolean): void {
    if (removed) {
      this.#queue.networks.delete(network.id);
      this.#stuck.networks.delete(network.id);
      this.#state.releaseNetwork(network.id);
      this.#retry();
    } else if (isAllocated(network)) {
      this.#state.adoptNetwork(network);
      this.#retry();
    } else {
      this.#queue.networks.add(network.id);
    }
  }

  #noteService(service: Service, removed: boolean): void {
    if (!removed) {
      // Not from the event: one that was committed before our last write still tells of ports that were given back.
      const current = this.#deps.store.view().get('service', service.id);
      if (current !== undefined) this.#state.adoptService(current);
      this.#queue.services.add(service.id);
      return;
    }
    this.#queue.services.delete(service.id);
    this.#stuck.services.delete(service.id);
    if (this.#state.releaseService(service)) this.#retry();
  }

  #noteTask(task: Task, removed: boolean): void {
    if (!removed && awaitsAllocation(task)) {
      if (!this.#stuckTasks.has(task.id)) this.#queue.tasks.add(task.id);
      return;
    }
    this.#queue.tasks.delete(task.id);
    this.#stuckTasks.delete(task.id);
    if (!removed && holdsAddresses(task)) this.#state.adoptTask(task);
    else if (this.#state.releaseOwner(task.id)) this.#retry();
  }

  /** Something came free, or came about: everything that was stuck is worth another try. */
  #retry(): void {
    for (const id of this.#stuck.networks.keys()) this.#queue.networks.add(id);
    for (const id of this.#stuck.services.keys()) this.#queue.services.add(id);
    for (const id of this.#stuckTasks) this.#queue.tasks.add(id);
    this.#stuckTasks.clear();
  }

  get hasWork(): boolean {
    return this.#queue.networks.size + this.#queue.services.size + this.#queue.tasks.size > 0;
  }

  /** Handles the queue with as few transactions as its length allows. */
  async process(): Promise<void> {
    while (this.hasWork) await this.#deps.store.update((tx) => this.#pass(tx));
  }

  /** One transaction: networks first, then services, then tasks, since each needs the former. */
  #pass(tx: Transaction): void {
    let writes = this.#passNetworks(tx);
    for (const id of this.#queue.services) {
      if (writes >= ALLOCATIONS_PER_TRANSACTION_MAX) return;
      this.#queue.services.delete(id);
      if (this.#allocateService(tx, id)) writes++;
    }
    for (const task of this.#waitingTasks(tx)) {
      if (writes >= ALLOCATIONS_PER_TRANSACTION_MAX) return;
      this.#queue.tasks.delete(task.id);
      if (this.#allocateTask(tx, task)) writes++;
    }
  }

  #passNetworks(tx: Transaction): number {
    let writes = 0;
    const waiting = [...this.#queue.networks].map((id) => tx.get('network', id)).filter((n) => n !== undefined);
    this.#queue.networks.clear();
    // The ingress network gets the first subnet; networks that name theirs go before those that take what is left.
    const rank = (n: Network): number => (n.spec?.ingress === true ? 0 : n.spec?.ipam?.configs.length ? 1 : 2);
    for (const network of waiting.sort((a, b) => rank(a) - rank(b))) {
      if (isAllocated(network)) continue;
      const outcome = allocateNetwork(this.#state, tx, network);
      if ('err' in outcome) {
        if (this.#stuck.networks.get(network.id) !== outcome.err) {
          this.#deps.log.warn('a network cannot be allocated', { network: network.id, reason: outcome.err });
        }
        this.#stuck.networks.set(network.id, outcome.err);
        continue;
      }
      this.#stuck.networks.delete(network.id);
      tx.update('network', outcome.object);
      writes++;
    }
    if (writes > 0) this.#retry();
    return writes;
  }

  #allocateService(tx: Transaction, id: string): boolean {
    const service = tx.get('service', id);
    if (service === undefined) return false;
    const outcome = allocateService(this.#state, tx, service);
    if ('err' in outcome) {
      if (this.#stuck.services.get(id) !== outcome.err) {
        this.#deps.log.warn('a service cannot be allocated', { service: id, reason: outcome.err });
      }
      this.#stuck.services.set(id, outcome.err);
      return false;
    }
    if (this.#stuck.services.delete(id)) this.#retry();
    if (outcome.unchanged === true) return false;
    tx.update('service', outcome.object);
    if (outcome.released === true) this.#retry();
    return true;
  }

  /** Queued tasks in the order of their slots, so that first addresses go to first slots. */
  #waitingTasks(tx: Transaction): Task[] {
    const tasks: Task[] = [];
    for (const id of this.#queue.tasks) {
      const task = tx.get('task', id);
      if (task !== undefined && awaitsAllocation(task)) tasks.push(task);
      else this.#queue.tasks.delete(id);
    }
    return tasks.sort((a, b) => a.slot - b.slot);
  }

  #allocateTask(tx: Transaction, task: Task): boolean {
    const service = task.service_id === '' ? undefined : tx.get('service', task.service_id);
    // The service is gone: the task is on its way out.
    if (service === undefined && task.service_id !== '') return false;
    const blocked = this.#stuck.services.get(task.service_id);
    const outcome =
      blocked === undefined
        ? allocateTask(this.#state, tx, task, service, this.#deps.clock.now())
        : { err: this.#reason(tx, service, blocked) };
    if (!('err' in outcome)) {
      tx.update('task', outcome.object);
      return true;
    }
    this.#stuckTasks.add(task.id);
    const explained = explainWait(task, outcome.err);
    if (explained === undefined) return false;
    tx.update('task', explained);
    return true;
  }

  /** Why a service's tasks wait: the trouble of its network, when that is the cause. */
  #reason(tx: Transaction, service: Service | undefined, blocked: string): string {
    const configs = service?.spec?.task?.networks ?? [];
    for (const { target } of configs.length > 0 ? configs : (service?.spec?.networks ?? [])) {
      const network = tx.get('network', target) ?? tx.byName('network', target);
      const err = network === undefined ? undefined : this.#stuck.networks.get(network.id);
      if (err !== undefined) return err;
    }
    return blocked;
  }
}

/** Notes commits; false when everything must be read anew. */
function noteAll(allocation: Allocation, commits: readonly Commit[]): boolean {
  for (const commit of commits) {
    if (commit.reset) return false;
    for (const change of commit.changes) allocation.note(change);
  }
  return true;
}

/** Works until the feed ends (true), or until something makes it necessary to read everything anew (false). */
async function follow(deps: AllocatorDeps, feed: Subscription<Commit>, started: () => void): Promise<boolean> {
  const allocation = new Allocation(deps);
  await allocation.process();
  started();
  for await (const commit of feed) {
    if (!noteAll(allocation, [commit, ...feed.drain()])) return false;
    await allocation.process();
  }
  return !feed.overflowed;
}

/**
 * The allocator (swarmkit.md §3.10): subnets and VXLAN ids for networks, published ports and virtual addresses for
 * services, addresses for tasks, which it moves from NEW to PENDING. What is handed out is kept in memory and made anew
 * from the store for each term, and whenever a write failed.
 */
export function createAllocator(deps: AllocatorDeps): LeaderDuty {
  const run = async (signal: AbortSignal): Promise<void> => {
    let failures = 0;
    while (!signal.aborted) {
      const feed = deps.store.watch();
      const close = (): void => feed.close();
      signal.addEventListener('abort', close, { once: true });
      try {
        if (await follow(deps, feed, () => (failures = 0))) return;
      } catch (error) {
        if (signal.aborted) return;
        deps.log.warn('the allocator could not write and starts anew', { error });
        await deps.clock.sleep(backoffDelayMs(failures++, RETRY, deps.random), signal).catch(() => undefined);
      } finally {
        signal.removeEventListener('abort', close);
        feed.close();
      }
    }
  };
  return { name: 'allocator', run };
}
