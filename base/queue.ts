import { assert } from './assert.ts';

/** A first-in first-out queue with a bound, for one producer side that can be refused and one consumer. */
export class BoundedQueue<T> {
  readonly #capacity: number;
  #items: T[] = [];
  #waiters: ((result: IteratorResult<T, undefined>) => void)[] = [];
  #closed = false;

  /** @param capacity largest number of items held. */
  constructor(capacity: number) {
    assert(Number.isSafeInteger(capacity) && capacity > 0, 'a queue has a positive capacity');
    this.#capacity = capacity;
  }

  get length(): number {
    return this.#items.length;
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** Adds an item; false when the queue is full or closed (the caller decides what that means). */
  push(item: T): boolean {
    if (this.#closed) return false;
    const waiter = this.#waiters.shift();
    if (waiter !== undefined) {
      waiter({ value: item, done: false });
      return true;
    }
    if (this.#items.length >= this.#capacity) return false;
    this.#items.push(item);
    return true;
  }

  /** The next item, waiting for one; done once the queue is closed and empty. */
  next(): Promise<IteratorResult<T, undefined>> {
    if (this.#items.length > 0) return Promise.resolve({ value: this.#items.shift() as T, done: false });
    if (this.#closed) return Promise.resolve({ value: undefined, done: true });
    return new Promise((resolve) => this.#waiters.push(resolve));
  }

  /** All items held now, at most `max` of them, without waiting. */
  drain(max = this.#items.length): T[] {
    return this.#items.splice(0, max);
  }

  /** Refuses further items; what is held can still be taken. */
  close(): void {
    this.#closed = true;
    for (const waiter of this.#waiters.splice(0)) waiter({ value: undefined, done: true });
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<T, void, void> {
    for (;;) {
      const result = await this.next();
      if (result.done === true) return;
      yield result.value;
    }
  }
}
