import type { Raft } from './core/index.ts';
import type { StateMachine } from './options.ts';
import type { RaftStorage } from './storage.ts';

export interface SnapshotsOptions {
  core: Raft;
  storage: RaftStorage;
  machine: StateMachine;
  /** Index of the last entry in the state machine. */
  applied: () => number;
  /** Called inside a guarded turn of the driver. */
  guard: (run: () => void) => void;
  /** The disk failed. */
  onError: (error: unknown) => void;
  /** Entries applied between snapshots. */
  everyEntries: number;
  /** Entries kept in memory before a snapshot, for followers that are a little behind. */
  keepEntries: number;
}

interface Request {
  resolve(): void;
  reject(error: Error): void;
}

/** Takes snapshots of the own state; the disk writes them beside the log, one at a time. */
export class Snapshots {
  readonly #options: SnapshotsOptions;
  #everyEntries: number;
  #keepEntries: number;
  /** Last entry of the newest snapshot, own or received. */
  #index: number;
  #saving = false;
  #broken = false;
  #wanted: Request[] = [];
  /** Those that the snapshot under way will answer. */
  #served: Request[] = [];

  constructor(options: SnapshotsOptions, index: number) {
    this.#options = options;
    this.#everyEntries = options.everyEntries;
    this.#keepEntries = options.keepEntries;
    this.#index = index;
  }

  configure(everyEntries: number, keepEntries: number, keepOldSnapshots: number): void {
    this.#everyEntries = everyEntries;
    this.#keepEntries = keepEntries;
    this.#options.storage.configure?.(keepEntries, keepOldSnapshots);
  }

  /** A snapshot of the leader took the place of the state. */
  restored(index: number): void {
    this.#index = index;
  }

  /** Resolves when a snapshot of what is applied now, or later, is durable. */
  request(request: Request): void {
    this.#wanted.push(request);
  }

  /** The newest one cannot be read: takes its place as soon as there is something new. */
  replace(): void {
    this.#broken = true;
  }

  /** Begins a snapshot when one is due. Call when everything handed out is applied. */
  maybe(): void {
    const { applied, core } = this.#options;
    if (this.#saving) return;
    const index = applied();
    const every = this.#broken ? 1 : this.#everyEntries;
    const due = this.#wanted.length > 0 || index - this.#index >= every;
    // While a received snapshot is on its way to the disk, the core is ahead of the state machine.
    if (!due || index !== core.applied) return;
    if (index > 0) {
      this.#begin();
      return;
    }
    for (const request of this.#wanted.splice(0)) request.resolve();
  }

  #begin(): void {
    const { core, storage, machine, guard, onError } = this.#options;
    const metadata = core.snapshotMetadata();
    this.#saving = true;
    this.#served = this.#wanted.splice(0);
    storage.saveSnapshot({ data: machine.snapshot(), metadata }, (error) => {
      if (error !== null && error !== undefined) {
        onError(error);
        return;
      }
      this.#saving = false;
      guard(() => {
        const compactIndex = Math.max(metadata.index - this.#keepEntries, core.firstIndex - 1);
        // Otherwise a leader's snapshot overtook this one.
        if (compactIndex <= metadata.index) core.snapshotTaken(metadata, compactIndex);
        this.#index = Math.max(this.#index, metadata.index);
        this.#broken = false;
        for (const request of this.#served.splice(0)) request.resolve();
      });
    });
  }

  rejectAll(error: Error): void {
    for (const request of [...this.#served.splice(0), ...this.#wanted.splice(0)]) request.reject(error);
  }
}
