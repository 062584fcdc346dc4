import { statfsSync } from 'node:fs';
import { errorMessage, type Clock, type Logger, type Timer } from '../../base/index.ts';
import type { EngineEvent } from '../types.ts';

/** How often the disk is looked at, ms. */
const CHECK_INTERVAL_MS = 30_000;
/** Images without a name are spared for this time after they arrived: someone may be about to use them, ms. */
const DANGLING_MIN_AGE_MS = 10 * 60_000;
const HOUR_MS = 3_600_000;

/** When unused things are removed by themselves. Shares of the file system of the data root, 0 to 1. */
export interface PressurePolicy {
  /** Above this share something is removed. */
  high: number;
  /** Until this share is reached, or nothing is left that may go. */
  low: number;
  /** Images that no container uses go when they have been here for so long, hours. */
  imageAgeHours: number;
}

/** An image that no container uses. */
export interface UnusedImage {
  id: string;
  /** Empty: it is dangling. */
  names: readonly string[];
  /** When it arrived here, ms since the epoch. */
  addedMs: number;
}

/** Kinds of things that are removed, in this order. */
export type PressureKind = 'dangling-image' | 'unused-image' | 'temporary' | 'ended-log';

export interface PressureSources {
  /** Oldest first. */
  unusedImages(): readonly UnusedImage[];
  removeImage(id: string): Promise<void>;
  /** Removes what was never completed; returns how much. */
  removeTemporaries(): Promise<number>;
  /** Containers that have ended, those that ended first in front. */
  endedContainers(): readonly string[];
  /** Empties the log of a container that does not run; returns whether there was anything. */
  dropLog(containerId: string): Promise<boolean>;
}

export interface PressureOptions {
  dataRoot: string;
  policy: PressurePolicy;
  sources: PressureSources;
  clock: Clock;
  log: Logger;
  onEvent: (event: EngineEvent) => void;
  /** Used share of the file system and its size, bytes; for tests. */
  usage?: () => DiskUsage;
}

export interface DiskUsage {
  share: number;
  sizeBytes: number;
}

/** As df(1) counts: what only root may use counts as used. */
export function diskUsage(path: string): DiskUsage {
  const { bavail, bfree, blocks, bsize } = statfsSync(path);
  const used = blocks - bfree;
  return { share: used + bavail === 0 ? 0 : used / (used + bavail), sizeBytes: blocks * bsize };
}

interface Step {
  kind: PressureKind;
  /** What it removes, for the log. */
  subject: string;
  remove: () => Promise<number>;
}

/** Keeps the disk of the data root from filling up with what nobody uses. Containers, volumes and used images stay. */
export class DiskPressure {
  readonly #options: PressureOptions;
  readonly #removed = new Map<PressureKind, number>();
  #cleanups = 0;
  /** It was told that the disk is too full; once is enough until something changes. */
  #told = false;
  #timer: Timer | undefined;
  #running: Promise<void> | undefined;
  #closed = false;

  constructor(options: PressureOptions) {
    this.#options = options;
  }

  /** Things removed so far by kind, and how often there was pressure. */
  counts(): { cleanups: number; removed: ReadonlyMap<PressureKind, number> } {
    return { cleanups: this.#cleanups, removed: this.#removed };
  }

  usage(): DiskUsage {
    return this.#options.usage?.() ?? diskUsage(this.#options.dataRoot);
  }

  start(): void {
    if (this.#closed) return;
    this.#timer = this.#options.clock.after(CHECK_INTERVAL_MS, () => {
      void this.check().finally(() => this.start());
    });
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#timer?.cancel();
    await this.#running;
  }

  /** Looks once, and removes what has to go. Never throws. */
  check(): Promise<void> {
    this.#running ??= this.#check()
      .catch((error: unknown) => this.#options.log.error('disk pressure could not be relieved', { error }))
      .finally(() => (this.#running = undefined));
    return this.#running;
  }

  async #check(): Promise<void> {
    const { policy, log } = this.#options;
    const before = this.usage();
    if (before.share <= policy.high) {
      this.#told = false;
      return;
    }
    this.#cleanups++;
    const done = new Map<PressureKind, number>();
    for (const step of this.#steps()) {
      if (this.#closed || this.usage().share <= policy.low) break;
      try {
        const count = await step.remove();
        if (count > 0) done.set(step.kind, (done.get(step.kind) ?? 0) + count);
      } catch (error) {
        // Someone has begun to use it meanwhile.
        log.info('it stays, though the disk is filling up', { subject: step.subject, error: errorMessage(error) });
      }
    }
    for (const [kind, count] of done) this.#removed.set(kind, (this.#removed.get(kind) ?? 0) + count);
    if (done.size > 0 || !this.#told) this.#tell(before, done);
    this.#told = true;
  }

  /** All that may go, what is missed least in front. */
  *#steps(): Generator<Step> {
    const { sources, policy, clock } = this.#options;
    const image = (kind: PressureKind, id: string): Step => ({
      kind,
      subject: id,
      remove: () => sources.removeImage(id).then(() => 1),
    });
    const age = ({ addedMs }: UnusedImage): number => clock.now() - addedMs;
    const images = sources.unusedImages();
    for (const found of images) {
      if (found.names.length === 0 && age(found) >= DANGLING_MIN_AGE_MS) yield image('dangling-image', found.id);
    }
    for (const found of images) {
      if (found.names.length > 0 && age(found) >= policy.imageAgeHours * HOUR_MS) yield image('unused-image', found.id);
    }
    yield { kind: 'temporary', subject: 'half-made files', remove: () => sources.removeTemporaries() };
    for (const id of sources.endedContainers()) {
      yield { kind: 'ended-log', subject: id, remove: async () => Number(await sources.dropLog(id)) };
    }
  }

  #tell(before: DiskUsage, done: ReadonlyMap<PressureKind, number>): void {
    const { policy, log, onEvent, clock, dataRoot } = this.#options;
    const after = this.usage();
    const percent = (share: number): string => `${Math.round(share * 100)}%`;
    const facts = {
      dataRoot,
      before: percent(before.share),
      after: percent(after.share),
      freedBytes: String(Math.max(0, Math.round((before.share - after.share) * before.sizeBytes))),
      ...Object.fromEntries([...done].map(([kind, count]) => [kind, String(count)])),
    };
    const words = { high: percent(policy.high), low: percent(policy.low), ...facts };
    if (after.share <= policy.low) log.info('the disk was filling up; unused things were removed', words);
    else log.warn('the disk is filling up, and nothing unused is left to be removed', words);
    onEvent({ type: 'daemon', action: 'disk-pressure', actorId: dataRoot, attributes: facts, timeMs: clock.now() });
  }
}
