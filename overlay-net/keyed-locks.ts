/** Runs jobs under the same key one after the other. */
export class KeyedLocks {
  readonly #locks = new Map<string, Promise<unknown>>();

  /** Runs a job after those that were asked for before under its key, however they ended. */
  async run<T>(key: string, job: () => Promise<T>): Promise<T> {
    const before = this.#locks.get(key) ?? Promise.resolve();
    const mine = before.catch(() => undefined).then(job);
    this.#locks.set(key, mine);
    try {
      return await mine;
    } finally {
      if (this.#locks.get(key) === mine) this.#locks.delete(key);
    }
  }
}
