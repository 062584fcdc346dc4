import { nextTurn, silentLogger, TaskGroup, unavailable, VirtualClock, type Random } from '../../base/index.ts';
import { createControl, type Control } from '../control/index.ts';
import { createDuties } from '../duties.ts';
import { createStore, type Proposer, type ReplicatedStore } from '../store/store.ts';
import { KINDS, TableSet } from '../store/tables.ts';
import type { ReadView } from '../store/types.ts';
import { createPretendedWorkers } from './workers.ts';

/** Objects put into the copy between two turns of the event loop. */
const COPIED_PER_TURN = 2_000;
/** Changed objects at which one write of the copy is full: less than the live store's, as nobody waits for a plan. */
const BATCH_CHANGES = 400;
/** Turns without a write after which nothing is on its way any more. */
const QUIET_TURNS = 2;

/** Duties left out: nothing is measured in a copy. */
const LEFT_OUT: ReadonlySet<string> = new Set(['autoscaler']);

/** Commits each write a turn of the event loop later, so that the process does other things between two of them. */
class TurnProposer implements Proposer {
  store: ReplicatedStore | undefined;
  #index: number;
  #ended = false;
  /** Writes on their way. */
  pending = 0;

  constructor(index: number) {
    this.#index = index;
  }

  isLeader(): boolean {
    return !this.#ended;
  }

  end(): void {
    this.#ended = true;
  }

  async propose(data: Uint8Array): Promise<number> {
    this.pending++;
    try {
      await nextTurn();
      if (this.#ended) throw unavailable('the plan is made');
      const index = ++this.#index;
      this.store?.apply([{ index, data }]);
      return index;
    } finally {
      this.pending--;
    }
  }
}

/** The objects of a reading as tables of their own; the objects themselves are shared, since nobody changes them. */
async function copyOf(view: ReadView): Promise<{ tables: TableSet; index: number }> {
  const lists = KINDS.map((kind) => ({ kind, objects: view.list(kind) }));
  const tables = new TableSet();
  let [index, copied] = [0, 0];
  for (const { kind, objects } of lists) {
    for (const object of objects) {
      tables.put(kind, object);
      index = Math.max(index, object.meta?.version?.index ?? 0);
      if (++copied % COPIED_PER_TURN === 0) await nextTurn();
    }
  }
  return { tables, index };
}

/**
 * A copy of the cluster in which time passes as fast as it can be computed: the real allocator, orchestrators and
 * placement, the real Control service, and workers that do as they are told.
 */
export class Scratch {
  readonly clock: VirtualClock;
  readonly store: ReplicatedStore;
  readonly control: Control;
  readonly #proposer: TurnProposer;
  /** One for each duty: a signal with more than ten listeners warns of a leak. */
  readonly #groups: TaskGroup[] = [];

  private constructor(store: ReplicatedStore, proposer: TurnProposer, clock: VirtualClock, random: Random) {
    this.store = store;
    this.clock = clock;
    this.#proposer = proposer;
    this.control = createControl({ store, clock, random, log: silentLogger });
  }

  /** Copies what `view` has now and starts the duties. @param nowMs the time at which the copy begins */
  static async begin(view: ReadView, nowMs: number, random: Random): Promise<Scratch> {
    const clock = new VirtualClock(nowMs);
    const initial = await copyOf(view);
    const proposer = new TurnProposer(initial.index);
    const store = createStore({ proposer, clock, log: silentLogger, random, initial, batchChangesMax: BATCH_CHANGES });
    proposer.store = store;
    const scratch = new Scratch(store, proposer, clock, random);
    const duties = createDuties({ store, clock, random, log: silentLogger }).filter(({ name }) => !LEFT_OUT.has(name));
    for (const duty of [...duties, createPretendedWorkers(store, clock)]) {
      const group = new TaskGroup(silentLogger);
      scratch.#groups.push(group);
      group.start(duty.name, (signal) => duty.run(signal));
      // Each begins with a look at everything: one after the other, not all in one turn.
      await nextTurn();
    }
    return scratch;
  }

  async #untilQuiet(): Promise<void> {
    for (let quiet = 0; quiet < QUIET_TURNS; quiet = this.#proposer.pending > 0 ? 0 : quiet + 1) await nextTurn();
  }

  /**
   * Lets time pass until nothing is left to do, at most `forMs`.
   * @param check called after each step; what it throws ends the wait.
   * @returns whether everything came to rest before that
   */
  async run(forMs: number, check: () => void): Promise<boolean> {
    const endMs = this.clock.now() + forMs;
    for (;;) {
      await this.#untilQuiet();
      check();
      const next = this.clock.nextTimerAt();
      if (next === undefined) return true;
      if (next > endMs) return false;
      this.clock.advance(next - this.clock.now());
    }
  }

  /** Ends all duties; the copy can still be read. */
  async end(): Promise<void> {
    this.#proposer.end();
    this.store.close();
    await Promise.all(this.#groups.map((group) => group.stop()));
  }
}
