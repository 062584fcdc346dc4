import {
  assert,
  backoffDelayMs,
  isShoalError,
  type Clock,
  type Logger,
  type Random,
  type Subscription,
  type Timer,
} from '../../base/index.ts';
import type { Service, Task } from '../../proto/index.ts';
import { withoutNeeds } from '../allocator/index.ts';
import type { UsageSource } from '../dispatcher/index.ts';
import { recordRevision } from '../store/revisions.ts';
import type { Change, Commit, LeaderDuty, ReadView, Store, Transaction } from '../store/types.ts';

/** What every duty of this room is made from. */
export interface OrchestratorDeps {
  store: Store;
  clock: Clock;
  random: Random;
  log: Logger;
  /** What tasks use; absent: nothing is known of it. */
  usage?: UsageSource | undefined;
}

/** One write that a decision asks for. Updated objects carry the version that was read. */
export type Op =
  | { op: 'create'; readonly task: Task }
  | { op: 'update'; task: Task }
  | { op: 'remove'; taskId: string }
  /** With a reason when the spec changes: it becomes a revision. */
  | { op: 'update-service'; service: Service; revisionReason?: string };

/** What a reconciler wants for one key, computed from the state alone. */
export interface Decision {
  /** Groups of writes; a group is written whole or not at all, groups in order. */
  steps: Op[][];
  /** Wall-clock time (ms) at which the key must be looked at again though nothing changed. */
  wakeAtMs?: number | undefined;
}

/** The pure part of a duty: which keys a change concerns, and what to do about a key. */
export interface Reconciler {
  readonly name: string;
  /** How long to gather changes before a pass, ms; 0 acts at once. */
  readonly debounceMs?: number;
  /** Keys that a change may concern. `view` is the state after it. */
  keysOf(change: Change, view: ReadView): Iterable<string>;
  /** Every key there is; for the first pass, and after a gap in the feed. */
  allKeys(view: ReadView): Iterable<string>;
  /** Called often, and twice for a pass that writes: it must be repeatable. */
  decide(key: string, view: ReadView, nowMs: number): Decision;
}

/** Writes that go into one transaction at the most; what is left follows in the next. */
export const WRITES_PER_TRANSACTION_MAX = 1000;
/** The same after a transaction was too large for the store; it grows again with each that fits. */
const WRITES_PER_TRANSACTION_MIN = 50;
const WRITES_GROWTH = 1.5;
/**
 * A pass over large services takes its time, and each commit may ask for another. A duty waits this many times as long
 * as its last pass took, ms at the most: changes gather, and the leader has time for its other work.
 */
const REST_PER_PASS = 4;
const REST_MAX_MS = 400;
/** Passes that took less are not rested from, ms. */
const REST_FROM_MS = 2;

/** Deciding is interrupted after so many ms, so that timers, sockets and consensus have their turn. */
const DECIDE_SLICE_MS = 10;

/** When a key whose decision failed is tried again, ms. */
const UNDECIDED_RETRY_MS = 10_000;

const RETRY = { baseMs: 100, capMs: 2_000 };

/** Earlier of two optional times. */
export function earlier(a: number | undefined, b: number | undefined): number | undefined {
  if (a === undefined) return b;
  return b === undefined ? a : Math.min(a, b);
}

function applyOp(tx: Transaction, op: Op): void {
  switch (op.op) {
    case 'create':
      return tx.create('task', withoutNeeds(op.task, tx));
    case 'update':
      return tx.update('task', op.task);
    case 'remove':
      return tx.remove('task', op.taskId);
    case 'update-service':
      if (op.revisionReason === undefined) return tx.update('service', op.service);
      return tx.update('service', recordRevision(tx, op.service, op.revisionReason));
  }
}

/** Drives one reconciler for one term of leadership. */
class Driver {
  readonly #deps: OrchestratorDeps;
  readonly #reconciler: Reconciler;
  readonly #dirty = new Set<string>();
  readonly #wakes = new Map<string, number>();
  #allDirty = true;
  /** Ends the present wait; `#poke` only when news may end it. */
  #end: (() => void) | undefined;
  #poke: (() => void) | undefined;
  #feed: Subscription<Commit> | undefined;
  #failures = 0;
  #writesMax = WRITES_PER_TRANSACTION_MAX;
  /** How long the present pass has decided and written, ms. */
  #busyMs = 0;
  /** Monotonic time before which no pass begins, ms. */
  #restUntilMs = 0;

