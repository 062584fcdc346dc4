import type { Clock } from '../../base/index.ts';
import type { LogDisk, LogFile } from '../../raft/wal/disk.ts';
import { NodeDisk } from '../../raft/wal/node-disk.ts';

/** The real disk, but for a time it can be made to answer nothing: what is asked meanwhile is begun afterwards. */
export class StallingDisk extends NodeDisk implements LogDisk {
  readonly #clock: Clock;
  #untilMs = 0;

  constructor(dir: string, clock: Clock) {
    super(dir);
    this.#clock = clock;
  }

  stall(ms: number): void {
    this.#untilMs = this.#clock.monotonic() + ms;
  }

  #when(run: () => void): void {
    const leftMs = this.#untilMs - this.#clock.monotonic();
    if (leftMs <= 0) run();
    else this.#clock.after(leftMs, run);
  }

  override replaceLater(path: string, parts: readonly Uint8Array[], done: (error: unknown) => void): void {
    this.#when(() => super.replaceLater(path, parts, done));
  }

  override allocateLater(path: string, bytes: number, done: (error: unknown) => void): void {
    this.#when(() => super.allocateLater(path, bytes, done));
  }

  override open(path: string): LogFile {
    const file = super.open(path);
    return {
      write: (bytes, position) => file.write(bytes, position),
      writeLater: (bytes, position, done) => this.#when(() => file.writeLater(bytes, position, done)),
      close: () => file.close(),
    };
  }
}
