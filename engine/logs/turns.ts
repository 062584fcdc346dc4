/**
 * Work that must not come in one piece takes turns: one in each round of the event loop, in the order of asking, so that
 * many readers of busy logs hold up nothing else for longer than one block takes.
 */
class Turns {
  readonly #waiting: (() => void)[] = [];
  #set = false;

  next(): Promise<void> {
    return new Promise((resolve) => {
      this.#waiting.push(resolve);
      this.#arm();
    });
  }

  #arm(): void {
    if (this.#set || this.#waiting.length === 0) return;
    this.#set = true;
    setImmediate(() => {
      this.#set = false;
      this.#waiting.shift()?.();
      this.#arm();
    });
  }
}

export const turns = new Turns();
