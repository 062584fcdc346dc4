import { BoundedQueue } from './queue.ts';

/** Events a subscriber may lag behind before it is cut off. */
export const WATCH_BUFFER_EVENTS = 16_384;

/** One subscriber's view of a fan-out. Iterate it; `overflowed` tells that it was cut off for being slow. */
export interface Subscription<T> extends AsyncIterable<T> {
  readonly overflowed: boolean;
  /** Items held that are ready now, without waiting. */
  drain(): T[];
  close(): void;
}

class Subscriber<T> implements Subscription<T> {
  readonly queue: BoundedQueue<T>;
  overflowed = false;
  readonly #onClose: (self: Subscriber<T>) => void;

  constructor(capacity: number, onClose: (self: Subscriber<T>) => void) {
    this.queue = new BoundedQueue<T>(capacity);
    this.#onClose = onClose;
  }

  drain(): T[] {
    return this.queue.drain();
  }

  close(): void {
    this.queue.close();
    this.#onClose(this);
  }

  [Symbol.asyncIterator](): AsyncIterator<T> {
    return this.queue[Symbol.asyncIterator]();
  }
}

/**
 * Fan-out of events to subscribers with bounded buffers. A subscriber that falls behind is closed and marked
 * `overflowed`: it must read the state anew; the publisher is never slowed.
 */
export class Watch<T> {
  #subscribers = new Set<Subscriber<T>>();

  publish(event: T): void {
    for (const subscriber of this.#subscribers) {
      if (!subscriber.queue.push(event)) {
        subscriber.overflowed = true;
        subscriber.close();
      }
    }
  }

  /** @param capacity events held for this subscriber at the most. */
  subscribe(capacity = WATCH_BUFFER_EVENTS): Subscription<T> {
    const subscriber = new Subscriber<T>(capacity, (self) => this.#subscribers.delete(self));
    this.#subscribers.add(subscriber);
    return subscriber;
  }

  get subscriberCount(): number {
    return this.#subscribers.size;
  }

  close(): void {
    for (const subscriber of this.#subscribers) subscriber.close();
  }
}