  constructor(deps: OrchestratorDeps, reconciler: Reconciler) {
    this.#deps = deps;
    this.#reconciler = reconciler;
  }

  async run(signal: AbortSignal): Promise<void> {
    // One listener for everything: a signal that many loops share warns of a leak when each of them adds several.
    const onAbort = (): void => {
      this.#feed?.close();
      this.#end?.();
    };
    signal.addEventListener('abort', onAbort, { once: true });
    const stopped = this.#follow(signal);
    try {
      while (!signal.aborted) {
        await this.#wait(signal);
        if (signal.aborted) break;
        const restMs = this.#restUntilMs - this.#deps.clock.monotonic();
        const gatherMs = Math.max(this.#reconciler.debounceMs ?? 0, restMs);
        if (gatherMs > 0) await this.#pause(gatherMs, signal);
        if (!signal.aborted) await this.#pass(signal);
      }
    } finally {
      // A pass that throws is a defect: the duty ends with it, and so must its reader.
      onAbort();
      signal.removeEventListener('abort', onAbort);
      await stopped;
    }
  }

  /** Reads the feed and notes what it concerns; opens it anew when it was cut off. */
  async #follow(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const feed = this.#deps.store.watch();
      this.#allDirty = true;
      this.#wakeUp();
      this.#feed = feed;
      for await (const commit of feed) this.#note(commit);
      if (!feed.overflowed) break;
      this.#deps.log.warn('an orchestrator fell behind the store and reads everything anew', {
        duty: this.#reconciler.name,
      });
    }
    this.#wakeUp();
  }

  #note(commit: Commit): void {
    if (commit.reset) this.#allDirty = true;
    const view = this.#deps.store.view();
    for (const change of commit.changes) {
      for (const key of this.#reconciler.keysOf(change, view)) this.#dirty.add(key);
    }
    if (this.#allDirty || this.#dirty.size > 0) this.#wakeUp();
  }

  #wakeUp(): void {
    const poke = this.#poke;
    this.#poke = undefined;
    poke?.();
  }

  /** Waits for something to do: a dirty key, a key whose time has come, or the end. */
  async #wait(signal: AbortSignal): Promise<void> {
    for (;;) {
      const now = this.#deps.clock.now();
      let next: number | undefined;
      for (const [key, at] of this.#wakes) {
        if (at <= now) this.#dirty.add(key);
        else next = earlier(next, at);
      }
      if (signal.aborted || this.#allDirty || this.#dirty.size > 0) return;
      await this.#pause(next === undefined ? undefined : next - now, signal, true);
    }
  }

  /** Sleeps at most `ms`; ends early on abort and, when `pokable`, on news. Never rejects. */
  async #pause(ms: number | undefined, signal: AbortSignal, pokable = false): Promise<void> {
    if (signal.aborted) return;
    let timer: Timer | undefined;
    await new Promise<void>((resolve) => {
      const end = (): void => resolve();
      this.#end = end;
      if (pokable) this.#poke = end;
      // Timers of Node hold at most 2^31-1 ms; a longer wait simply looks again then.
      if (ms !== undefined) timer = this.#deps.clock.after(Math.min(Math.max(0, Math.ceil(ms)), 2 ** 31 - 1), end);
    });
    timer?.cancel();
    this.#end = undefined;
  }

  async #pass(signal: AbortSignal): Promise<void> {
    const { store, log, random } = this.#deps;
    this.#busyMs = 0;
    const busy = await this.#busyKeys(signal);
    if (busy.length === 0 || signal.aborted) return;
    try {
      await store.update((tx) => {
        const written = this.#stopwatch();
        this.#write(tx, busy);
        written();
      });
      this.#failures = 0;
      this.#writesMax = Math.min(WRITES_PER_TRANSACTION_MAX, Math.ceil(this.#writesMax * WRITES_GROWTH));
    } catch (error) {
      for (const key of busy) this.#dirty.add(key);
      if (signal.aborted) return;
      if (isShoalError(error, 'ResourceExhausted') && this.#writesMax > WRITES_PER_TRANSACTION_MIN) {
        // Objects of an unusual size: fewer of them at a time.
        this.#writesMax = Math.max(WRITES_PER_TRANSACTION_MIN, Math.floor(this.#writesMax / 4));
        return;
      }
      log.warn('an orchestrator could not write and tries again', { duty: this.#reconciler.name, error });
      await this.#pause(backoffDelayMs(this.#failures++, RETRY, random), signal);
    }
  }

  /**
   * Decides what waits, in slices, and settles what needs no write. @returns the keys that need one, no more than one
   * transaction takes.
   */
  async #busyKeys(signal: AbortSignal): Promise<string[]> {
    const { store, clock } = this.#deps;
    const keys = this.#take();
    const busy: string[] = [];
    let took = this.#stopwatch();
    let sliceEndMs = clock.monotonic() + DECIDE_SLICE_MS;
    let planned = 0;
    for (const key of keys) {
      // What does not fit into the transaction is decided when its turn comes: it is first in the next pass.
      if (planned >= this.#writesMax || signal.aborted) {
        this.#dirty.add(key);
        continue;
      }
      if (clock.monotonic() >= sliceEndMs) {
        took();
        await clock.sleep(0);
        took = this.#stopwatch();
        sliceEndMs = clock.monotonic() + DECIDE_SLICE_MS;
      }
      const decision = this.#decide(key, store.view());
      planned += decision.steps.length;
      if (decision.steps.length > 0) busy.push(key);
      else this.#settle(key, decision);
    }
    took();
    return busy;
  }

  /** Measures a part of a pass; the rest after it is in proportion. */
  #stopwatch(): () => void {
    const { clock } = this.#deps;
    const beganMs = clock.monotonic();
    return () => {
      const nowMs = clock.monotonic();
      if (nowMs - beganMs < REST_FROM_MS) return;
      this.#busyMs += nowMs - beganMs;
      this.#restUntilMs = nowMs + Math.min(REST_MAX_MS, REST_PER_PASS * this.#busyMs);
    };
  }

  #take(): string[] {
    if (this.#allDirty) {
      this.#allDirty = false;
      this.#wakes.clear();
      for (const key of this.#reconciler.allKeys(this.#deps.store.view())) this.#dirty.add(key);
    }
    const keys = [...this.#dirty];
    this.#dirty.clear();
    return keys;
  }

  /** One key that cannot be decided (a defect, or an object we do not understand) must not stop the others. */
  #decide(key: string, view: ReadView): Decision {
    const now = this.#deps.clock.now();
    try {
      return this.#reconciler.decide(key, view, now);
    } catch (error) {
      this.#deps.log.error('an orchestrator cannot decide', { duty: this.#reconciler.name, key, error });
      return { steps: [], wakeAtMs: now + UNDECIDED_RETRY_MS };
    }
  }

  #settle(key: string, decision: Decision): void {
    if (decision.wakeAtMs === undefined) this.#wakes.delete(key);
    else this.#wakes.set(key, decision.wakeAtMs);
  }

  /** Decides again on the newest state and writes as much as one transaction takes. */
  #write(tx: Transaction, keys: readonly string[]): void {
    let written = 0;
    for (const key of keys) {
      if (written >= this.#writesMax) {
        this.#dirty.add(key);
        continue;
      }
      const decision = this.#decide(key, tx);
      this.#settle(key, decision);
      for (const step of decision.steps) {
        assert(step.length <= WRITES_PER_TRANSACTION_MAX, 'a step fits into one transaction');
        if (written > 0 && written + step.length > this.#writesMax) break;
        for (const op of step) applyOp(tx, op);
        written += step.length;
      }
      // What was written may ask for more, and may not come back over the feed before the next pass.
      if (decision.steps.length > 0) this.#dirty.add(key);
    }
  }
}

/**
 * A leader duty around a reconciler: a full pass over all keys, then one over the keys that each commit concerns, until
 * the signal aborts. Every pass is computed from the state anew, so it may be interrupted anywhere.
 * @param create makes the reconciler; called at the start of each term, so that no memory outlives it.
 */
export function createReconcileDuty(name: string, deps: OrchestratorDeps, create: () => Reconciler): LeaderDuty {
  return { name, run: (signal) => new Driver(deps, create()).run(signal) };
}
