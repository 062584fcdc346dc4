import type { LogDisk } from './disk.ts';
import type { LogKeyRing } from './keys.ts';
import { deleteDamaged, DROPPED_PATH, type Segment } from './segment.ts';
import { listSnapshots, snapshotKeyId as keyIdOf, snapshotPath, type SnapshotId } from './snapshot-file.ts';

export interface CleanerOptions {
  disk: LogDisk;
  keys: LogKeyRing | null;
  keepEntries: number;
  keepOldSnapshots: number;
}

/** The part of the appender's state that says what can go. */
interface LogExtent {
  segments: Segment[];
  marker: SnapshotId;
}

/** Deletes segments and snapshots that the log does not need any more, beside the writes, and reports unused keys. */
export class Cleaner {
  #options: CleanerOptions;
  /** Keys of the snapshot files; 0 stands for clear. */
  readonly #snapshotKeys = new Map<string, number>();
  readonly #doomed: Segment[] = [];
  #deleting = false;
  #stuck = false;
  #retained = '';
  #onIdle: (() => void) | null = null;

  constructor(options: CleanerOptions) {
    this.#options = options;
  }

  /** From the next snapshot on. */
  configure(keepEntries: number, keepOldSnapshots: number): void {
    this.#options = { ...this.#options, keepEntries, keepOldSnapshots };
  }

  /** The log was opened: its snapshot is the only one that counts. */
  opened(extent: LogExtent, snapshotKeyId: number): void {
    const { disk } = this.#options;
    if (extent.marker.index > 0) this.snapshotWritten(extent.marker, snapshotKeyId);
    if (this.#options.keepOldSnapshots > 0) {
      for (const id of listSnapshots(disk)) {
        const keyId = id.index < extent.marker.index ? keyIdOf(disk.read(snapshotPath(id))) : undefined;
        if (keyId !== undefined) this.snapshotWritten(id, keyId);
      }
    }
    this.#deleteSnapshots(extent.marker);
  }

  snapshotWritten(id: SnapshotId, keyId: number): void {
    this.#snapshotKeys.set(snapshotPath(id), keyId);
  }

  /** A snapshot that came too late. */
  superseded({ marker }: LogExtent, id: SnapshotId): void {
    if (snapshotPath(marker) === snapshotPath(id)) return;
    this.#forgetSnapshot(id);
  }

  /**
   * The log has a new snapshot.
   * @param replaced nothing before it counts any more, not even for slow followers.
   */
  covered(extent: LogExtent, replaced: boolean): void {
    const { keys, keepEntries } = this.#options;
    const { segments, marker } = extent;
    this.#deleteSnapshots(marker);
    const keyId = keys?.current()?.id ?? 0;
    while (segments.length > 1) {
      const [first] = segments;
      if (first === undefined) break;
      // What stands there under an older key is not worth keeping that key for.
      const keep = replaced || [...first.keyIds].some((id) => id !== keyId) ? 0 : keepEntries;
      if (!replaced && first.maxIndex > marker.index - keep) break;
      this.#doomed.push(first);
      segments.shift();
    }
    this.#deleteNext(extent);
  }

  #forgetSnapshot(id: SnapshotId): void {
    const path = snapshotPath(id);
    this.#options.disk.remove(path);
    this.#snapshotKeys.delete(path);
  }

  #deleteSnapshots(marker: SnapshotId): void {
    const { keys, keepOldSnapshots } = this.#options;
    const keyId = keys?.current()?.id ?? 0;
    let kept = 0;
    for (const id of listSnapshots(this.#options.disk)) {
      if (id.index === marker.index && id.term === marker.term) continue;
      // An old one is not worth keeping an old key for.
      const isFit = id.index < marker.index && this.#snapshotKeys.get(snapshotPath(id)) === keyId;
      if (isFit && kept++ < keepOldSnapshots) continue;
      this.#forgetSnapshot(id);
    }
  }

  /**
   * Deletes segments one by one. Each first gets a name that counts for nothing, which is durable by the time it is
   * deleted: so a crash neither leaves a gap nor brings a segment back whose key is forgotten.
   */
  #deleteNext(extent: LogExtent): void {
    if (this.#deleting) return;
    const next = this.#doomed.shift();
    if (next === undefined) {
      this.#retain(extent);
      this.#onIdle?.();
      return;
    }
    this.#deleting = true;
    const { disk } = this.#options;
    disk.renameLater(next.path, DROPPED_PATH, (error) => {
      this.#deleting = false;
      if (error === null || error === undefined) disk.remove(DROPPED_PATH);
      else {
        // Covered segments do no harm; they are found again when the log is opened anew, and so must their keys be.
        this.#stuck = true;
        this.#doomed.length = 0;
      }
      this.#deleteNext(extent);
    });
  }

  #retain({ segments }: LogExtent): void {
    const { keys, disk } = this.#options;
    if (keys === null || this.#stuck) return;
    const ids = new Set<number>([keys.current()?.id ?? 0, ...this.#snapshotKeys.values()]);
    for (const segment of segments) for (const id of segment.keyIds) ids.add(id);
    const text = [...ids].sort((a, b) => a - b).join();
    if (text === this.#retained) return;
    // Damaged files that were set aside stand under keys that are forgotten now, or in clear.
    if (this.#retained !== '') deleteDamaged(disk);
    this.#retained = text;
    keys.retain(ids);
  }

  /** Calls back when nothing is under way. */
  close(done: () => void): void {
    if (this.#deleting) this.#onIdle = done;
    else done();
  }
}
