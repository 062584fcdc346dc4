import { closeSync, openSync } from 'node:fs';
import { isNamespace } from '../kernel/namespace.ts';
import type { Kernel, NamespaceState, Op } from '../kernel/ops.ts';
import { NamespaceWatch } from './namespace-watch.ts';

/** A text that only asks. */
function isQuestion(text: string): boolean {
  return text.split('\n').every((line) => line.trim() === '' || line.startsWith('list '));
}

/** A kernel with watches on namespaces: its own nft transactions are told from others', and watches end in time. */
export class WatchedKernel implements Kernel {
  readonly #kernel: Kernel;
  readonly #watches = new Map<string | null, NamespaceWatch>();
  readonly nftBatch?: NonNullable<Kernel['nftBatch']>;

  constructor(kernel: Kernel) {
    this.#kernel = kernel;
    const { nftBatch } = kernel;
    if (nftBatch === undefined) return;
    this.nftBatch = (namespace, messages, deletes) =>
      this.#writing(namespace, () => nftBatch(namespace, messages, deletes));
  }

  /** The watch of a namespace, opened at first use. @throws SystemCallError when there is no such namespace */
  watch(namespace: string | null): NamespaceWatch {
    let watch = this.#watches.get(namespace);
    if (watch === undefined) this.#watches.set(namespace, (watch = new NamespaceWatch(namespace)));
    return watch;
  }

  /**
   * Binds namespaces to their paths again that others unmounted (what we remove ourselves is not watched any more): what is
   * in them never ended. Returns the paths; one that cannot be bound is left out.
   */
  restoreNamespaces(): string[] {
    const restored: string[] = [];
    for (const [path, watch] of this.#watches) {
      if (path === null || isNamespace(path)) continue;
      try {
        closeSync(openSync(path, 'a', 0o644));
        watch.bindTo(path);
        restored.push(path);
      } catch {
        // Its directory is gone too: the whole of it is being taken away.
      }
    }
    return restored;
  }

  createNamespace(path: string, existing?: string): Promise<void> {
    return this.#kernel.createNamespace(path, existing);
  }

  removeNamespace(path: string): void {
    this.unwatch(path);
    this.#kernel.removeNamespace(path);
  }

  apply(namespace: string | null, ops: readonly Op[]): Promise<void> {
    return this.#kernel.apply(namespace, ops);
  }

  async nft(namespace: string | null, text: string, urgent?: boolean): Promise<string> {
    if (isQuestion(text)) return this.#kernel.nft(namespace, text, urgent);
    return this.#writing(namespace, () => this.#kernel.nft(namespace, text, urgent));
  }

  /** Runs an own transaction of nft. */
  async #writing<T>(namespace: string | null, write: () => Promise<T>): Promise<T> {
    const watch = this.watch(namespace);
    watch.writeBegins();
    let done = false;
    try {
      const output = await write();
      done = true;
      return output;
    } finally {
      watch.writeEnds(done);
    }
  }

  state(namespace: string | null): Promise<NamespaceState> {
    return this.#kernel.state(namespace);
  }

  forgetFlows(namespace: string | null, targets: readonly string[]): Promise<number> {
    return this.#kernel.forgetFlows(namespace, targets);
  }

  flowTargets(namespace: string | null): Promise<Set<string>> {
    return this.#kernel.flowTargets(namespace);
  }

  /** Lets go of all watches; the kernel stays as it is. */
  close(): void {
    for (const namespace of [...this.#watches.keys()]) this.unwatch(namespace);
  }

  /** Lets go of a namespace that is gone. */
  unwatch(namespace: string | null): void {
    this.#watches.get(namespace)?.close();
    this.#watches.delete(namespace);
  }
}
