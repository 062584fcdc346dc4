import { must } from '../../base/index.ts';
import type { RaftEntry, RaftHardState, RaftSnapshot } from '../../proto/index.ts';
import type { RaftStorage, RecoveredLog } from '../storage.ts';

/** What the power cut throws at the writer. */
export class SimulatedCrash extends Error {
  override readonly name = 'SimulatedCrash';
}

/**
 * A disk with the promises of the write-ahead log: a batch becomes durable whole or not at all, and a lone commit index
 * may be lost. It outlives its member's crashes.
 */
export class VirtualDisk {
  #durable: RecoveredLog = { hardState: null, snapshot: null, entries: [] };
  /** Set to cut the power at the next batch: before it is durable, or just after. */
  crashAt: 'before' | 'after' | null = null;
  readonly #onEntry: (entry: RaftEntry, previousTerm: number) => void;

  constructor(onEntry: (entry: RaftEntry, previousTerm: number) => void) {
    this.#onEntry = onEntry;
  }

  get empty(): boolean {
    return this.#durable.hardState === null && this.#durable.entries.length === 0;
  }

  /** What a start finds; writes that were never synced are gone. */
  open(): { storage: RaftStorage; recovered: RecoveredLog } {
    const recovered = { ...this.#durable, entries: [...this.#durable.entries] };
    return { storage: this.#storage(), recovered };
  }

  #commit(change: () => void): void {
    const at = this.crashAt;
    this.crashAt = null;
    if (at === 'before') throw new SimulatedCrash('power cut before the sync');
    change();
    if (at === 'after') throw new SimulatedCrash('power cut after the sync');
  }

  #storage(): RaftStorage {
    let held: RaftHardState | null = null;
    const takeHeld = (): void => {
      if (held !== null) this.#durable.hardState = held;
      held = null;
    };
    return {
      append: (entries, hardState, mustSync) => {
        held = hardState ?? held;
        if (!mustSync && entries.length === 0) return;
        this.#commit(() => {
          takeHeld();
          this.#appendEntries(entries);
        });
      },
      saveSnapshot: (snapshot) => {
        this.#commit(() => {
          takeHeld();
          const { index } = must(snapshot.metadata, 'metadata');
          this.#durable.snapshot = snapshot;
          this.#durable.entries = this.#durable.entries.filter((entry) => entry.index > index);
        });
      },
      installSnapshot: (snapshot, hardState) => {
        this.#commit(() => {
          held = null;
          this.#durable = { hardState, snapshot, entries: [] };
        });
      },
      loadSnapshot: (): RaftSnapshot | null => this.#durable.snapshot,
      close: () => undefined,
    };
  }

  #appendEntries(entries: readonly RaftEntry[]): void {
    const { entries: log, snapshot } = this.#durable;
    const offset = snapshot?.metadata?.index ?? 0;
    for (const entry of entries) {
      log.length = entry.index - offset - 1;
      const previous = log.at(-1)?.term ?? snapshot?.metadata?.term ?? 0;
      this.#onEntry(entry, previous);
      log.push(entry);
    }
  }
}
