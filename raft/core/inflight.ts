/** Entries of the arrays that are done with before they are cut off. */
const DONE_MAX = 1024;

/** The appends on their way to one follower, oldest first: a window bounded in messages and bytes. */
export class Inflight {
  readonly #maxMessages: number;
  readonly #maxBytes: number;
  /** Last index, and bytes, of each. */
  #lastIndexes: number[] = [];
  #sizes: number[] = [];
  #done = 0;
  #bytes = 0;

  constructor(maxMessages: number, maxBytes: number) {
    this.#maxMessages = maxMessages;
    this.#maxBytes = maxBytes;
  }

  get count(): number {
    return this.#lastIndexes.length - this.#done;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** One append may go beyond the bound of bytes, so that a large entry gets through. */
  get full(): boolean {
    return this.count >= this.#maxMessages || this.#bytes >= this.#maxBytes;
  }

  add(lastIndex: number, bytes: number): void {
    this.#lastIndexes.push(lastIndex);
    this.#sizes.push(bytes);
    this.#bytes += bytes;
  }

  /** The follower holds everything up to `index`. */
  acknowledge(index: number): void {
    const indexes = this.#lastIndexes;
    while (this.#done < indexes.length && (indexes[this.#done] as number) <= index) {
      this.#bytes -= this.#sizes[this.#done++] as number;
    }
    if (this.#done === indexes.length) this.clear();
    else if (this.#done > DONE_MAX) {
      indexes.splice(0, this.#done);
      this.#sizes.splice(0, this.#done);
      this.#done = 0;
    }
  }

  clear(): void {
    this.#lastIndexes = [];
    this.#sizes = [];
    this.#done = 0;
    this.#bytes = 0;
  }
}
