import { type Clock, type Logger } from '../base/index.ts';
import { applyTableDelta, isTableDelta, type NetworkTable } from '../proto/index.ts';

/** Wait before a table that could not be applied is tried again, ms. */
const RETRY_MS = 1000;

interface Wanted {
  /** undefined: remove. */
  table: NetworkTable | undefined;
  applied: boolean;
  waiters: (() => void)[];
}

export interface NetworkTablesOptions {
  clock: Clock;
  log: Logger;
  /** Told of every table as it comes, while others may still be applied. */
  announce: (table: NetworkTable) => void;
  set: (table: NetworkTable) => Promise<void>;
  remove: (networkId: string) => Promise<void>;
  /** Whether a live task of this node still uses the network: its table must not be taken away under it. */
  inUse: (networkId: string) => boolean;
}

/**
 * Hands network tables to the host one at a time, in the order in which they came; of several versions that wait only
 * the newest is applied. What fails is tried again.
 */
export class NetworkTables {
  readonly #options: NetworkTablesOptions;
  readonly #wanted = new Map<string, Wanted>();
  readonly #queue = new Set<string>();
  #working: Promise<void> = Promise.resolve();
  #busy = false;
  #stopped = false;

  constructor(options: NetworkTablesOptions) {
    this.#options = options;
  }

  /** Networks that have a table. */
  ids(): Set<string> {
    const ids = new Set<string>();
    for (const [id, wanted] of this.#wanted) if (wanted.table !== undefined) ids.add(id);
    return ids;
  }

  /**
   * The table that a message leads to: itself, or the one at hand with a delta. Undefined when the delta starts from
   * another version than the one at hand.
   */
  resolve(table: NetworkTable): NetworkTable | undefined {
    return isTableDelta(table) ? applyTableDelta(this.#wanted.get(table.network_id)?.table, table) : table;
  }

  set(table: NetworkTable): void {
    this.#options.announce(table);
    this.#want(table.network_id, table);
  }

  remove(networkId: string): void {
    if (this.#wanted.has(networkId)) this.#want(networkId, undefined);
  }

  /** Tries removals again that waited for tasks to end. */
  sweep(): void {
    for (const [id, wanted] of this.#wanted) {
      if (wanted.table === undefined && !wanted.applied && !this.#options.inUse(id)) this.#enqueue(id);
    }
  }

  /**
   * Resolves when the tables of these networks that have come so far were applied. Networks without a table (a stock
   * manager sends none) are not waited for.
   */
  async ready(networkIds: Iterable<string>, signal: AbortSignal): Promise<void> {
    for (const id of networkIds) {
      const wanted = this.#wanted.get(id);
      if (wanted?.table === undefined || wanted.applied) continue;
      await new Promise<void>((resolve, reject) => {
        const onAbort = (): void => reject(signal.reason as Error);
        signal.addEventListener('abort', onAbort, { once: true });
        if (signal.aborted) onAbort();
        wanted.waiters.push(() => {
          signal.removeEventListener('abort', onAbort);
          resolve();
        });
      });
    }
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#queue.clear();
    await this.#working;
  }

  #want(networkId: string, table: NetworkTable | undefined): void {
    const waiters = this.#wanted.get(networkId)?.waiters ?? [];
    this.#wanted.set(networkId, { table, applied: false, waiters });
    if (table !== undefined || !this.#options.inUse(networkId)) this.#enqueue(networkId);
  }

  #enqueue(networkId: string): void {
    if (this.#stopped) return;
    this.#queue.add(networkId);
    if (this.#busy) return;
    this.#busy = true;
    this.#working = this.#work();
  }

  async #work(): Promise<void> {
    for (const id of this.#queue) {
      this.#queue.delete(id);
      const wanted = this.#wanted.get(id);
      if (wanted === undefined) continue;
      try {
        if (wanted.table !== undefined) await this.#options.set(wanted.table);
        else await this.#options.remove(id);
      } catch (error) {
        this.#options.log.warn('a network table could not be applied; it is tried again', { network: id, error });
        this.#options.clock.after(RETRY_MS, () => this.#enqueue(id));
        continue;
      }
      // A newer version may have come meanwhile; it is in the queue again.
      if (this.#wanted.get(id) !== wanted) continue;
      wanted.applied = true;
      if (wanted.table === undefined) this.#wanted.delete(id);
      for (const waiter of wanted.waiters.splice(0)) waiter();
    }
    this.#busy = false;
  }
}
