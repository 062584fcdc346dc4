/** A bounded channel between publishers that may wait and one reader. */
export class Channel<T> {
  readonly #capacity: number;
  #items: T[] = [];
  #reader: (() => void) | undefined;
  #writers: (() => void)[] = [];
  #closed = false;
  #error: unknown;

  /** @param capacity items held at the most; writers wait beyond it. */
  constructor(capacity: number) {
    this.#capacity = capacity;
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** Resolves when the item is held; false when the channel is closed. */
  async write(item: T): Promise<boolean> {
    while (!this.#closed && this.#items.length >= this.#capacity) {
      await new Promise<void>((resolve) => this.#writers.push(resolve));
    }
    if (this.#closed) return false;
    this.#items.push(item);
    this.#wakeReader();
    return true;
  }

  /** Refuses further items; the reader gets those held, then `error` if one is given. */
  close(error?: unknown): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#error = error;
    this.#wakeReader();
    for (const writer of this.#writers.splice(0)) writer();
  }

  /** The next item, or undefined at the end. @throws the error given to `close`. */
  async read(): Promise<T | undefined> {
    for (;;) {
      const item = this.#items.shift();
      if (item !== undefined) {
        this.#writers.shift()?.();
        return item;
      }
      if (this.#closed) {
        if (this.#error !== undefined) throw this.#error;
        return undefined;
      }
      await new Promise<void>((resolve) => (this.#reader = resolve));
    }
  }

  #wakeReader(): void {
    const reader = this.#reader;
    this.#reader = undefined;
    reader?.();
  }
}
